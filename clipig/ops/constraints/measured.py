"""Constraints that keep a measured value of each colour at least `above` or at most `below`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from clipig.ops.base import Kernel, Sigma, constant
from clipig.ops.constraints.base import Bounded
from clipig.ops.kernels.resizing import Shape
from clipig.ops.transforms.base import Params
from clipig.ops.transforms.filters import blurred, too_large


class MeanConstraint(Bounded):
    """Keep the mean of each colour above or below a value.

    Example:
        - mean: {above: .4, weight: 2}
    """

    name: ClassVar[str] = "mean"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.bounds(views.mean((-2, -1)), p)


class StdConstraint(Bounded):
    """Keep the standard deviation of each colour above or below a value.

    Example:
        - std: {above: .1}
    """

    name: ClassVar[str] = "std"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.bounds(views.flatten(3).std(3), p)


class SaturationConstraint(Bounded):
    """Keep the saturation above or below a value: mean abs(channel - mean of channels).

    Example:
        - saturation: {below: .005}
    """

    name: ClassVar[str] = "saturation"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.bounds((views - views.mean(2, keepdim=True)).abs().mean((-2, -1)), p)


class EdgeMeanConstraint(Bounded):
    """Keep the mean of abs(blur(x) - x) of each colour above or below a value.

    Example:
        - edge_mean: {below: .02, kernel_size: 5}
    """

    name: ClassVar[str] = "edge_mean"

    kernel_size: Kernel = constant(3, 3, integer=True)
    """width and height of the blur in pixels"""
    sigma: Sigma | None = None
    """standard deviation of the blur in x and y"""

    def check(self, size: Shape, p: Params) -> str | None:
        return too_large(p.kernel_size, size)

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        edges = (blurred(views, p.kernel_size, p.sigma) - views).abs()
        return self.bounds(edges.mean((-2, -1)), p)


class ContrastConstraint(Bounded):
    """Keep the contrast above or below a value; K is 1.

    The contrast of a channel is the mean of the pixels above the channel's mean minus the
    mean of the pixels below it. A flat channel has contrast 0.

    Example:
        - contrast: {above: .2}
    """

    name: ClassVar[str] = "contrast"
    factor: ClassVar[float] = 1.0

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        flat = views.flatten(3)
        mean = flat.mean(3, keepdim=True)
        high, low = (flat > mean).to(flat.dtype), (flat < mean).to(flat.dtype)
        away = flat - mean
        bright = (away * high).sum(3) / high.sum(3).clamp(min=1)
        dark = (away * low).sum(3) / low.sum(3).clamp(min=1)
        return self.bounds(bright - dark, p)
