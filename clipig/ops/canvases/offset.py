"""Base class of the canvases that add learned content to a fixed image."""

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
    """Return the time as a float32 tensor on the device of `like`, without waiting for it."""
    if isinstance(t, Tensor):
        return t.to(torch.float32)
    return torch.full((), t, dtype=torch.float32, device=like.device)


class OffsetCanvas(Canvas):
    """Shows `rgb = finish(offset + content(t))`.

    The buffer `offset` `[R, 3, H, W]` is not learned. It holds the mean colour of a start
    from noise, or the start image, and takes the changes of post-processing.
    `start_strength` `[R, 1, 1, 1]` is the standard deviation that the content should begin
    with, in stored values.
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
        """Height and width of the image."""
        height, width = self.buffers["offset"].shape[-2:]
        return height, width

    @abstractmethod
    def content(self, t: Tensor | float) -> Tensor:
        """Compute the learned part, stored values `[R, 3, H, W]`."""

    def stored(self, t: Tensor | float) -> Tensor:
        """Return the sum of offset and content, stored values `[R, 3, H, W]`."""
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
