"""What a plan is: phases of steps with fixed shapes, and a table of values for each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipig.config.parts import Target
from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo
from clipig.ops.canvases.frame import Frame
from clipig.ops.constraints.style import Style
from clipig.ops.kernels.sampling import Shape
from clipig.ops.transforms.chain import Chain
from clipig.plan.tables import Bound, Table
from clipig.plan.timeline import Timing

MODES = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear",
         "cubic": "bicubic", "bicubic": "bicubic"}

ViewSet = tuple[int, int]
"""A set of views: their side in pixels, and 0 or the number of the encoder that they are for."""


@dataclass(frozen=True)
class ConstraintPlan:
    """One active constraint of a target."""

    bound: Bound
    index: int
    stream: int


@dataclass(frozen=True)
class TargetPlan:
    """A target during one phase.

    views       N, views per run and step
    repeats     factor of the loss of a view: chains without randomness are computed once
                instead of `batch_size` times
    features    active features: index into the target's list, and their numbers
    attracts    whether a feature's weight is ever positive, so that it counts in
                the similarity that is reported
    chains      the transforms, arranged for each input size of the encoders
    streams     of random numbers, one per transform
    acts        whether a loss has a weight other than 0
    encoders    the numbers of the encoders that look at it, ascending
    """

    index: int
    target: Target
    bound: Bound
    views: int
    repeats: int
    features: tuple[int, ...]
    feature_bounds: tuple[Bound, ...]
    attracts: tuple[bool, ...]
    ops: tuple[Bound, ...]
    chains: Mapping[int, Chain]
    streams: tuple[int, ...]
    constraints: tuple[ConstraintPlan, ...]
    acts: bool
    encoders: tuple[int, ...]

    @property
    def styles(self) -> tuple[tuple[int, Style], ...]:
        """The active styles, with their indices in the target's list of constraints."""
        nodes = [(c.index, c.bound.node) for c in self.constraints]
        return tuple((i, node) for i, node in nodes if isinstance(node, Style))


@dataclass(frozen=True)
class PostPlan:
    """An edit of the canvas during one phase."""

    index: int
    ops: tuple[Bound, ...]
    chain: Chain
    streams: tuple[int, ...]


@dataclass(frozen=True)
class Phase:
    """Steps `first` to `last` (not included) with the same sizes and active windows."""

    first: int
    last: int
    size: Shape
    targets: tuple[TargetPlan, ...]
    postproc: tuple[PostPlan, ...]

    @property
    def acts(self) -> bool:
        """Whether a target has a loss, so that there is something to optimize."""
        return any(t.acts for t in self.targets)

    @property
    def views(self) -> int:
        """Views per run and step that go through the encoders."""
        return sum(t.views for t in self.targets if t.features or t.styles)


@dataclass(frozen=True)
class Plan:
    """What R runs of equal structure do. Steps count from 0."""

    experiments: tuple[Experiment, ...]
    """one per run, with their seeds"""
    encoders: tuple[EncoderInfo, ...]
    """what is known of the encoders; their weights are not loaded"""
    weights: tuple[float, ...]
    """factor of each encoder's losses"""
    epochs: int
    start: int
    """the first epoch: step s is epoch `start + s` of `epochs`"""
    rates: Table
    """learning rate by step and run, base included"""
    init: Bound
    """the picture at the start"""
    phases: tuple[Phase, ...]
    """spans of steps with the same sizes and active parts, in order"""
    timings: tuple[Timing, ...] = field(repr=False)
    """what time does to each run"""

    @property
    def experiment(self) -> Experiment:
        """The first run's: what all runs have in common can be read from it."""
        return self.experiments[0]

    @property
    def frame(self) -> Frame:
        """Margin, wrap and symmetry of the canvas."""
        return frame(self.experiment)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One per run."""
        return tuple(e.seed or 0 for e in self.experiments)

    @property
    def runs(self) -> int:
        """R."""
        return len(self.experiments)

    @property
    def steps(self) -> int:
        """How many optimizer steps are made."""
        return self.epochs - self.start

    def time(self, step: int) -> float:
        """Time of a step: 0 at epoch 0 and 1 at the last epoch."""
        return (self.start + step) / max(1, self.epochs - 1)

    def times(self, device: torch.device) -> Tensor:
        """Time of all steps, `[S]`."""
        epochs = torch.arange(self.start, self.epochs, dtype=torch.float64)
        return (epochs / max(1, self.epochs - 1)).float().to(device)

    @property
    def view_sets(self) -> tuple[ViewSet, ...]:
        """Which set of views each encoder sees."""
        models = self.experiment.model
        return tuple(
            (e.size, n if m.views == "fresh" else 0)
            for n, (e, m) in enumerate(zip(self.encoders, models, strict=True))
        )


def frame(experiment: Experiment) -> Frame:
    """What goes around the canvas of an experiment."""
    return Frame(experiment.margin, experiment.wrap, experiment.symmetry)
