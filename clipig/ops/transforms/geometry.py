"""Transforms that move pixels and keep the size. Angles are in degrees."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import Numbers, Offsets, Pair, Scalar, Value, constant
from clipig.ops.kernels.sampling import Fill, Map, Shape, Stage, Wrap, about, affine, translation
from clipig.ops.transforms.base import Geometry, Params, bounds
from clipig.rng import ViewDraw


def _turn(degree: Tensor, center: tuple[Tensor, Tensor], size: Shape) -> list[Stage]:
    """Stages of a counter-clockwise rotation (y points down) about `center`, in pixels."""
    angle = torch.deg2rad(degree)
    cos, sin = angle.cos(), angle.sin()
    return [Fill(size), Map(about(center, cos, -sin, sin, cos))]


class Rotate(Geometry):
    """Rotate the image counter-clockwise; black outside.

    The result is that of torchvision's rotate with bilinear interpolation, while the
    original used the nearest pixel. y points down, so a point at (x, y) from the centre
    shows the input's (x cos - y sin, x sin + y cos).

    Example:
        - rotate: 45
    """

    name: ClassVar[str] = "rotate"
    sole: ClassVar[str] = "degree"

    degree: Scalar
    """angle in degrees"""
    center: Pair = constant(0.5, 0.5)
    """fixed point as fractions of width and height"""

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        center = (p.center[..., 0] * size[1], p.center[..., 1] * size[0])
        return _turn(p.degree[..., 0], center, size)


class RandomRotate(Geometry):
    """Rotate each view by a random angle about a random point; black outside.

    Example:
        - random_rotate: {degree: -30 30, center: 0 1}
    """

    name: ClassVar[str] = "random_rotate"
    sole: ClassVar[str] = "degree"
    random: ClassVar[bool] = True

    degree: Pair
    """minimum and maximum angle in degrees, counter-clockwise"""
    center: Pair = constant(0.5, 0.5)
    """minimum and maximum position of the fixed point, as a fraction, drawn for each axis"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(3),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        u = drawn[0]
        degree = p.degree[..., 0] + u[..., 0] * (p.degree[..., 1] - p.degree[..., 0])
        low, high = p.center[..., 0], p.center[..., 1]
        x, y = low + u[..., 1] * (high - low), low + u[..., 2] * (high - low)
        return _turn(degree, (x * size[1], y * size[0]), size)


class RandomScale(Geometry):
    """Enlarge the content of each view about its centre by a random factor; black outside.

    Example:
        - random_scale: .8 1.2
    """

    name: ClassVar[str] = "random_scale"
    sole: ClassVar[str] = "scale"
    random: ClassVar[bool] = True

    scale: Annotated[Value, Numbers((2,), above=0)]
    """minimum and maximum factor; a factor above 1 zooms in"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        scale = p.scale[..., 0] + drawn[0] * (p.scale[..., 1] - p.scale[..., 0])
        spread = 1 / scale
        zero = torch.zeros_like(spread)
        least, most = bounds(self.scale, 0.0, float("inf"))
        turned = about((size[1] / 2, size[0] / 2), spread, zero, zero, spread)
        reach = (1 / most, 1 / least if least else float("inf"))
        return [Fill(size), Map(turned, spread=spread, reach=reach, aligned=True)]


class RandomTranslate(Geometry):
    """Shift each view by a random fraction of its size; black outside.

    Example:
        - random_translate: .1 .1
    """

    name: ClassVar[str] = "random_translate"
    sole: ClassVar[str] = "offset"
    random: ClassVar[bool] = True

    offset: Annotated[Value, Numbers((2,), minimum=0, maximum=1)]
    """maximum shift in both directions, as fractions of width and height"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2, low=-1.0, high=1.0),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        height, width = size
        x = (drawn[0][..., 0] * p.offset[..., 0] * width).round()
        y = (drawn[0][..., 1] * p.offset[..., 1] * height).round()
        return [Fill(size), Map(translation(-x, -y, like), aligned=True)]


def _offset(value: Tensor, extent: int) -> Tensor:
    """Convert an offset to whole pixels: between -1 and 1 it is a fraction of the extent."""
    return torch.where(value.abs() < 1, value * extent, value).trunc()


class Shift(Geometry):
    """Roll the image right and down; pixels that leave it return at the opposite side.

    Example:
        - shift: .5 0
    """

    name: ClassVar[str] = "shift"
    sole: ClassVar[str] = "offset"

    offset: Pair
    """x and y, each a fraction of the size below 1, pixels from 1 on"""

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        x = _offset(p.offset[..., 0], size[1])
        y = _offset(p.offset[..., 1], size[0])
        return [Wrap(size), Map(translation(-x, -y, like), aligned=True)]


class RandomShift(Geometry):
    """Roll each view by a random offset; pixels that leave it return at the opposite side.

    Example:
        - random_shift: -.1 .1
    """

    name: ClassVar[str] = "random_shift"
    sole: ClassVar[str] = "offset"
    random: ClassVar[bool] = True

    offset: Offsets
    """minimum and maximum offset of both axes, or of x and then of y; a drawn offset
    is a fraction of the size below 1, pixels from 1 on"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        low, high = p.offset[..., 0::2], p.offset[..., 1::2]
        value = low + drawn[0] * (high - low)
        x, y = _offset(value[..., 0], size[1]), _offset(value[..., 1], size[0])
        return [Wrap(size), Map(translation(-x, -y, like), aligned=True)]


class RandomFlip(Geometry):
    """Mirror each view left to right with a given probability.

    Example:
        - random_flip: .5
    """

    name: ClassVar[str] = "random_flip"
    sole: ClassVar[str] = "probability"
    random: ClassVar[bool] = True

    probability: Annotated[Value, Numbers(minimum=0, maximum=1)] = constant(0.5)
    """probability that a view is mirrored"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        sign = 1 - 2 * (drawn[0] < p.probability[..., 0]).to(drawn[0].dtype)
        zero = torch.zeros_like(sign)
        turned = about((size[1] / 2, size[0] / 2), sign, zero, zero, torch.ones_like(sign))
        return [Map(turned, aligned=True)]


class RandomPerspective(Geometry):
    """Tilt each view at random: its corners move inwards by up to `amount`; black outside.

    (u, v) -> (u, v) / (1 - |a| - |b| + a u + b v) in coordinates from -1 to 1 with
    random a and b. The nearest corner does not move, and the farthest moves inwards by
    up to `amount` of half the size. In torchvision's RandomPerspective the four corners
    move independently by up to the same amount.

    Example:
        - random_perspective: .3
    """

    name: ClassVar[str] = "random_perspective"
    sole: ClassVar[str] = "amount"
    random: ClassVar[bool] = True

    amount: Annotated[Value, Numbers(minimum=0, maximum=0.9)] = constant(0.3)
    """strength, 0 to 0.9"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2, low=-1.0, high=1.0),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        height, width = size
        # the farthest corner moves to (1 - s) / (1 + s) = 1 - amount, s = |a| + |b|
        tilt = drawn[0] * (p.amount / (2 - p.amount) / 2)
        near = 1 - tilt.abs().sum(-1)
        one = torch.ones_like(near)
        zero = torch.zeros_like(near)
        rows = [one, zero, zero, zero, one, zero, tilt[..., 0], tilt[..., 1], near]
        tilted = torch.stack(rows, -1).view(*near.shape, 3, 3)
        unit = affine(((2 / width, 0.0, -1.0), (0.0, 2 / height, -1.0)), like)
        back = affine(((width / 2, 0.0, width / 2), (0.0, height / 2, height / 2)), like)
        amount = bounds(self.amount, 0.0, 0.9)[1]
        reach = (1.0, 1 / (1 - amount / (2 - amount)))
        return [Fill(size), Map(back @ tilted @ unit, spread=1 / near, reach=reach, flat=False)]
