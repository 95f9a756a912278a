"""Stores one value per pixel and channel, as the original does."""

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
    """Learns `pixels` `[R, 3, H, W]`.

    With `squash: clamp` and `color: rgb` the parameters themselves are clamped to 0..1
    after each step (projected gradient descent). Then the image needs no further
    computation, and a pixel leaves an end of the range as soon as its gradient points inwards.
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
        if self.direct:  # states of older versions may contain values outside 0..1
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
    """Store one value per pixel and channel, as in the original.

    `precondition: p` filters the gradient by 1 / k^p (k in waves per image). With
    `optimizer: sgd` and a squash it has the effect of a sum of all resolutions
    (Fort and Whitaker, "Direct Ascent Synthesis", 2025) with only one tensor.

    Example:
        canvas: {pixels: {squash: sigmoid}}
    """

    name: ClassVar[str] = "pixels"
    sole: ClassVar[str] = "squash"
    editable: ClassVar[bool] = True

    squash: Squash = "clamp"
    """function from stored values to colours"""
    color: Axes = "rgb"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    precondition: Power = 0.0
    """power of the low-pass filter of the gradient: 0 for no filter, 1 to 2 for natural images"""

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return PixelCanvas(start, Finish(self.squash, self.color), self.precondition, wrap)
