"""Successive halving: run all candidates briefly, the better half twice as long, and so on.

The budget equals that of a single selection: the steps of `runs` short runs of
`short_epochs`.

Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipig.jobs.batches import Execute, Tick
from clipig.jobs.folder import RunRecord
from clipig.jobs.stages import Ranking, Tell, batches_of, in_order, make_rest, short_jobs
from clipig.session import Session


@dataclass(frozen=True)
class Rung:
    """A rung: `runs` runs are rated after `steps` steps."""

    runs: int
    steps: int


def rungs(runs: int, top: int, short_epochs: int) -> list[Rung]:
    """Compute the ladder for a budget of `runs * short_epochs` run-steps.

    The last rung has at least `top` runs and uses the remainder of rounding. The ladder
    never exceeds the budget, and has fewer rungs if the budget is too small for all.
    """
    counts = [runs]
    while counts[-1] >= 2 * top and counts[-1] > 1:
        counts.append(-(-counts[-1] // 2))
    while (first := runs * short_epochs / _cost(counts)) < 1:
        counts.pop()
    found: list[Rung] = []
    spent = 0
    for k, count in enumerate(counts):
        before = found[-1].steps if found else 0
        steps = int(first * 2**k + 1e-9)
        if k == len(counts) - 1:
            steps = max(steps, before + (runs * short_epochs - spent) // count)
        spent += count * (steps - before)
        found.append(Rung(count, steps))
    return found


def _cost(counts: list[int]) -> float:
    """Run-steps of a ladder whose first rung does 1 step and rung k another `2**(k-1)`."""
    return counts[0] + sum(count * 2.0 ** (k - 1) for k, count in enumerate(counts) if k)


def climb(
    session: Session, ranking: Ranking, run: Execute, tell: Tell | None, tick: Tick | None
) -> tuple[dict[str, RunRecord], list[RunRecord], dict[str, int]]:
    """Run all rungs of a ranking.

    Returns:
        Records by name, all records in order (later rungs first), and steps by name.
    """
    settings, folder = ranking.settings, ranking.folder
    ladder = rungs(len(settings.numbers), settings.top, settings.short_epochs)
    jobs = short_jobs(ranking)
    rows: dict[str, RunRecord] = {}
    steps: dict[str, int] = {}
    ordered: list[RunRecord] = []
    tail: list[RunRecord] = []
    for number, rung in enumerate(ladder):
        stage, last = f"rung-{number}", number == len(ladder) - 1
        done = folder.rows(stage)
        states = None
        if number and any(job.name not in done for job in jobs):
            states = folder.load_states(f"rung-{number - 1}")
        batches = batches_of(jobs, ranking, rung.steps, states, keep=not last)
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
    """Epochs of a run that reaches the last rung; the short recipe has as many epochs."""
    return rungs(runs, top, short_epochs)[-1].steps
