"""Transforms that move pixels. Angles in degrees, sizes `width height` in YAML."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from clipig.ops import (
    Box, Color, Margin, Numbers, Pair, Scalar, Size, Span, Value, constant,
)
from clipig.rng import ViewDraw
from clipig.transforms.base import Geometry, Params
from clipig.transforms.sampling import (
    Clamp, Fill, Map, Shape, Stage, Wrap, about, affine, translation,
)


def _black(like: Tensor) -> Tensor:
    return like.new_zeros(1, 1, 3)


def _grow(scale: Tensor, size: Shape, like: Tensor, zoom: float) -> list[Stage]:
    """Show the picture enlarged by `scale` `[R|1, N|1]` about its centre, black outside."""
    inverse = 1 / scale
    zero = torch.zeros_like(inverse)
    center = (size[1] / 2, size[0] / 2)
    return [
        Fill(size, _black(like)),
        Map(about(center, inverse, zero, zero, inverse), (zoom, zoom)),
    ]


def _turn(degree: Tensor, center: tuple[Tensor, Tensor], size: Shape, like: Tensor) -> list[Stage]:
    """Turn counter-clockwise about `center` (pixels), black outside."""
    angle = torch.deg2rad(degree)
    cos, sin = angle.cos(), angle.sin()
    return [Fill(size, _black(like)), Map(about(center, cos, -sin, sin, cos))]


class Rotate(Geometry):
    """Turn the picture counter-clockwise; black where nothing is left.

    Bilinear; the original used the nearest pixel.

    Example:
        - rotate: 45
    """

    name: ClassVar[str] = "rotate"
    sole: ClassVar[str] = "degree"

    degree: Scalar
    """angle in degrees"""
    center: Pair = constant(0.5, 0.5)
    """fixed point as fractions of width and height"""

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        center = (p.center[..., 0] * size[1], p.center[..., 1] * size[0])
        return _turn(p.degree[..., 0], center, size, like)


class RandomRotate(Geometry):
    """Turn each view by a random angle about a random point; black outside.

    Example:
        - random_rotate: {degree: -30 30, center: 0 1}
    """

    name: ClassVar[str] = "random_rotate"
    sole: ClassVar[str] = "degree"
    random: ClassVar[bool] = True

    degree: Pair
    """least and greatest angle in degrees, counter-clockwise"""
    center: Pair = constant(0.5, 0.5)
    """least and greatest position of the fixed point, as a fraction, drawn for each axis"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(3),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        u = drawn[0]
        degree = p.degree[..., 0] + u[..., 0] * (p.degree[..., 1] - p.degree[..., 0])
        low, high = p.center[..., 0], p.center[..., 1]
        x, y = low + u[..., 1] * (high - low), low + u[..., 2] * (high - low)
        return _turn(degree, (x * size[1], y * size[0]), size, like)


class RandomScale(Geometry):
    """Enlarge each view about its centre by a random factor; the size stays, black outside.

    Example:
        - random_scale: .8 1.2
    """

    name: ClassVar[str] = "random_scale"
    sole: ClassVar[str] = "scale"
    random: ClassVar[bool] = True

    scale: Annotated[Value, Numbers((2,), above=0)]
    """least and greatest factor; above 1 zooms in"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        scale = p.scale[..., 0] + drawn[0] * (p.scale[..., 1] - p.scale[..., 0])
        return _grow(scale, size, like, 1.0)


class RandomTranslate(Geometry):
    """Shift each view by a random part of its size; black outside.

    Example:
        - random_translate: .1 .1
    """

    name: ClassVar[str] = "random_translate"
    sole: ClassVar[str] = "offset"
    random: ClassVar[bool] = True

    offset: Annotated[Value, Numbers((2,), minimum=0, maximum=1)]
    """greatest shift to either side, as fractions of width and height"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2, low=-1.0, high=1.0),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        height, width = size
        x = (drawn[0][..., 0] * p.offset[..., 0] * width).round()
        y = (drawn[0][..., 1] * p.offset[..., 1] * height).round()
        return [Fill(size, _black(like)), Map(translation(-x, -y, like))]


def _offset(value: Tensor, extent: int) -> Tensor:
    """Between -1 and 1 a fraction of the extent, otherwise pixels; whole pixels."""
    return torch.where(value.abs() < 1, value * extent, value).trunc()


class Shift(Geometry):
    """Roll the picture right and down; what leaves comes back at the other side.

    Example:
        - shift: .5 0
    """

    name: ClassVar[str] = "shift"
    sole: ClassVar[str] = "offset"

    offset: Pair
    """x and y; a fraction of the size below 1, pixels from 1 on"""

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        x = _offset(p.offset[..., 0], size[1])
        y = _offset(p.offset[..., 1], size[0])
        return [Wrap(size), Map(translation(-x, -y, like))]


class RandomShift(Geometry):
    """Roll each view by a random offset; what leaves comes back at the other side.

    Example:
        - random_shift: -.1 .1
    """

    name: ClassVar[str] = "random_shift"
    sole: ClassVar[str] = "offset"
    random: ClassVar[bool] = True

    offset: Span
    """least and greatest offset, or those of x and then of y; a drawn value
    below 1 is a fraction of the size, from 1 on it is pixels"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        low, high = p.offset[..., 0::2], p.offset[..., 1::2]
        value = low + drawn[0] * (high - low)
        x, y = _offset(value[..., 0], size[1]), _offset(value[..., 1], size[0])
        return [Wrap(size), Map(translation(-x, -y, like))]


class Resize(Geometry):
    """Resize, antialiased where it shrinks; the aspect ratio is not kept.

    Example:
        - resize: 224
    """

    name: ClassVar[str] = "resize"
    sole: ClassVar[str] = "size"

    size: Size
    """width and height in pixels"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return p.size  # type: ignore[no-any-return]

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        return resize_stages(size, p.size, like)


def resize_stages(size: Shape, out: Shape, like: Tensor) -> list[Stage]:
    """What shows a picture of one size at another."""
    if size == out:
        return []
    x, y = size[1] / out[1], size[0] / out[0]
    return [Clamp(size), Map(affine(((x, 0.0, 0.0), (0.0, y, 0.0)), like), (x, y))]


def _cut(x: Tensor | float, y: Tensor | float, size: Shape, like: Tensor,
         fill: bool) -> list[Stage]:
    edge: list[Stage] = [Fill(size, _black(like))] if fill else []
    return [*edge, Map(translation(x, y, like))]


class CenterCrop(Geometry):
    """Cut out the middle; black borders if it is larger than the picture.

    Example:
        - center_crop: 200
    """

    name: ClassVar[str] = "center_crop"
    sole: ClassVar[str] = "size"

    size: Size
    """width and height in pixels"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return p.size  # type: ignore[no-any-return]

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        (height, width), (h, w) = size, p.size
        return _cut(round((width - w) / 2), round((height - h) / 2), size, like,
                    h > height or w > width)


class RandomCrop(Geometry):
    """Cut out a piece of fixed size at a random place.

    Example:
        - random_crop: 224
    """

    name: ClassVar[str] = "random_crop"
    sole: ClassVar[str] = "size"
    random: ClassVar[bool] = True

    size: Size
    """width and height in pixels, not above those of the view"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return p.size  # type: ignore[no-any-return]

    def check(self, size: Shape, p: Params) -> str | None:
        (height, width), (h, w) = size, p.size
        if h <= height and w <= width:
            return None
        return f"a crop of {w}x{h} does not fit into the view, which is {width}x{height} here"

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        (height, width), (h, w) = size, p.size
        x = (drawn[0][..., 0] * (width - w + 1)).floor()
        y = (drawn[0][..., 1] * (height - h + 1)).floor()
        return _cut(x, y, size, like, fill=False)


class Crop(Geometry):
    """Cut out a given box; black outside the picture.

    Example:
        - crop: .25 .25 .5 .5
    """

    name: ClassVar[str] = "crop"
    sole: ClassVar[str] = "box"

    box: Box
    """x, y, width, height; each a fraction of the size below 1, pixels from 1 on"""

    def _pixels(self, size: Shape, p: Params) -> tuple[int, int, int, int]:
        extents = (size[1], size[0]) * 2
        x, y, w, h = (
            int(v * e) if abs(v) < 1 else int(v) for v, e in zip(p.box, extents, strict=True)
        )
        return x, y, w, h

    def out_size(self, size: Shape, p: Params) -> Shape:
        _, _, w, h = self._pixels(size, p)
        return h, w

    def check(self, size: Shape, p: Params) -> str | None:
        _, _, w, h = self._pixels(size, p)
        if w > 0 and h > 0:
            return None
        return f"the box is {w}x{h} pixels of a {size[1]}x{size[0]} view; both must be at least 1"

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        x, y, w, h = self._pixels(size, p)
        outside = x < 0 or y < 0 or x + w > size[1] or y + h > size[0]
        return _cut(x, y, size, like, outside)


class Repeat(Geometry):
    """Tile the picture.

    Example:
        - repeat: 3 3
    """

    name: ClassVar[str] = "repeat"
    sole: ClassVar[str] = "count"

    count: Annotated[Value, Numbers((2,), integer=True, minimum=1, maximum=64, size=True)]
    """how often in x and in y"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return size[0] * p.count[0], size[1] * p.count[1]

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        return [Wrap(size)]


class Pad(Geometry):
    """Add a border on all sides.

    Example:
        - pad: {size: 32, mode: edge}
    """

    name: ClassVar[str] = "pad"
    sole: ClassVar[str] = "size"

    size: Margin
    """pixels added left and right, and above and below"""
    color: Color = constant(0.0, 0.0, 0.0)
    """colour of the border in mode `fill`"""
    mode: Literal["fill", "edge", "wrap"] = "fill"
    """`fill` with the colour, repeat the `edge` pixels, or `wrap` to the opposite side"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return size[0] + 2 * p.size[0], size[1] + 2 * p.size[1]

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        edge: Stage = Fill(size, p.color)
        if self.mode == "edge":
            edge = Clamp(size)
        elif self.mode == "wrap":
            edge = Wrap(size)
        return [edge, Map(translation(-float(p.size[1]), -float(p.size[0]), like))]


class RandomFlip(Geometry):
    """Mirror each view left to right with a given probability.

    Example:
        - random_flip: .5
    """

    name: ClassVar[str] = "random_flip"
    sole: ClassVar[str] = "probability"
    random: ClassVar[bool] = True

    probability: Annotated[Value, Numbers(minimum=0, maximum=1)] = constant(0.5)
    """chance of being mirrored"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(),)

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        sign = torch.where(drawn[0] < p.probability[..., 0], -1.0, 1.0)
        zero = torch.zeros_like(sign)
        return [Map(about((size[1] / 2, size[0] / 2), sign, zero, zero, torch.ones_like(sign)))]


class RandomPerspective(Geometry):
    """Tilt each view at random: its corners move inwards by up to `amount` of its size.

    A homography with small random third row, of the size that torchvision's
    RandomPerspective(distortion_scale=amount) gives; black outside.

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

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        height, width = size
        tilt = drawn[0] * p.amount / 2
        one = torch.ones_like(tilt[..., 0])
        zero = torch.zeros_like(one)
        # in coordinates from -1 to 1: (u, v) -> (u, v) / (1 + a u + b v)
        rows = [one, zero, zero, zero, one, zero, tilt[..., 0], tilt[..., 1], one]
        tilted = torch.stack(rows, -1).unflatten(-1, (3, 3))
        unit = affine(((2 / width, 0.0, -1.0), (0.0, 2 / height, -1.0)), like)
        back = affine(((width / 2, 0.0, width / 2), (0.0, height / 2, height / 2)), like)
        return [Fill(size, _black(like)), Map(back @ tilted @ unit, flat=False)]


class Cutouts(Geometry):
    """Cut out squares of random size at random places, shown at one size.

    Sizes are stratified: the views of a step share the range evenly, so that
    each step sees large and small pieces (Crowson, clip-guided-diffusion v2).
    Where a piece reaches beyond the picture, the edge pixels are repeated.

    Example:
        - cutouts: {scale: .2 1, size: 224}
    """

    name: ClassVar[str] = "cutouts"
    sole: ClassVar[str] = "scale"
    random: ClassVar[bool] = True

    scale: Annotated[Value, Numbers((2,), above=0, maximum=2)] = constant(0.3, 1.0)
    """least and greatest side, as a fraction of the picture's shorter side"""
    power: Annotated[Value, Numbers(above=0)] = constant(1.0)
    """above 1 favours small pieces, below 1 large ones"""
    overscan: Annotated[Value, Numbers(minimum=0, maximum=1)] = constant(0.0)
    """how far a piece may reach beyond the edge, as a fraction of its side"""
    size: Size = constant(224, 224, integer=True)
    """width and height at which the pieces are shown"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return p.size  # type: ignore[no-any-return]

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        u = draw.uniform(3)
        views = u.shape[1]
        slot = torch.arange(views, device=u.device, dtype=u.dtype)
        return ((slot + u[..., 0]) / views, u[..., 1:])

    def stages(self, size, p, drawn, like):  # type: ignore[no-untyped-def]
        (height, width), (h, w) = size, p.size
        rank = drawn[0] ** p.power[..., 0]
        scale = p.scale[..., 0] + rank * (p.scale[..., 1] - p.scale[..., 0])
        side = scale * min(height, width)
        over = side * p.overscan[..., 0]
        x = drawn[1][..., 0] * (width - side + 2 * over) - over
        y = drawn[1][..., 1] * (height - side + 2 * over) - over
        zoom = math.sqrt(height * width) / math.sqrt(h * w)
        return [
            Clamp(size),
            Map(affine(((side / w, 0.0, x), (0.0, side / h, y)), like), (min(zoom, 1.0),) * 2),
        ]
