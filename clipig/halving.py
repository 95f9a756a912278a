"""Successive halving: all runs a little, the better half twice as long, and so on.

Jamieson and Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", 2016. The budget is that of one cut: as many view
evaluations as `runs` short runs of `short_epochs` take.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipig.batches import Tick
from clipig.folders import Row
from clipig.ranking import (
    Execute,
    Ranking,
    Tell,
    batches_of,
    in_order,
    make_rest,
    short_jobs,
)
from clipig.session import Session


@dataclass(frozen=True)
class Rung:
    """`runs` runs that are at `steps` steps when they are rated."""

    runs: int
    steps: int


def rungs(runs: int, top: int, short_epochs: int) -> list[Rung]:
    """The ladder for a budget of `runs * short_epochs` steps of runs.

    The last rung has at least `top` runs. Steps are whole, rounded down, so
    that the budget is never exceeded (but every rung makes at least one step).
    """
    counts = [runs]
    while counts[-1] >= 2 * top:
        counts.append(-(-counts[-1] // 2))
    # the first rung makes e steps, rung k another e * 2**(k-1)
    shares = [1.0] + [2.0 ** (k - 1) for k in range(1, len(counts))]
    whole = sum(count * share for count, share in zip(counts, shares, strict=True))
    first = runs * short_epochs / whole
    found: list[Rung] = []
    spent = 0
    for k, count in enumerate(counts):
        before = found[-1].steps if found else 0
        steps = max(before + 1, int(first * 2**k + 1e-9))
        if k == len(counts) - 1:  # what rounding left over goes to the last rung
            steps = max(steps, before + (runs * short_epochs - spent) // count)
        spent += count * (steps - before)
        found.append(Rung(count, steps))
    return found


def climb(
    session: Session, ranking: Ranking, run: Execute, tell: Tell | None, tick: Tick | None
) -> tuple[dict[str, Row], list[Row], dict[str, int]]:
    """Rows by name, the order of all runs (those that came further first), steps of each."""
    settings, folder = ranking.settings, ranking.folder
    ladder = rungs(len(settings.numbers), settings.top, settings.short_epochs)
    jobs = short_jobs(ranking)
    rows: dict[str, Row] = {}
    steps: dict[str, int] = {}
    ordered: list[Row] = []
    tail: list[Row] = []
    for number, rung in enumerate(ladder):
        stage, last = f"rung-{number}", number == len(ladder) - 1
        done = folder.rows(stage)
        states = None
        if number and any(job.name not in done for job in jobs):
            states = folder.load_states(f"rung-{number - 1}")
        batches = batches_of(session, jobs, ranking, rung.steps, states, keep=not last)
        if tell is not None:
            before = ladder[number - 1].steps if number else 0
            tell(f"rung {number + 1} of {len(ladder)}: {rung.runs} runs to epoch {rung.steps}",
                 len(jobs) * (rung.steps - before))
        found = make_rest(session, folder, stage, batches, run, tick)
        if number:
            folder.drop_states(f"rung-{number - 1}")
        rows.update(found)
        steps.update(dict.fromkeys(found, rung.steps))
        ordered = in_order(ranking, list(found.values()))
        if last:
            break
        keep = {row.name for row in ordered[: ladder[number + 1].runs]}
        tail = ordered[ladder[number + 1].runs :] + tail
        jobs = [job for job in jobs if job.name in keep]
        if not jobs:
            break
    return rows, ordered + tail, steps


def final_epochs(runs: int, top: int, short_epochs: int) -> int:
    """The epochs of a run that reaches the last rung: those of the short recipe."""
    return rungs(runs, top, short_epochs)[-1].steps
