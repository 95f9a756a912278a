"""Base classes of the constraints, soft penalties on the views.

A constraint looks at the views after all transforms, at the encoder's input size
and clamped to 0..1, and computes one penalty per view, `[R, N]`. If D(a, b) is the
mean squared (l2) or mean absolute (l1) difference, the term in the loss is
`weight * K * D`, where K is 100 unless a class defines another factor.
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
    """A penalty that falls as the views get closer to the desired property."""

    factor: ClassVar[float] = 100.0
    """K, the fixed factor of the term"""
    random: ClassVar[bool] = False
    """whether `sample` draws anything"""

    weight: Weight = constant(1.0)
    """factor of the penalty"""
    loss: Loss = "l2"
    """`l2`/`mse`: mean square, `l1`/`mae`: mean absolute difference"""

    def check(self, size: Shape, p: Params) -> str | None:
        """Explain why the constraint cannot be used at this size of views; None if it can."""
        return None

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        """Draw all random numbers that the constraint needs, tensors `[R, N, ...]`."""
        return ()

    @abstractmethod
    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """Compute D, without weight and K.

        Args:
            views: `[R, N, 3, H, W]` in 0..1.
            p: The fields of the constraint for this step.
            drawn: Random numbers from `sample`.

        Returns:
            `[R, N]`.
        """

    def distance(self, difference: Tensor) -> Tensor:
        """Compute D of a difference `[R, N, ...]` over all but the first two axes: `[R, N]`."""
        flat = difference.flatten(2)
        return flat.abs().mean(2) if self.loss in ("l1", "mae") else flat.square().mean(2)


class Bounded(Constraint):
    """Keeps a measured value at or above `above`, at or below `below`, or between both."""

    above: LiveColor | None = None
    """minimum of the value; there is no penalty above it"""
    below: LiveColor | None = None
    """maximum of the value; there is no penalty below it"""

    @model_validator(mode="after")
    def _needs_a_bound(self) -> Bounded:
        if self.above is None and self.below is None:
            raise fault("found neither `above` nor `below`, expected at least one of them")
        return self

    def bounds(self, value: Tensor, p: Params) -> Tensor:
        """Compute D of the distance of `value` `[R, N, 3]` beyond its bounds: `[R, N]`."""
        total = value.new_zeros(value.shape[:2])
        if p.above is not None:
            total = total + self.distance((p.above - value).clamp(min=0))
        if p.below is not None:
            total = total + self.distance((value - p.below).clamp(min=0))
        return total
