"""The article's ranking as a function: many short runs, of which the best are finished.

    ranking = Ranking(settings, short, final, folder)
    ranked = rank(session, ranking)

A ranking has two stages (short runs, finals), or several rungs before the finals
(`halving`). Results are written to the folder batch by batch; a later call with the same
folder runs only the missing batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipig.jobs.batches import Execute, Tick, execute
from clipig.jobs.folder import RunRecord
from clipig.jobs.halving import climb
from clipig.jobs.stages import (
    FINAL,
    SHORT,
    Ranking,
    Tell,
    batches_of,
    final_job,
    in_order,
    make_rest,
    short_jobs,
)
from clipig.session import Session


@dataclass(frozen=True)
class Ranked:
    """Result of a ranking: records by name; `best` and `worst` hold names in order."""

    short: dict[str, RunRecord]
    final: dict[str, RunRecord]
    best: tuple[str, ...]
    worst: tuple[str, ...]
    steps: dict[str, int]
    """number of steps after which each short run was rated"""


def choose(
    ranking: Ranking, ordered: Sequence[RunRecord]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the best and of the worst of ordered records, without overlap."""
    names = [row.name for row in ordered]
    best = names[: ranking.settings.top]
    rest = names[len(best) :]
    worst = rest[len(rest) - min(ranking.settings.bottom, len(rest)) :]
    return tuple(best), tuple(reversed(worst))


def rank(
    session: Session, ranking: Ranking, run: Execute = execute,
    tell: Tell | None = None, tick: Tick | None = None,
) -> Ranked:
    """Run the missing batches of a ranking.

    Args:
        session: Loads the encoders.
        ranking: Settings, recipes and folder.
        run: Runs batches, in this process or on a cluster.
        tell: Called at the beginning of each stage.
        tick: Called with the number of further run-steps done.
    """
    if ranking.settings.halving:
        short, ordered, steps = climb(session, ranking, run, tell, tick)
    else:
        batches = batches_of(short_jobs(ranking), ranking)
        if tell is not None:
            tell("short runs", sum(b.steps for b in batches))
        short = make_rest(session, ranking.folder, SHORT, batches, run, tick)
        ordered = in_order(ranking, list(short.values()))
        steps = dict.fromkeys(short, ranking.settings.short_epochs)
    best, worst = choose(ranking, ordered)
    jobs = [final_job(ranking, short[name]) for name in (*best, *worst)]
    final: dict[str, RunRecord] = {}
    if jobs:
        batches = batches_of(jobs, ranking)
        if tell is not None:
            tell("final runs", sum(b.steps for b in batches))
        final = make_rest(session, ranking.folder, FINAL, batches, run, tick)
    return Ranked(short, final, best, worst, steps)
