"""Transforms that change the colours pixel by pixel, some of them by a mean over the view."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import Color, Factor, Numbers, Pair, Value, constant
from clipig.ops.kernels.sampling import Shape
from clipig.ops.kernels.tones import Tone
from clipig.ops.transforms.base import Params, Pixelwise, Toning, color
from clipig.rng import ViewDraw

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601, as torchvision rounds them)."""


def luma(views: Tensor) -> Tensor:
    """Compute the brightness of images.

    Args:
        views: `[..., 3, H, W]`, sRGB.

    Returns:
        `[..., 1, H, W]`, weighted by `LUMA`.
    """
    red, green, blue = views.unbind(-3)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]).unsqueeze(-3)


class Add(Toning):
    """Add a colour.

    Example:
        - add: .1 0 0
    """

    name: ClassVar[str] = "add"
    sole: ClassVar[str] = "value"

    value: Color
    """added to red, green and blue"""

    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        return Tone(shift=color(p.value))


class Mul(Toning):
    """Multiply the colours.

    Example:
        - mul: 1/2
    """

    name: ClassVar[str] = "mul"
    sole: ClassVar[str] = "factor"

    factor: Color
    """factor of red, green and blue"""

    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        return Tone(scale=color(p.factor))


class Mean(Toning):
    """Shift each colour so that its mean over the view becomes the given one.

    The contrast stays the same. The gradient flows through the mean.

    Example:
        - mean: .5
    """

    name: ClassVar[str] = "mean"
    sole: ClassVar[str] = "value"

    value: Color
    """new mean of red, green and blue"""

    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        return Tone(shift=color(p.value), centred=True)


class Clamp(Pixelwise):
    """Clamp the colours to a range.

    Example:
        - clamp: 0 1
    """

    name: ClassVar[str] = "clamp"
    sole: ClassVar[str] = "range"

    range: Pair = constant(0.0, 1.0)
    """minimum and maximum"""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        low, high = p.range[..., :1, None, None], p.range[..., 1:, None, None]
        return torch.minimum(torch.maximum(views, low), high)


class Quantize(Pixelwise):
    """Round the colours down to multiples of a step.

    The gradient passes as if the colours were not rounded. In the original it was zero.

    Example:
        - quantize: .25
    """

    name: ClassVar[str] = "quantize"
    sole: ClassVar[str] = "step"

    step: Annotated[Value, Numbers((3,), above=0)]
    """distance between two levels"""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        step = color(p.step)
        return views + ((views / step).floor() * step - views).detach()


class Saturation(Pixelwise):
    """Blend with the gray image and clamp to 0..1: 0 is gray, 1 unchanged, 2 vivid.

    `factor * x + (1 - factor) * luma(x)`, as in torchvision's adjust_saturation.

    Example:
        - saturation: 1.5
    """

    name: ClassVar[str] = "saturation"
    sole: ClassVar[str] = "factor"

    factor: Factor = constant(1.0)
    """0 or more"""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        gray = luma(views)
        return (gray + color(p.factor) * (views - gray)).clamp(0, 1)


class Contrast(Pixelwise):
    """Blend with the mean brightness and clamp to 0..1: 0 is flat, 1 unchanged.

    `factor * x + (1 - factor) * mean(luma(x))`, as in torchvision's adjust_contrast.

    Example:
        - contrast: .5
    """

    name: ClassVar[str] = "contrast"
    sole: ClassVar[str] = "factor"

    factor: Factor = constant(1.0)
    """0 or more"""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        gray = luma(views).mean((-2, -1), keepdim=True)
        return (gray + color(p.factor) * (views - gray)).clamp(0, 1)


class RandomContrast(Toning):
    """Scale each view's contrast about a fixed gray by a random factor, without clamping.

    Example:
        - random_contrast: .4 1
    """

    name: ClassVar[str] = "random_contrast"
    sole: ClassVar[str] = "factor"
    random: ClassVar[bool] = True

    factor: Annotated[Value, Numbers((2,), minimum=0, clamped=True)]
    """minimum and maximum factor"""
    center: Color = constant(0.5, 0.5, 0.5)
    """the colour that does not change"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(1),)

    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        factor = p.factor[..., :1] + drawn[0] * (p.factor[..., 1:] - p.factor[..., :1])
        return Tone(color(factor), color(p.center * (1 - factor)))


class ColorJitter(Pixelwise):
    """Change brightness, contrast and saturation of each view at random, without clamping.

    Example:
        - color_jitter: {brightness: .1, contrast: .2, saturation: .2}
    """

    name: ClassVar[str] = "color_jitter"
    sole: ClassVar[str] = "brightness"
    random: ClassVar[bool] = True
    commutes: ClassVar[str] = "linear"

    brightness: Factor = constant(0.1)
    """maximum amount added or subtracted"""
    contrast: Factor = constant(0.1)
    """maximum deviation of the contrast factor from 1"""
    saturation: Factor = constant(0.1)
    """maximum deviation of the saturation factor from 1"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(3, low=-1.0, high=1.0),)

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        u = drawn[0]
        vivid = 1 + u[..., 2:] * p.saturation
        gray = luma(views)
        views = gray + (views - gray) * color(vivid)
        mean = gray.mean((-2, -1), keepdim=True)
        views = mean + (views - mean) * color(1 + u[..., 1:2] * p.contrast)
        return views + color(u[..., :1] * p.brightness)
