"""Transforms that change the size: crops, tiles and margins. YAML sizes are `width height`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from clipig.ops.base import Box, Color, Margin, Numbers, Size, Value, constant
from clipig.ops.kernels.sampling import (
    EdgeClamp,
    Fill,
    Map,
    Shape,
    Stage,
    Wrap,
    affine,
    resize_stages,
    translation,
)
from clipig.ops.transforms.base import Geometry, Params, bounds
from clipig.rng import ViewDraw


class Resize(Geometry):
    """Resize, with antialiasing where it shrinks, without keeping the aspect ratio.

    Example:
        - resize: 224
    """

    name: ClassVar[str] = "resize"
    sole: ClassVar[str] = "size"

    size: Size
    """width and height in pixels"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        height, width = p.size
        return height, width

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        return resize_stages(size, p.size, like)


def _cut(
    x: Tensor | float, y: Tensor | float, size: Shape, like: Tensor, fill: bool
) -> list[Stage]:
    """Stages of a crop that begins at point (x, y) of the input; black outside if `fill`."""
    edge: list[Stage] = [Fill(size)] if fill else []
    return [*edge, Map(translation(x, y, like), aligned=True)]


def _middle(extent: int, wanted: int) -> int:
    """First pixel of the middle part, rounded as in torchvision's center_crop."""
    if wanted > extent:
        return -((wanted - extent) // 2)
    return round((extent - wanted) / 2)


class CenterCrop(Geometry):
    """Cut out the middle, with black borders if the crop is larger than the image.

    Example:
        - center_crop: 200
    """

    name: ClassVar[str] = "center_crop"
    sole: ClassVar[str] = "size"

    size: Size
    """width and height in pixels"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        height, width = p.size
        return height, width

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        (height, width), (h, w) = size, p.size
        outside = h > height or w > width
        return _cut(_middle(width, w), _middle(height, h), size, like, outside)


class RandomCrop(Geometry):
    """Cut out a piece of fixed size at a random position.

    Example:
        - random_crop: 224
    """

    name: ClassVar[str] = "random_crop"
    sole: ClassVar[str] = "size"
    random: ClassVar[bool] = True

    size: Size
    """width and height in pixels, at most the width and height of the view"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        height, width = p.size
        return height, width

    def check(self, size: Shape, p: Params) -> str | None:
        (height, width), (h, w) = size, p.size
        if h <= height and w <= width:
            return None
        return f"a crop of {w}x{h} does not fit into the view, which is {width}x{height} here"

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(2),)

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        (height, width), (h, w) = size, p.size
        x = (drawn[0][..., 0] * (width - w + 1)).floor()
        y = (drawn[0][..., 1] * (height - h + 1)).floor()
        return _cut(x, y, size, like, fill=False)


class Crop(Geometry):
    """Cut out a given box; black outside the image.

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

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        x, y, w, h = self._pixels(size, p)
        outside = x < 0 or y < 0 or x + w > size[1] or y + h > size[0]
        return _cut(x, y, size, like, outside)


class Cutouts(Geometry):
    """Cut out squares of random size at random positions and resize them to one size.

    Sizes are stratified: the views of a step share the range evenly, so that
    each step sees large and small pieces (Crowson, clip-guided-diffusion v2).
    Where a piece reaches beyond the image, the edge pixels are repeated.

    Example:
        - cutouts: {scale: .2 1, size: 224}
    """

    name: ClassVar[str] = "cutouts"
    sole: ClassVar[str] = "scale"
    random: ClassVar[bool] = True

    scale: Annotated[Value, Numbers((2,), above=0, maximum=2)] = constant(0.3, 1.0)
    """minimum and maximum side, as a fraction of the image's shorter side"""
    power: Annotated[Value, Numbers(above=0)] = constant(1.0)
    """above 1 favours small pieces, below 1 large ones"""
    overscan: Annotated[Value, Numbers(minimum=0, maximum=1)] = constant(0.0)
    """maximum reach of a piece beyond the edge, as a fraction of its side"""
    size: Size = constant(224, 224, integer=True)
    """width and height of the resized pieces"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        height, width = p.size
        return height, width

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        u = draw.uniform(3)
        views = u.shape[1]
        slot = torch.arange(views, device=u.device, dtype=u.dtype)
        return ((slot + u[..., 0]) / views, u[..., 1:])

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        (height, width), (h, w) = size, p.size
        rank = drawn[0] ** p.power[..., 0]
        scale = p.scale[..., 0] + rank * (p.scale[..., 1] - p.scale[..., 0])
        short = min(height, width)
        side = scale * short
        over = side * p.overscan[..., 0]
        x = drawn[1][..., 0] * (width - side + 2 * over) - over
        y = drawn[1][..., 1] * (height - side + 2 * over) - over
        least, most = bounds(self.scale, 0.0, 2.0)
        return [
            EdgeClamp(size),
            Map(
                affine(((side / w, 0.0, x), (0.0, side / h, y)), like),
                zoom=(short / w, short / h),
                spread=scale,
                reach=(least, most),
                aligned=True,
            ),
        ]


class Repeat(Geometry):
    """Tile the image.

    Example:
        - repeat: 3 3
    """

    name: ClassVar[str] = "repeat"
    sole: ClassVar[str] = "count"

    count: Annotated[Value, Numbers((2,), integer=True, minimum=1, maximum=4096, size=True)]
    """number of tiles in x and in y"""

    def out_size(self, size: Shape, p: Params) -> Shape:
        return size[0] * p.count[0], size[1] * p.count[1]

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
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

    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        edge: Stage = Fill(size, p.color)
        if self.mode == "edge":
            edge = EdgeClamp(size)
        elif self.mode == "wrap":
            edge = Wrap(size)
        return [edge, Map(translation(-float(p.size[1]), -float(p.size[0]), like), aligned=True)]
