"""Soft penalties on what the encoder sees.

A constraint looks at the views after all transforms, at the encoder's input size
and clamped to 0..1, and gives one penalty per view, `[R, N]`. With
D(a, b) the mean squared (l2) or mean absolute (l1) difference, the term in the
loss is `weight * K * D`; K is 100 unless a class says otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from clipig.ops import (
    LIVE,
    Kernel,
    LiveColor,
    Margin,
    Numbers,
    Op,
    Sigma,
    Value,
    Weight,
    Windowed,
    constant,
    fault,
)
from clipig.rng import ViewDraw
from clipig.transforms.base import Params, color
from clipig.transforms.filters import blurred, frame, too_large
from clipig.transforms.sampling import Shape

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

    Contrast is the mean of the pixels above their channel's mean minus the mean
    of those below it.

    Example:
        - contrast: {above: .2}
    """

    name: ClassVar[str] = "contrast"
    factor: ClassVar[float] = 1.0

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        flat = views.flatten(3)
        mean = flat.mean(3, keepdim=True)
        high, low = (flat > mean).to(flat.dtype), (flat < mean).to(flat.dtype)
        bright = (flat * high).sum(3) / high.sum(3).clamp(min=1)
        dark = (flat * low).sum(3) / low.sum(3).clamp(min=1)
        return self.bounds(bright - dark, p)


class BlurConstraint(Constraint):
    """Prefer smooth pictures: D(x, blur(x)).

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
    """least value of red, green and blue"""
    max: LiveColor = constant(1.0, 1.0, 1.0)
    """greatest value"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        flat = views.flatten(3)
        low, high = flat.amin(3, keepdim=True), flat.amax(3, keepdim=True)
        unit = (flat - low) / (high - low).clamp(min=1e-6)
        goal = p.min[..., None] + unit * (p.max - p.min)[..., None]
        return self.distance(flat - goal)


class NoiseConstraint(Constraint):
    """Prefer pictures near a noisy copy of themselves: D(x, stop(x + std * N)).

    In the original both sides carried a gradient, which cancelled to exactly
    zero. Here the noisy copy is fixed, so the constraint is a random pull.

    Example:
        - noise: {std: .1}
    """

    name: ClassVar[str] = "noise"
    sole: ClassVar[str] = "std"
    random: ClassVar[bool] = True

    std: Annotated[Value, Numbers((3,), minimum=0, variables=LIVE)]
    """standard deviation for red, green and blue"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.normal(3, *size),)

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        noisy = torch.addcmul(views.detach(), drawn[0], color(p.std))
        return self.distance(views - noisy)


class TotalVariation(Constraint):
    """Prefer few and small steps between neighbouring pixels (total variation).

    D is the mean of the differences to the right and lower neighbours; use
    `loss: l1` for the edge-preserving form of Rudin, Osher and Fatemi (1992).

    Example:
        - tv: {weight: .1, loss: l1}
    """

    name: ClassVar[str] = "tv"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        right = views[..., :, 1:] - views[..., :, :-1]
        down = views[..., 1:, :] - views[..., :-1, :]
        return self.distance(right) + self.distance(down)


class Gray(Constraint):
    """Prefer pictures near one colour: D(x, colour).

    Example:
        - gray: {color: .5, weight: .003}
    """

    name: ClassVar[str] = "gray"
    sole: ClassVar[str] = "color"

    color: LiveColor = constant(0.5, 0.5, 0.5)
    """the colour to stay near"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return self.distance(views - color(p.color))


_CLASSES: tuple[type[Constraint], ...] = (
    MeanConstraint, StdConstraint, SaturationConstraint, EdgeMeanConstraint, ContrastConstraint,
    BlurConstraint, BorderConstraint, NormalizeConstraint, NoiseConstraint, TotalVariation, Gray,
)

CONSTRAINTS: dict[str, type[Constraint]] = {c.name: c for c in _CLASSES}
"""Every constraint by its YAML key."""
