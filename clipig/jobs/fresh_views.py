"""Rates images by their similarity over fresh views, which no optimization has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipig.config.parts import Init, Model
from clipig.config.schema import Experiment
from clipig.engine.program import Program
from clipig.errors import ConfigError, Problem
from clipig.ops.canvases import Canvas, Picture
from clipig.ops.kernels.sampling import Shape, resize
from clipig.plan.plan import Plan
from clipig.rng import Draw, derive_seed
from clipig.session import Session
from clipig.values.numbers import constant

PURPOSE = "fresh views"
"""Enters the seeds of fresh views, so that no run uses the same seeds."""
_AT_ONCE = 640


class Still(Canvas):
    """Adapts finished images to the canvas interface that a program expects."""

    def __init__(self, rgb: Tensor):
        self.rgb = rgb
        self.parameters, self.buffers = {}, {}

    def picture(self, t: Tensor | float) -> Picture:
        """The images, at every time."""
        return Picture(self.rgb)

    def resize(self, size: Shape, mode: str) -> None:
        """Not supported. Raises `TypeError`."""
        raise TypeError("a still picture is not resized")

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        """Not supported. Raises `TypeError`."""
        raise TypeError("a still picture has no optimizer")


def fresh_similarity(
    session: Session,
    experiments: Sequence[Experiment],
    pictures: Tensor,
    views: int = 50,
    model: str | None = None,
    purpose: str = PURPOSE,
) -> list[float]:
    """Mean similarity (100 * cosine) of images over fresh views.

    The views are drawn as in the experiment's last epoch, from seeds that no run uses; equal
    seeds give equal views for every image. Only features with a positive weight count.

    Args:
        session: Loads the encoders.
        experiments: One per image, equal in structure, with seeds.
        pictures: `[R, 3, H, W]` in 0..1.
        views: Approximate number of views per image.
        model: A judge that replaces the encoders of the experiments.
        purpose: Enters the seeds of the views.

    Raises:
        ConfigError: No feature has a positive weight.
    """
    judged = [_onlooker(e, model) for e in experiments]
    epoch, count = last_look(session, judged[0])
    rounds = max(1, -(-views // count))
    sums = [0.0] * len(judged)
    jobs = [(row, turn) for turn in range(rounds) for row in range(len(judged))]
    chunk = max(1, _AT_ONCE // count)
    for i in range(0, len(jobs), chunk):
        part = jobs[i : i + chunk]
        chosen = [_turn(judged[row], epoch, purpose, turn) for row, turn in part]
        found = _look(session, chosen, pictures[[row for row, _ in part]])
        for (row, _), value in zip(part, found, strict=True):
            sums[row] += value / rounds
    return sums


def _onlooker(experiment: Experiment, model: str | None) -> Experiment:
    """Reduce an experiment to the parts needed to rate a finished image."""
    whole = [t for t in experiment.targets if t.look_at == "picture" and t.active and t.features]
    kept = whole or [t for t in experiment.targets if t.active and t.features]
    targets = [
        t.model_copy(update={
            "look_at": "picture", "constraints": [],
            "models": t.models if model is None else None,
            "active": any(t is k for k in kept),
        })
        for t in experiment.targets
    ]
    update: dict[str, object] = {
        "targets": targets, "postproc": [], "init": Init(), "mask": None,
    }
    if model is not None:
        update["model"] = [Model(name=model)]
    return experiment.model_copy(update=update)


def last_look(session: Session, experiment: Experiment) -> tuple[int, int]:
    """Last epoch with a feature of positive weight, and its minimum number of views."""
    plan = session.plan([experiment])[0].plan
    for phase in reversed(plan.phases):
        counts = [t.views for t in phase.targets if any(t.attracts)]
        if counts:
            return plan.start + phase.last - 1, min(counts)
    message = "nothing with a positive weight is active at any time, so there is nothing to rate"
    raise ConfigError([Problem("config", 0, 0, "targets", message)])


def _turn(experiment: Experiment, epoch: int, purpose: str, turn: int) -> Experiment:
    return experiment.model_copy(update={
        "start_epoch": constant(epoch, integer=True),
        "seed": derive_seed(experiment.seed or 0, purpose, turn),
    })


def _look(session: Session, experiments: Sequence[Experiment], pictures: Tensor) -> list[float]:
    found = [0.0] * len(experiments)
    for group in session.plan(experiments):
        values = _likeness(session, group.plan, pictures[list(group.rows)])
        for row, value in zip(group.rows, values, strict=True):
            found[row] = value
    return found


def _likeness(session: Session, plan: Plan, pictures: Tensor) -> list[float]:
    needed = session.inputs(plan)
    encoders, prompts = needed.encoders, needed.prompts
    device, phase = encoders[0].device, plan.phases[0]
    still = pictures.to(device)
    if still.shape[-2:] != phase.size:
        still = resize(still, phase.size, "bicubic").clamp(0, 1)
    program = Program(plan, phase, encoders, prompts, None, Draw(plan.seeds, device))
    with torch.no_grad():
        _, likeness, _ = program.forward(Still(still), 0)
    return [float(v) for v in likeness]


@dataclass(frozen=True)
class Look:
    """Simple statistics of an image, all in 0..1.

    brightness  mean of the luma
    contrast    standard deviation of the luma
    saturation  mean difference of the strongest and the weakest channel
    detail      mean absolute luma difference of neighbouring pixels
    """

    brightness: float
    contrast: float
    saturation: float
    detail: float


def describe_look(picture: Tensor) -> Look:
    """Compute the statistics of one image `[3, H, W]` in 0..1."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device)
    luma = (picture * weights[:, None, None]).sum(0)
    steps = [d.abs().mean() for d in (luma.diff(dim=0), luma.diff(dim=1)) if d.numel()]
    detail = torch.stack(steps).mean() if steps else luma.new_zeros(())
    spread = luma.std(correction=0)
    saturation = (picture.amax(0) - picture.amin(0)).mean()
    return Look(float(luma.mean()), float(spread), float(saturation), float(detail))
