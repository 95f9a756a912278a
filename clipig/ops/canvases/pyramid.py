"""Stores an image as a sum of images of many sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from clipig.ops.canvases.base import Canvas, CanvasSpec
from clipig.ops.canvases.fields import Count, Enlargement, Natural, Power, Ratio, Share
from clipig.ops.canvases.finish import Axes, Finish, Squash
from clipig.ops.canvases.levels import level_shape, level_sizes, level_sum, resized
from clipig.ops.canvases.offset import OffsetCanvas, moment
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw, stream_id


def spread(knots: Sequence[float], count: int) -> list[float]:
    """Interpolate knots linearly at `count` positions, from the first to the last knot."""
    if len(knots) == 1 or count == 1:
        return [knots[0]] * count
    out = []
    for i in range(count):
        place = i * (len(knots) - 1) / (count - 1)
        left = min(int(place), len(knots) - 2)
        out.append(knots[left] + (place - left) * (knots[left + 1] - knots[left]))
    return out


class PyramidCanvas(OffsetCanvas):
    """Learns `level_<side>` `[R, 3, h, w]` for each level."""

    def __init__(
        self, spec: Pyramid, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool
    ):
        super().__init__(start, Finish(spec.squash, spec.color), init, wrap, spec.precondition)
        self.spec = spec
        sides = spec.sides(size)
        std = self.start_strength / len(sides) ** 0.5
        for side in sides:
            stream = stream_id("canvas", "pyramid", side)
            noise = draw.normal(stream, 0, (3, *level_shape(side, size)))
            self.set(self.label(side), noise * std)

    @staticmethod
    def label(side: int) -> str:
        """Name of the parameter that holds a level."""
        return f"level_{side}"

    @property
    def sides(self) -> list[int]:
        """Longer sides of the levels, from coarse to fine."""
        return sorted(int(name.removeprefix("level_")) for name in self.parameters)

    @property
    def rates(self) -> dict[str, float]:  # type: ignore[override]
        factors = spread(self.spec.rates, len(self.parameters))
        return {self.label(s): f for s, f in zip(self.sides, factors, strict=True)}

    def content(self, t: Tensor | float) -> Tensor:
        levels = [self.parameters[self.label(s)] for s in self.sides]
        if self.spec.release > 0:
            count = len(levels)
            opened = moment(t, levels[0]) * (count / self.spec.release)
            levels = [
                x * (opened - i).clamp(0, 1) if i else x for i, x in enumerate(levels)
            ]
        return level_sum(levels, self.size, self.spec.interpolation, self.wrap)

    def resize(self, size: Shape, mode: str) -> None:
        before, shapes = self.sides, {n: p.shape[-2:] for n, p in self.parameters.items()}
        with torch.no_grad():
            goal = resized(self.stored(1.0), size, mode, self.wrap)
        super().resize(size, mode)
        kept = [s for s in before if s <= max(size)]
        for side in set(before) - set(kept):
            del self.parameters[self.label(side)]
        for side in kept:
            if tuple(shapes[self.label(side)]) != level_shape(side, size):  # new aspect ratio
                level = self.parameters[self.label(side)].detach()
                self.set(self.label(side), resized(level, level_shape(side, size)))
        for side in self.spec.sides(size):
            if side > max(kept, default=0):
                shape = (goal.shape[0], 3, *level_shape(side, size))
                self.set(self.label(side), goal.new_zeros(shape))
        if max(size) < max(before):  # the offset takes over the content of dropped levels
            with torch.no_grad():
                self.buffers["offset"] = goal - self.content(1.0)

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        if name not in self.parameters:
            return state
        height, width = self.parameters[name].shape[-2:]
        return resized(state, (height, width))


class Pyramid(CanvasSpec):
    """Store a sum of images of 1, 2, 4 ... pixels, each enlarged to full size.

    `rgb = squash(offset + sum_i enlarge(level_i))`. Few values, which every view sees,
    determine the large shapes, so these form first and stay smooth (Fort and
    Whitaker, "Direct Ascent Synthesis", 2025; imstack, 2021). For a start from an image
    the offset is that image and all levels begin at zero. For a start from noise the
    offset is its mean colour and the levels share its standard deviation.

    Example:
        canvas: {pyramid: {ratio: 2, release: 1/3}}
    """

    name: ClassVar[str] = "pyramid"
    editable: ClassVar[bool] = True

    levels: Annotated[list[Count], Field(min_length=1)] | Literal["all"] | None = None
    """longer sides in pixels, or `all`: every whole number (slow); by default from `ratio`"""
    ratio: Ratio = 2.0
    """ratio of the sides of two neighbouring levels, from 1 pixel to the size of the image"""
    interpolation: Enlargement = "bilinear"
    """interpolation with which the levels are enlarged"""
    squash: Squash = "sigmoid"
    """function from stored values to colours"""
    color: Axes = "rgb"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    release: Share = 0.0
    """fraction of the run after which all levels are active, coarse levels first"""
    rates: Annotated[list[Natural], Field(min_length=1)] = Field(default=[1.0])
    """factors of the learning rate from the coarsest to the finest level, linear in between"""
    precondition: Power = 0.0
    """power of a low-pass filter of the gradient, 0 for no filter"""

    def sides(self, size: Shape) -> list[int]:
        """Return the longer sides of the levels of an image of this size."""
        if self.levels == "all":
            return list(range(1, max(size) + 1))
        if self.levels is None:
            return level_sizes(size, self.ratio)
        return sorted({min(side, max(size)) for side in self.levels})

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return PyramidCanvas(self, start, size, draw, init, wrap)
