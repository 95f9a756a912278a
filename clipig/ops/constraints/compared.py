"""Constraints that compare a view with a changed copy of itself."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import LIVE, Kernel, LiveColor, Margin, Numbers, Sigma, Value, constant
from clipig.ops.constraints.base import Constraint
from clipig.ops.kernels.resizing import Shape
from clipig.ops.transforms.base import Params, color
from clipig.ops.transforms.filters import blurred, frame, too_large
from clipig.rng import ViewDraw


class BlurConstraint(Constraint):
    """Prefer smooth images: D(x, blur(x)).

    Example:
        - blur: {kernel_size: 11, start: 50%}
    """

    name: ClassVar[str] = "blur"
    sole: ClassVar[str] = "kernel_size"

    kernel_size: Kernel = constant(3, 3, integer=True)
    """width and height in pixels; even sizes are made odd, below 1 means no blur"""
    sigma: Sigma | None = None
    """standard deviation in x and y; default 0.3 * ((kernel_size - 1) / 2 - 1) + 0.8"""

    def check(self, size: Shape, p: Params) -> str | None:
        return too_large(p.kernel_size, size)

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.distance(views - blurred(views, p.kernel_size, p.sigma))


class BorderConstraint(Constraint):
    """Prefer a border of one colour: D(x, x with the border painted), over the whole view.

    Example:
        - border: {size: 4, color: 1}
    """

    name: ClassVar[str] = "border"
    sole: ClassVar[str] = "size"

    size: Margin = constant(1, 1, integer=True)
    """columns left and right, rows above and below"""
    color: LiveColor = constant(0.0, 0.0, 0.0)
    """colour of the border"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        inside = frame(views, p.size)
        return self.distance((views - color(p.color)) * inside)


class NormalizeConstraint(Constraint):
    """Prefer colours that fill a range: D(x, x stretched to min..max per channel); K is 10.

    Example:
        - normalize: {min: 0, max: 1}
    """

    name: ClassVar[str] = "normalize"
    factor: ClassVar[float] = 10.0

    min: LiveColor = constant(0.0, 0.0, 0.0)
    """minimum of red, green and blue"""
    max: LiveColor = constant(1.0, 1.0, 1.0)
    """maximum of red, green and blue"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        flat = views.flatten(3)
        low, high = flat.amin(3, keepdim=True), flat.amax(3, keepdim=True)
        unit = (flat - low) / (high - low).clamp(min=1e-6)
        goal = p.min[..., None] + unit * (p.max - p.min)[..., None]
        return self.distance(flat - goal)


class NoiseConstraint(Constraint):
    """Prefer images near a noisy copy of themselves: D(x, stop(x + std * N)).

    In the original both sides had a gradient, and the sum was exactly zero. Here the noisy
    copy has no gradient, so the constraint pulls in a random direction.

    Example:
        - noise: {std: .1}
    """

    name: ClassVar[str] = "noise"
    sole: ClassVar[str] = "std"
    random: ClassVar[bool] = True

    std: Annotated[Value, Numbers((3,), minimum=0, variables=LIVE, clamped=True)]
    """standard deviation for red, green and blue"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.normal(3, *size),)

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        noisy = torch.addcmul(views.detach(), drawn[0], color(p.std))
        return self.distance(views - noisy)


class TotalVariation(Constraint):
    """Prefer few and small steps between neighbouring pixels (total variation).

    D is the mean of the differences to the right and lower neighbours. `loss: l1` gives
    the edge-preserving form of Rudin, Osher and Fatemi (1992).

    Example:
        - tv: {weight: .1, loss: l1}
    """

    name: ClassVar[str] = "tv"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        right = views[..., :, 1:] - views[..., :, :-1]
        down = views[..., 1:, :] - views[..., :-1, :]
        return self.distance(right) + self.distance(down)


class Gray(Constraint):
    """Prefer images near one colour: D(x, colour).

    Example:
        - gray: {color: .5, weight: .003}
    """

    name: ClassVar[str] = "gray"
    sole: ClassVar[str] = "color"

    color: LiveColor = constant(0.5, 0.5, 0.5)
    """the preferred colour"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.distance(views - color(p.color))
