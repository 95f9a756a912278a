"""Stores pixel art: a small grid of cells with few colours."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clipig.ops.base import Positive, fixed
from clipig.ops.canvases.base import Canvas, CanvasSpec, Picture
from clipig.ops.canvases.fields import Count, Rgb, StartEnd
from clipig.ops.canvases.finish import Finish
from clipig.ops.canvases.levels import level_shape, resized
from clipig.ops.canvases.offset import moment
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw, stream_id


def clusters(pixels: Tensor, count: int, rounds: int = 8) -> Tensor:
    """Find the main colours of images by k-means.

    It starts from evenly spaced ranks of brightness, so it needs no random numbers.

    Args:
        pixels: `[R, 3, h, w]`.
        count: K, the number of colours.
        rounds: Number of iterations.

    Returns:
        `[R, K, 3]`.
    """
    rows = pixels.flatten(2).transpose(1, 2)
    order = rows.mean(2).argsort(1)
    ranks = torch.linspace(0, rows.shape[1] - 1, count, device=rows.device).round().long()
    chosen = order[:, ranks]
    centers = rows.gather(1, chosen[..., None].expand(-1, -1, 3))
    for _ in range(rounds):
        nearest = torch.cdist(rows, centers).argmin(2)
        member = torch.nn.functional.one_hot(nearest, count).to(rows.dtype)
        mass = member.sum(1)[..., None]
        centers = torch.where(mass > 0, member.transpose(1, 2) @ rows / mass.clamp(min=1), centers)
    return centers


class PaletteCanvas(Canvas):
    """Learns `cells` `[R, 3, h, w]` and `palette` `[R, K, 3]`, both before the sigmoid.

    A fixed palette is a buffer instead.
    """

    def __init__(self, spec: Palette, start: Tensor, size: Shape, draw: Draw, init: str):
        self.spec, self.size = spec, size
        self.finish = Finish("sigmoid")
        self.parameters, self.buffers = {}, {}
        grid = level_shape(min(spec.cells, max(size)), size)
        runs = start.shape[0]
        with torch.no_grad():
            cells = resized(start, grid, "bilinear").clamp(0, 1)
            if spec.palette is not None:
                colors = start.new_tensor(spec.palette).expand(runs, -1, -1)
            elif init == "picture":
                colors = clusters(cells, spec.colors)
            else:
                spread = draw.uniform(stream_id("canvas", "palette"), 0, (spec.colors, 3))
                colors = start.mean((2, 3))[:, None] + (spread - 0.5) * 0.8
        self.rates = {"cells": spec.cell_rate}
        self.set("cells", self.finish.invert(cells, 0.02))
        stored = torch.logit(colors, 1e-3)
        if spec.palette is None:
            self.set("palette", stored)
        else:
            self.buffers["palette"] = stored.contiguous()

    def colors(self) -> Tensor:
        """The palette, `[R, K, 3]` in 0..1."""
        return torch.sigmoid((self.parameters | self.buffers)["palette"])

    def _distances(self, colors: Tensor) -> Tensor:
        """Squared distances of cells to colours, `[R, h * w, K]`."""
        cells = torch.sigmoid(self.parameters["cells"]).flatten(2).transpose(1, 2)
        return (cells[:, :, None] - colors[:, None]).square().sum(3)

    def indexed(self) -> tuple[Tensor, Tensor]:
        """Return the colour index of each cell, `[R, h, w]` int64, and the palette `[R, K, 3]`."""
        with torch.no_grad():
            colors = self.colors()
            nearest = self._distances(colors).argmin(2)
        return nearest.view(-1, *self.parameters["cells"].shape[-2:]), colors

    def picture(self, t: Tensor | float) -> Picture:
        colors = self.colors()
        distance = self._distances(colors)
        now = moment(t, distance)
        first, last = self.spec.hardness
        soft = torch.softmax(-distance * (first * (last / first) ** now), 2) @ colors
        nearest = distance.argmin(2)[..., None].expand(-1, -1, 3)
        hard = colors.detach().gather(1, nearest)
        # the value moves from the mixture to the nearest colour, the gradient stays the mixture's
        shown = soft + (hard - soft.detach()) * now
        small = shown.transpose(1, 2).reshape(self.parameters["cells"].shape)
        return Picture(resized(small, self.size, "nearest"), indexed=self.indexed)

    def resize(self, size: Shape, mode: str) -> None:
        self.size = size

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return state


class Palette(CanvasSpec):
    """Store pixel art: a grid of cells that share K learned colours, enlarged crisply.

    A cell has its own colour c and shows the mixture `sum_k w_k p_k` of the
    palette's colours, `w = softmax(-h |c - p_k|^2)`. The hardness h grows over
    the run, and the shown colour moves from the mixture to the nearest palette colour,
    which it reaches at the end. So the image can be saved as a PNG with a palette.

    Example:
        canvas: {palette: {cells: 32, colors: 8}}
    """

    name: ClassVar[str] = "palette"

    cells: Count = 32
    """cells along the longer side, whatever the resolution"""
    colors: Annotated[int, fixed(integer=True, minimum=2, maximum=256)] = 8
    """K, the number of colours"""
    palette: Annotated[list[Rgb], Field(min_length=2, max_length=256)] | None = None
    """fixed colours instead of learned ones, each `red green blue` in 0..1"""
    hardness: StartEnd = (20.0, 300.0)
    """h at the start and at the end"""
    cell_rate: Positive = 5.0
    """factor of the learning rate of the cells"""

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return PaletteCanvas(self, start, size, draw, init)
