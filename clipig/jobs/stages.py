"""Stages of a ranking as batches: jobs of short and final runs, and the order of their records.

`ranking` and `halving` share this module: settings and recipes, their jobs, and the folder
with the results of each batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from clipig.config.dump import dump
from clipig.config.load import load
from clipig.config.parts import Init
from clipig.config.schema import Experiment
from clipig.engine.state import State
from clipig.errors import OutputError
from clipig.files import atomic_write
from clipig.jobs.batches import Batch, Execute, Job, Scoring, Tick, chunks, execute
from clipig.jobs.folder import Folder, RunRecord
from clipig.rng import derive_seed
from clipig.session import Session
from clipig.values.numbers import constant

Tell = Callable[[str, int], None]
"""Called at the beginning of a stage with its name and its number of run-steps."""

SHORT, FINAL = "short", "final"


@dataclass(frozen=True)
class RankSettings:
    """Settings of a ranking, besides its two recipes.

    `only` lists run numbers to run instead of all. `group` is the number of runs per batch.
    `by` is the deciding score (`fresh` or `held-out`). `weights` holds the checksums of the
    models, which a resume compares.
    """

    name: str
    prompt: str
    seed: int
    runs: int = 512
    top: int = 6
    bottom: int = 2
    short_epochs: int = 20
    final_epochs: int = 300
    restart: bool = False
    views: int = 50
    judge: str | None = None
    by: str = "fresh"
    halving: bool = False
    only: tuple[int, ...] = ()
    group: int = 16
    weights: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Run numbers of the ranking."""
        return self.only or tuple(range(self.runs))


@dataclass(frozen=True)
class Ranking:
    """Settings, recipes of the short and of the final runs, and the output folder."""

    settings: RankSettings
    short: Experiment
    final: Experiment
    folder: Folder

    @property
    def scoring(self) -> Scoring:
        """Rates short and final images alike, over views as at the end of the final recipe."""
        return Scoring(self.final, self.settings.views, self.settings.judge)


def run_name(number: int) -> str:
    """Name of a run in file names."""
    return f"{number:04d}"


def run_seed(seed: int, number: int) -> int:
    """Seed of a run, derived as by `clipig run` for `runs`."""
    return seed if number == 0 else derive_seed(seed, number)


def save_ranking(ranking: Ranking) -> None:
    """Write settings and recipes, which suffice for a resume. Raises `OutputError`."""
    root = ranking.folder.root
    atomic_write(root / "short.yaml", dump(ranking.short, "The short runs of a ranking."))
    atomic_write(root / "final.yaml", dump(ranking.final, "The final runs of a ranking."))
    atomic_write(root / "settings.json", json.dumps(asdict(ranking.settings), indent=2) + "\n")


def load_ranking(root: Path) -> Ranking:
    """Load the ranking that was begun in a folder. Raises `OutputError` if there is none."""
    path = root / "settings.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(RankSettings)}
        settings = RankSettings(**{k: v for k, v in raw.items() if k in known} | {
            "only": tuple(raw["only"])
        })
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise OutputError(f"{root}: no ranking that could be resumed ({fault})") from fault
    return Ranking(
        settings, load(root / "short.yaml"), load(root / "final.yaml"), Folder(root)
    )


def short_jobs(ranking: Ranking) -> list[Job]:
    """Jobs of the short runs, each with its seed."""
    return [
        Job(run_name(n), ranking.short.model_copy(update={
            "seed": run_seed(ranking.settings.seed, n), "runs": 1,
        }))
        for n in ranking.settings.numbers
    ]


def final_job(ranking: Ranking, row: RunRecord) -> Job:
    """Job of a candidate's final run, from its image, or with `restart` from its seed."""
    update: dict[str, object] = {"seed": row.seed, "runs": 1}
    if not ranking.settings.restart:
        picture = ranking.folder.root / row.picture
        update["init"] = from_picture(str(picture))
    return Job(row.name, ranking.final.model_copy(update=update))


def from_picture(path: str) -> Init:
    """Init from an image without changing its colours."""
    return Init(mean=constant(0.0, 0.0, 0.0), std=constant(1.0, 1.0, 1.0), image=path)


def make_rest(
    session: Session, folder: Folder, stage: str, batches: Sequence[Batch],
    run: Execute = execute, tick: Tick | None = None,
) -> dict[str, RunRecord]:
    """Run the incomplete batches of a stage; returns the records of all its jobs by name."""
    done = folder.rows(stage)
    missing = [b for b in batches if any(job.name not in done for job in b.jobs)]
    if tick is not None:
        tick(sum(b.steps for b in batches) - sum(b.steps for b in missing))
    for batch, made in run(session, missing, tick):
        done.update((row.name, row) for row in folder.write(stage, batch, made))
    wanted = [job.name for b in batches for job in b.jobs]
    return {name: done[name] for name in wanted}


def batches_of(
    jobs: Sequence[Job], ranking: Ranking, until: int | None = None,
    states: dict[str, State] | None = None, keep: bool = False,
) -> list[Batch]:
    """Divide jobs into batches whose names do not depend on which jobs are finished."""
    parts = chunks(jobs, ranking.settings.group)
    return [
        Batch(f"{i:05d}", part, ranking.scoring, until,
              tuple(states[job.name] for job in part) if states else (), keep)
        for i, part in enumerate(parts)
    ]


def score_of(ranking: Ranking, row: RunRecord) -> float | None:
    """The deciding score of a record, None if it is missing."""
    return row.held_out if ranking.settings.by == "held-out" else row.fresh


def in_order(ranking: Ranking, rows: Sequence[RunRecord]) -> list[RunRecord]:
    """Records with a score, best first."""
    scored = [(score, row) for row in rows if (score := score_of(ranking, row)) is not None]
    return [row for _, row in sorted(scored, key=lambda pair: (-pair[0], pair[1].name))]
