"""Many short runs, few of them finished: the article's ranking as a function.

    ranking = Ranking(settings, short, final, folder)
    ranked = rank(session, ranking)

Two stages (short runs, finals), or several rungs of runs before the finals
(`halving`). Everything is written to the folder batch by batch, and a call on
a folder that has some of it already makes only the rest.
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
    """What a ranking found: rows by name, `best` and `worst` are names in order."""

    short: dict[str, RunRecord]
    final: dict[str, RunRecord]
    best: tuple[str, ...]
    worst: tuple[str, ...]
    steps: dict[str, int]
    """after how many steps each short picture was rated"""


def choose(
    ranking: Ranking, ordered: Sequence[RunRecord]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The best and the worst of rows that are in order; nobody is both."""
    names = [row.name for row in ordered]
    best = names[: ranking.settings.top]
    rest = names[len(best) :]
    worst = rest[len(rest) - min(ranking.settings.bottom, len(rest)) :]
    return tuple(best), tuple(reversed(worst))


def rank(
    session: Session, ranking: Ranking, run: Execute = execute,
    tell: Tell | None = None, tick: Tick | None = None,
) -> Ranked:
    """Make what is missing of a ranking and say how it ended."""
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
