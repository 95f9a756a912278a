"""Batches of runs, shared by `rank`, `grid` and their Ray workers.

A `Batch` is plain data, so any process or machine can run it: `make` computes its images and
scores without writing a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipig.config.parts import Model
from clipig.config.runs import row_keys
from clipig.config.schema import Experiment
from clipig.engine.device import pick_device
from clipig.engine.events import Finished, Step
from clipig.engine.state import State, split_state
from clipig.errors import ClipigError, ConfigError, Problem, UsageError
from clipig.jobs.fresh_views import Look, describe_look, fresh_similarity
from clipig.ops.canvases import Picture
from clipig.outputs.pictures import describe
from clipig.plan.clock import epochs_of
from clipig.plan.grouping import split
from clipig.session import Group, Session

Tick = Callable[[int], None]
"""Called with the number of run-steps done since the last call."""

ON_CPU, ON_GPU = 16, 64
"""Runs per batch. On a CPU a step costs the same per run for 2 to 32 runs
(benchmarks/batch_size.py), so the size only decides how much work an interruption loses."""


@dataclass(frozen=True)
class Job:
    """One run: a name that is unique in its folder, and a settled experiment.

    `key` is stored with the result and shows later whether the job has changed.
    """

    name: str
    experiment: Experiment
    key: str = ""


@dataclass(frozen=True)
class Scoring:
    """How results are rated.

    recipe  rate over the views of this experiment's last epoch; None: of the run's own
    views   number of fresh views
    judge   name of the held-out encoder, None for no held-out score
    """

    recipe: Experiment | None = None
    views: int = 50
    judge: str | None = None


@dataclass(frozen=True)
class Batch:
    """Jobs that run together.

    until   stop after this many steps; None: at the end
    states  one resume state per job, empty for new runs
    keep    return the states at the end
    """

    name: str
    jobs: tuple[Job, ...]
    scoring: Scoring = Scoring()
    until: int | None = None
    states: tuple[State, ...] = ()
    keep: bool = False

    @property
    def steps(self) -> int:
        """Number of optimizer steps still to do, summed over the runs."""
        done = self.states[0].step if self.states else 0
        return len(self.jobs) * ((self.until or _length(self.jobs[0].experiment)) - done)


@dataclass(frozen=True)
class Made:
    """Result of one job. Similarities are 100 * cosine.

    picture  uint8 `[3, H, W]` as written to the PNG; None if the job failed
    last     similarity in the last step, over the views that guided it
    fresh    similarity over fresh views
    held_out similarity over fresh views, by the judge
    error    reason for a missing score, else ""
    """

    name: str
    seed: int
    picture: Tensor | None = None
    last: float | None = None
    fresh: float | None = None
    held_out: float | None = None
    look: Look | None = None
    seconds: float = 0.0
    error: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    key: str = ""


Execute = Callable[
    [Session, Sequence[Batch], Tick | None], Iterator[tuple[Batch, list[Made]]]
]
"""Runs batches, in this process (`execute`) or as Ray tasks."""


def group_size(device: str) -> int:
    """Default number of runs per batch on a device."""
    return ON_CPU if pick_device(device).type == "cpu" else ON_GPU


NO_ROW = (
    "found `row`, which these runs do not have; expected the key `row` beside it "
    "(`--set row=.5`, or in a grid an axis `row: [0, .5, 1]`)"
)


def settle(session: Session, experiment: Experiment) -> Experiment:
    """Settle an experiment as one run, with filled prompts and resolved model names.

    The seed is not changed.

    Raises:
        ConfigError: The config is invalid, or a formula uses `row`, which has no value.
        EncoderError: A model is unknown.
    """
    if experiment.row is None and (keys := row_keys(experiment)):
        raise ConfigError([Problem("", 0, 0, key, NO_ROW) for key in keys])
    one = session.settle(experiment.model_copy(update={"runs": 1}))[0]
    named = [
        model.model_copy(update={"name": info.name})
        for model, info in zip(one.model, session.infos(one), strict=True)
    ]
    own = {before.name: after.name for before, after in zip(one.model, named, strict=True)}
    targets = [
        t if t.models is None else t.model_copy(update={"models": [own[n] for n in t.models]})
        for t in one.targets
    ]
    update = {"seed": experiment.seed, "model": named, "targets": targets}
    return one.model_copy(update=update)


def refuse_guide(session: Session, judge: str, experiment: Experiment) -> None:
    """Refuse a judge that also guides, as its score would not be held out.

    Raises:
        UsageError: The judge is one of the experiment's encoders.
    """
    own = {info.checksum or info.name for info in session.infos(experiment)}
    info = session.infos(experiment.model_copy(update={"model": [Model(name=judge)]}))[0]
    if (info.checksum or info.name) in own:
        raise UsageError(
            f"--judge {judge}: this model guides the runs; a held-out score needs another one"
        )


def chunks(jobs: Sequence[Job], size: int) -> list[tuple[Job, ...]]:
    """Divide jobs into tuples that can share a batch, of at most `size` jobs."""
    found = []
    for places in split([job.experiment for job in jobs]):
        rows = [jobs[i] for i in places]
        found += [tuple(rows[i : i + size]) for i in range(0, len(rows), size)]
    return found


def _length(experiment: Experiment) -> int:
    start, epochs = epochs_of(experiment)
    return epochs - start


def make(session: Session, batch: Batch, tick: Tick | None = None) -> list[Made]:
    """Run the jobs of a batch. A failed job is reported in its `Made`, without stopping others."""
    try:
        return _make(session, batch, tick)
    except (ClipigError, RuntimeError, ValueError, OSError) as fault:
        if len(batch.jobs) == 1:
            job = batch.jobs[0]
            reason = str(fault) or type(fault).__name__
            return [Made(job.name, job.experiment.seed or 0, error=reason, key=job.key)]
    found = []
    for i, job in enumerate(batch.jobs):  # run each alone to find the failing job
        states = batch.states[i : i + 1]
        alone = Batch(batch.name, (job,), batch.scoring, batch.until, states, batch.keep)
        found += make(session, alone)
    return found


def _make(session: Session, batch: Batch, tick: Tick | None) -> list[Made]:
    found: dict[int, Made] = {}
    began = time.monotonic()
    for group, event in _ends(session, batch, tick):
        picture = event.picture() if isinstance(event, Step) else event.picture
        epochs = event.epoch + 1 if isinstance(event, Step) else event.epochs
        pixels = _pixels(picture)
        fresh, held_out = _scores(session, batch, group, pixels)
        states = split_state(event.state()) if batch.keep else [None] * len(group.rows)
        seconds = (time.monotonic() - began) / len(group.rows)
        for i, row in enumerate(group.rows):
            job = batch.jobs[row]
            alive = bool(event.alive[i])
            fault = "" if alive else "diverged; the picture is the last good one"
            last = float(event.similarity[i])
            texts = describe(group, i, last, epochs, seconds)
            found[row] = Made(
                job.name, group.plan.seeds[i], pixels[i],
                last if alive else None, fresh[i] if alive else None,
                held_out[i] if alive else None, describe_look(pixels[i].float() / 255), seconds,
                fault, texts, states[i], job.key,
            )
        began = time.monotonic()
    return [found[row] for row in range(len(batch.jobs))]


def _pixels(picture: Picture) -> Tensor:
    rgb = torch.nan_to_num(picture.rgb.detach()).clamp(0, 1).cpu()
    return (rgb * 255 + 0.5).to(torch.uint8)


def _scores(
    session: Session, batch: Batch, group: Group, pixels: Tensor
) -> tuple[Sequence[float], Sequence[float | None]]:
    """Similarities of images over fresh views, by the guiding encoders and by the judge."""
    scoring = batch.scoring
    own = [batch.jobs[row].experiment for row in group.rows]
    seen = own if scoring.recipe is None else [
        scoring.recipe.model_copy(update={"seed": e.seed}) for e in own
    ]
    rgb = pixels.float() / 255
    fresh = fresh_similarity(session, seen, rgb, scoring.views)
    if scoring.judge is None:
        return fresh, [None] * len(own)
    return fresh, fresh_similarity(session, seen, rgb, scoring.views, scoring.judge)


def _ends(
    session: Session, batch: Batch, tick: Tick | None
) -> Iterator[tuple[Group, Step | Finished]]:
    """Run a batch; yield each group with the event at which its images are rated."""
    experiments = [job.experiment for job in batch.jobs]
    for group, event in session.render(experiments, batch.states, batch.until):
        if isinstance(event, Step):
            if tick is not None:
                tick(len(group.rows))
            if batch.until == event.step < group.plan.steps:
                yield group, event
        elif isinstance(event, Finished):
            yield group, event


def execute(
    session: Session, batches: Sequence[Batch], tick: Tick | None = None
) -> Iterator[tuple[Batch, list[Made]]]:
    """Run batches one after the other in this process."""
    for batch in batches:
        yield batch, make(session, batch, tick)
