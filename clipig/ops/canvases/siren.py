"""Stores an image as a function of the position, a small network per run."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import Positive, fixed
from clipig.ops.canvases.base import Canvas, CanvasSpec
from clipig.ops.canvases.finish import Axes, Finish, Squash
from clipig.ops.canvases.offset import OffsetCanvas
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw, stream_id


@lru_cache(maxsize=32)
def places(size: Shape, wrap: bool, device: torch.device) -> Tensor:
    """Compute the network's input for each pixel.

    Returns:
        `[H * W, 2]`, coordinates y and x, -1..1 along the longer side. With `wrap`
        `[H * W, 4]`, sine and cosine of both, so that opposite edges touch.
    """
    longer = max(size)
    y, x = (
        (torch.arange(n, dtype=torch.float32) + 0.5) * (2 / n) - 1 for n in size
    )
    if wrap:
        waves = [f(math.pi * c) / math.pi for c in (y, x) for f in (torch.sin, torch.cos)]
        rows, columns = waves[:2], waves[2:]
    else:
        rows, columns = [y * (size[0] / longer)], [x * (size[1] / longer)]
    grid = [r[:, None].expand(size) for r in rows] + [c[None].expand(size) for c in columns]
    return torch.stack(grid, -1).flatten(0, 1).to(device)


class SirenCanvas(OffsetCanvas):
    """Learns `weight_<i>` `[R, in, out]` and `bias_<i>` `[R, 1, out]` of each layer."""

    def __init__(
        self, spec: Siren, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool
    ):
        super().__init__(start, Finish(spec.squash, spec.color), init, wrap)
        self.spec = spec
        widths = [4 if wrap else 2, *[spec.width] * spec.layers, 3]
        last = spec.layers
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            bound = 1 / n_in if i == 0 else math.sqrt(6 / n_in) / spec.w0
            draws = [
                draw.uniform(stream_id("canvas", "siren", i, what), 0, shape, -1.0, 1.0)
                for what, shape in (("weight", (n_in, n_out)), ("bias", (1, n_out)))
            ]
            weight, bias = draws[0] * bound, draws[1] * bound
            if i == last:
                # deviation of the output: n_in squared sines of mean 1/2 times the variance
                # 1/3 of the uniform weights
                std = math.sqrt(n_in / 6)
                strength = self.start_strength[:, 0].clamp(min=1e-3)
                weight, bias = draws[0] * strength / std, torch.zeros_like(bias)
            self.set(f"weight_{i}", weight)
            self.set(f"bias_{i}", bias)
        self.rates = {name: spec.rate for name in self.parameters}

    def content(self, t: Tensor | float) -> Tensor:
        p, spec = self.parameters, self.spec
        x = places(self.size, self.wrap, self.buffers["offset"].device)
        hidden = x.expand(p["weight_0"].shape[0], -1, -1)
        for i in range(spec.layers):
            layer = torch.baddbmm(p[f"bias_{i}"], hidden, p[f"weight_{i}"])
            hidden = torch.sin(spec.w0 * layer)
        out = torch.baddbmm(p[f"bias_{spec.layers}"], hidden, p[f"weight_{spec.layers}"])
        height, width = self.size
        return out.transpose(1, 2).reshape(-1, 3, height, width)


class Siren(CanvasSpec):
    """Store a network of sines from position to colour: `rgb = squash(offset + net(x, y))`.

    Each layer computes `h_i = sin(w0 (W h + b))`. The weights are drawn so that
    every layer sees arguments of variance one (Sitzmann et al., "Implicit Neural
    Representations with Periodic Activation Functions", 2020; deep-daze). The network has
    no pixels, so it can show the image at any size.

    Example:
        canvas: {siren: {width: 64, layers: 4, w0: 20}}
    """

    name: ClassVar[str] = "siren"
    editable: ClassVar[bool] = True

    width: Annotated[int, fixed(integer=True, minimum=4, maximum=1024)] = 64
    """units per layer"""
    layers: Annotated[int, fixed(integer=True, minimum=1, maximum=64)] = 4
    """hidden layers"""
    w0: Positive = 20.0
    """frequency of the sines: 10 is smooth, 30 is fine"""
    squash: Squash = "sigmoid"
    """function from stored values to colours"""
    color: Axes = "rgb"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    rate: Positive = 0.1
    """factor of the learning rate"""

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return SirenCanvas(self, start, size, draw, init, wrap)
