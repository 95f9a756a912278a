"""The original's canvas: one number per pixel and channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from clipig.ops.canvases.base import Canvas, CanvasSpec, Picture
from clipig.ops.canvases.fields import Power
from clipig.ops.canvases.finish import Axes, Finish, Squash
from clipig.ops.canvases.levels import resized
from clipig.ops.canvases.precondition import precondition
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw


class PixelCanvas(Canvas):
    """`pixels` `[R, 3, H, W]`.

    Stored colours that are merely clamped are kept within 0..1 themselves (a projected
    gradient step): then showing them costs nothing, and a pixel that has reached an end
    leaves it as soon as the gradient wants it to.
    """

    def __init__(self, start: Tensor, finish: Finish, power: float = 0.0, wrap: bool = False):
        self.finish, self.power, self.wrap = finish, power, wrap
        self.parameters, self.buffers = {}, {}
        self.direct = finish.squash == "clamp" and finish.axes == "rgb"
        if self.direct:
            self.bounds = {"pixels": (0.0, 1.0)}
        self._store(finish.invert(start))

    def _store(self, pixels: Tensor) -> None:
        self.set("pixels", pixels.clamp(0, 1) if self.direct else pixels)

    def picture(self, t: Tensor | float) -> Picture:
        pixels = precondition(self.parameters["pixels"], self.power)
        return Picture(pixels if self.direct else self.finish.show(pixels))

    def resize(self, size: Shape, mode: str) -> None:
        with torch.no_grad():
            self._store(resized(self.parameters["pixels"], size, mode, self.wrap))

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        if self.direct:  # of older versions, which clamped later
            self._store(self.parameters["pixels"])

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        # bilinear: a second moment must not become negative
        height, width = self.parameters[name].shape[-2:]
        return resized(state, (height, width), "bilinear", self.wrap)

    @torch.no_grad()
    def edit(self, rgb: Tensor) -> None:
        pixels = self.finish.invert(rgb)
        self.parameters["pixels"].copy_(pixels.clamp_(0, 1) if self.direct else pixels)

    @torch.no_grad()
    def raw(self) -> Tensor:
        return self.finish.raw(self.parameters["pixels"].detach())


class Pixels(CanvasSpec):
    """One number per pixel and channel, as in the original.

    `precondition: p` filters the gradient by 1 / k^p (k in waves per picture):
    with `optimizer: sgd` and a squash this is what a sum of all resolutions
    (Fort and Whitaker, "Direct Ascent Synthesis", 2025) does, in one tensor.

    Example:
        canvas: {pixels: {squash: sigmoid}}
    """

    name: ClassVar[str] = "pixels"
    sole: ClassVar[str] = "squash"
    editable: ClassVar[bool] = True

    squash: Squash = "clamp"
    """how stored numbers become colours"""
    color: Axes = "rgb"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    precondition: Power = 0.0
    """power of the low-pass filter of the gradient, 0 for none, 1 to 2 for natural pictures"""

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return PixelCanvas(start, Finish(self.squash, self.color), self.precondition, wrap)
