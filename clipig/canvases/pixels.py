"""The original's canvas: one number per pixel and channel."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from clipig.canvases.base import Canvas, CanvasSpec, Picture
from clipig.rng import Draw
from clipig.transforms.sampling import Shape, resize


class ClampInward(torch.autograd.Function):
    """Clamp to 0..1; outside, only gradient that leads back inside passes.

    A plain clamp has no gradient outside, so a pixel that left the range would
    never come back (fault W15 of the original).
    """

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        # descent moves against the gradient
        stuck = ((x < 0) & (grad > 0)) | ((x > 1) & (grad < 0))
        return grad.masked_fill(stuck, 0.0)


def clamp_inward(x: Tensor) -> Tensor:
    """Clamp to 0..1 with a gradient that leads back inside."""
    return ClampInward.apply(x)  # type: ignore[no-untyped-call, no-any-return]


def squashed(x: Tensor, how: str) -> Tensor:
    """Raw numbers to colours: `clamp`, `sigmoid`, or `tanh` ((tanh(x) + 1) / 2)."""
    if how == "sigmoid":
        return torch.sigmoid(x)
    if how == "tanh":
        return (torch.tanh(x) + 1) / 2
    return clamp_inward(x)


def unsquashed(rgb: Tensor, how: str, eps: float = 1e-3) -> Tensor:
    """Colours to raw numbers, kept `eps` away from the ends where they are infinite."""
    if how == "sigmoid":
        return torch.logit(rgb, eps)
    if how == "tanh":
        return torch.atanh(rgb.clamp(eps, 1 - eps) * 2 - 1)
    return rgb.clone()


class PixelCanvas(Canvas):
    """`pixels` `[R, 3, H, W]`."""

    def __init__(self, start: Tensor, squash: str):
        self.squash = squash
        raw = unsquashed(start, squash)
        self.parameters = {"pixels": raw.detach().clone().requires_grad_(True)}

    def picture(self, t: Tensor | float) -> Picture:
        return Picture(squashed(self.parameters["pixels"], self.squash))

    def resize(self, size: Shape, mode: str) -> None:
        with torch.no_grad():
            pixels = resize(self.parameters["pixels"], size, mode)
        self._size = size
        self.parameters["pixels"] = pixels.detach().clone().requires_grad_(True)

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return resize(state, self._size)

    def edit(self, rgb: Tensor) -> None:
        with torch.no_grad():
            self.parameters["pixels"].copy_(unsquashed(rgb, self.squash))

    def raw(self) -> Tensor:
        pixels = self.parameters["pixels"].detach()
        return pixels if self.squash == "clamp" else squashed(pixels, self.squash)


class Pixels(CanvasSpec):
    """One number per pixel and channel, as in the original.

    Example:
        canvas: {pixels: {squash: sigmoid}}
    """

    name: ClassVar[str] = "pixels"
    sole: ClassVar[str] = "squash"
    editable: ClassVar[bool] = True

    squash: Literal["clamp", "sigmoid", "tanh"] = "clamp"
    """how raw numbers become colours"""

    def build(self, start: Tensor, size: Shape, draw: Draw, init: str) -> Canvas:
        return PixelCanvas(start, self.squash)
