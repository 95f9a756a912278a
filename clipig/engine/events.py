"""What happens while the engine runs, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipig.engine.state import State
from clipig.ops.canvases import Picture
from clipig.ops.kernels.sampling import Shape


@dataclass(frozen=True)
class FeatureRating:
    """What one encoder found in the views of a target, `[R, N, F]` each.

    `used` is None if all features count.
    """

    similarity: Tensor
    losses: Tensor
    used: Tensor | None


@dataclass(frozen=True)
class TargetReport:
    """Details of one target in one step, all on the device.

    `features` and `constraints` are indices of the active ones in the target's lists.
    `ratings` holds one entry per encoder, `terms` `[R, N, C]` the terms of the
    constraints. Means are computed when they are asked for.
    """

    index: int
    views: int
    features: tuple[int, ...]
    ratings: tuple[FeatureRating, ...]
    constraints: tuple[int, ...]
    terms: Tensor

    @property
    def similarity(self) -> Tensor:
        """`[R, F]`, mean over views and encoders."""
        return self._mean([r.similarity for r in self.ratings])

    @property
    def losses(self) -> Tensor:
        """`[R, F]`, mean over views and encoders, without weights."""
        return self._mean([r.losses for r in self.ratings])

    @property
    def used(self) -> Tensor:
        """`[R, F]`, part of the views for which the feature counted."""
        return self._mean([
            torch.ones_like(r.losses) if r.used is None else r.used for r in self.ratings
        ])

    @property
    def penalties(self) -> Tensor:
        """`[R, C]`, mean over views."""
        return self.terms.mean(1)

    def _mean(self, values: list[Tensor]) -> Tensor:
        if not values:
            return self.terms.new_zeros(len(self.terms), 0)
        return torch.stack([v.mean(1) for v in values]).mean(0)


class Unsettled(Exception):
    """The state was asked for while a step, stopped in the middle, was changing it."""


@dataclass(frozen=True)
class Step:
    """One optimizer step was made.

    Tensors live on the device and nothing has waited for them: read them when
    you like, not at every step. `picture` and `state` work until the next event
    is asked for; `state` also if that fails, unless it was in the middle of a
    change (it raises `Unsettled` then).
    """

    step: int
    """steps done, this one included"""
    epoch: int
    """number of this step in the config's counting, from `start_epoch`"""
    epochs: int
    t: float
    """time of the step, from 0 to 1"""
    size: Shape
    """`(height, width)` of the canvas in pixels"""
    rate: float
    """learning rate of the first run"""
    loss: Tensor
    """`[R]`, the sum that was minimised"""
    similarity: Tensor
    """`[R]`, 100 * cosine, mean over views of what has positive weight"""
    alive: Tensor
    """`[R]` bool: false for a run that diverged; its picture is the last good one"""
    targets: tuple[TargetReport, ...]
    """what each target saw and asked for"""
    picture: Callable[[], Picture] = field(repr=False)
    """the picture after this step, `rgb` `[R, 3, H, W]`; computed when it is called"""
    state: Callable[[], State] = field(repr=False)
    """a copy of all that a resume needs; computed when it is called"""


@dataclass(frozen=True)
class PhaseBegun:
    """A new phase: from this step on the size or the set of active parts differs."""

    step: int
    """steps done before it"""
    size: Shape
    """`(height, width)` of the canvas in pixels"""


@dataclass(frozen=True)
class Diverged:
    """Runs whose numbers were no longer finite; they keep their last good picture."""

    epoch: int
    """when it was noticed"""
    runs: tuple[int, ...]
    """their indices in the batch"""


@dataclass(frozen=True)
class Finished:
    """All steps are done."""

    epochs: int
    picture: Picture
    """`rgb` `[R, 3, H, W]`, and `layers` such as `alpha` where the canvas has them"""
    similarity: Tensor
    """`[R]`, 100 * cosine in the last step"""
    alive: Tensor
    """`[R]` bool: false for a run that diverged"""
    state: Callable[[], State] = field(repr=False)
    """a copy of all that a resume needs; computed when it is called"""


Event = Step | PhaseBegun | Diverged | Finished
