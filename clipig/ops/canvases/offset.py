"""Canvases that are drawn on top of a fixed picture."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from clipig.ops.canvases.base import Canvas, Picture
from clipig.ops.canvases.finish import Finish
from clipig.ops.canvases.levels import resized
from clipig.ops.canvases.precondition import precondition
from clipig.ops.kernels.sampling import Shape


def moment(t: Tensor | float, like: Tensor) -> Tensor:
    """Time as a float32 tensor on the device of `like`, without waiting for it."""
    if isinstance(t, Tensor):
        return t.to(torch.float32)
    return torch.full((), t, dtype=torch.float32, device=like.device)


class OffsetCanvas(Canvas):
    """`rgb = finish(offset + content(t))`.

    `offset` `[R, 3, H, W]` is not learned. For a start from noise it is the
    mean colour, for a start from a picture that picture, and what
    post-processing changes goes there. `start_strength` `[R, 1, 1, 1]` is the
    standard deviation that the content should begin with, in stored numbers.
    """

    def __init__(self, start: Tensor, finish: Finish, init: str, wrap: bool, power: float = 0.0):
        self.finish, self.wrap, self.power = finish, wrap, power
        size = (start.shape[-2], start.shape[-1])
        with torch.no_grad():
            if init == "picture":
                offset = finish.invert(start)
                self.start_strength = torch.zeros_like(start[:, :1, :1, :1])
            else:
                mean = finish.invert(start.mean((2, 3), keepdim=True), eps=0.05)
                offset = mean.expand(-1, -1, *size).contiguous()
                self.start_strength = finish.strength(start)
        self.parameters = {}
        self.buffers = {"offset": offset.clone()}

    @property
    def size(self) -> Shape:
        """Height and width of the picture."""
        height, width = self.buffers["offset"].shape[-2:]
        return height, width

    @abstractmethod
    def content(self, t: Tensor | float) -> Tensor:
        """What is learned: stored numbers `[R, 3, H, W]`."""

    def stored(self, t: Tensor | float) -> Tensor:
        """Offset and content together."""
        return precondition(self.buffers["offset"] + self.content(t), self.power)

    def picture(self, t: Tensor | float) -> Picture:
        return Picture(self.finish.show(self.stored(t)))

    def resize(self, size: Shape, mode: str) -> None:
        with torch.no_grad():
            self.buffers["offset"] = resized(self.buffers["offset"], size, mode, self.wrap)

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return state

    @torch.no_grad()
    def edit(self, rgb: Tensor) -> None:
        self.buffers["offset"] = self.finish.invert(rgb) - self.content(1.0)

    @torch.no_grad()
    def raw(self) -> Tensor:
        return self.finish.raw(self.stored(1.0))
