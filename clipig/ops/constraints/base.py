"""Soft penalties on what the encoder sees.

A constraint looks at the views after all transforms, at the encoder's input size
and clamped to 0..1, and gives one penalty per view, `[R, N]`. With
D(a, b) the mean squared (l2) or mean absolute (l1) difference, the term in the
loss is `weight * K * D`; K is 100 unless a class says otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import model_validator
from torch import Tensor

from clipig.ops.base import LiveColor, Op, Weight, Windowed, constant, fault
from clipig.ops.kernels.resizing import Shape
from clipig.ops.transforms.base import Params
from clipig.rng import ViewDraw

Loss = Literal["l2", "mse", "l1", "mae"]


class Constraint(Op, Windowed):
    """A penalty that lowers with what is asked for."""

    factor: ClassVar[float] = 100.0
    """K, the fixed factor of the term"""
    random: ClassVar[bool] = False

    weight: Weight = constant(1.0)
    """factor of the penalty"""
    loss: Loss = "l2"
    """`l2`/`mse`: mean square, `l1`/`mae`: mean absolute difference"""

    def check(self, size: Shape, p: Params) -> str | None:
        """What is wrong with using the constraint at this size, if anything."""
        return None

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        """Draw all random numbers that the constraint needs."""
        return ()

    @abstractmethod
    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """D for views `[R, N, 3, H, W]` in 0..1: `[R, N]`, without weight and K."""

    def distance(self, difference: Tensor) -> Tensor:
        """D of a difference `[R, N, ...]`, over all but the first two axes."""
        flat = difference.flatten(2)
        return flat.abs().mean(2) if self.loss in ("l1", "mae") else flat.square().mean(2)


class Bounded(Constraint):
    """A constraint on a measured value: at least `above`, at most `below`, one-sided."""

    above: LiveColor | None = None
    """the value should not be less than this"""
    below: LiveColor | None = None
    """the value should not be more than this"""

    @model_validator(mode="after")
    def _needs_a_bound(self) -> Bounded:
        if self.above is None and self.below is None:
            raise fault("found neither `above` nor `below`, expected at least one of them")
        return self

    def bounds(self, value: Tensor, p: Params) -> Tensor:
        """D beyond the bounds for `value` `[R, N, 3]`."""
        total = value.new_zeros(value.shape[:2])
        if p.above is not None:
            total = total + self.distance((p.above - value).clamp(min=0))
        if p.below is not None:
            total = total + self.distance((value - p.below).clamp(min=0))
        return total
