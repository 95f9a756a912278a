"""The points of a view on their way to the canvas: matrices move them, edges hold them back.

What does not depend on the step's pixels is kept in legs, which can be worked out
for many steps at once; `walk` does the rest. A row of x and a column of y are
all there is until something turns or slants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clipig.ops.kernels.resizing import Shape


@dataclass(frozen=True)
class Move:
    """Points `(x, y)` to `x * across + y * down + offset`, divided by a depth if it has one.

    `across`, `down`, `offset`: `[R|1, N|1, 2, 1, 1]`, what a step in x, a step in
    y and the origin give in x and y. `depth` `[R|1, N|1, 3, 1, 1]` likewise.
    If `down` is None, rows of points stay rows and columns stay columns, and
    `across` holds a factor for x and one for y.
    """

    across: Tensor
    down: Tensor | None
    offset: Tensor
    depth: Tensor | None = None

    @classmethod
    def by(cls, matrix: Tensor, flat: bool, aligned: bool) -> Move:
        m = matrix[..., None, None]
        across, down, offset = m[:, :, :2, 0], m[:, :, :2, 1], m[:, :, :2, 2]
        if aligned:
            return cls(torch.stack((across[:, :, 0], down[:, :, 1]), 2), None, offset)
        return cls(across, down, offset, None if flat else m[:, :, 2])


@dataclass(frozen=True)
class EdgeMode:
    """What an edge does to points: clamp or wrap them, and how much they show of a fill."""

    size: Shape
    wraps: bool
    clamps: bool
    soft: tuple[float, float] | None = None
    """input pixels per view pixel in x and y, for a fill"""
    color: Tensor | None = None


Leg = Move | EdgeMode


@dataclass(frozen=True)
class Points:
    """Coordinates of all points of a view: `x` `[R|1, N|1, h|1, w]` and `y` `[R|1, N|1, h, w|1]`.

    As long as they are a row and a column (`both` is None), little is computed;
    then they are the halves of `both` `[R|1, N|1, 2, h, w]`.
    """

    x: Tensor
    y: Tensor
    both: Tensor | None = None

    @classmethod
    def of(cls, both: Tensor) -> Points:
        return cls(both[:, :, 0], both[:, :, 1], both)

    def moved(self, by: Move) -> Points:
        """Where a move takes them."""
        if by.down is None and self.both is None:
            return Points(self.x * by.across[:, :, 0] + by.offset[:, :, 0],
                          self.y * by.across[:, :, 1] + by.offset[:, :, 1])
        if by.down is None:
            assert self.both is not None
            return Points.of((self.both * by.across).add_(by.offset))
        x, y = self.x[:, :, None], self.y[:, :, None]
        both = (x * by.across).add_(by.offset) + y * by.down
        if by.depth is not None:
            a, b, c = by.depth[:, :, :1], by.depth[:, :, 1:2], by.depth[:, :, 2:]
            both = both / (a * x + b * y + c).clamp(min=1e-6)
        return Points.of(both)

    def kept(self, edge: EdgeMode) -> Points:
        """Where an edge lets them be."""
        height, width = edge.size
        if edge.wraps:
            if self.both is None or width != height:
                return Points(self.x.remainder(width), self.y.remainder(height)).joined(self)
            return Points.of(self.both.remainder(width))
        if not edge.clamps:
            return self
        if self.both is None or width != height:
            return Points(self.x.clamp(0.5, width - 0.5),
                          self.y.clamp(0.5, height - 0.5)).joined(self)
        return Points.of(self.both.clamp(0.5, width - 0.5))

    def joined(self, like: Points) -> Points:
        """As one tensor if those before were."""
        return self if like.both is None else Points.of(torch.stack((self.x, self.y), 2))

    def covered(self, edge: EdgeMode) -> Tensor:
        """How much of each view pixel lies within a fill's input, `[R|1, N|1, h, w]`."""
        assert edge.soft is not None
        (height, width), (soft_x, soft_y) = edge.size, edge.soft
        if self.both is None or width != height or soft_x != soft_y:
            return _cover(self.x, width, soft_x) * _cover(self.y, height, soft_y)
        cover = _cover(self.both, width, soft_x)
        return cover[:, :, 0] * cover[:, :, 1]

    def interleaved(self) -> Tensor:
        """`[R|1, N|1, h, w, 2]`, as samplers want it."""
        if self.x.device.type == "mps":
            return torch.stack(torch.broadcast_tensors(self.x, self.y), -1)  # type: ignore[no-untyped-call]
        return torch.view_as_real(torch.complex(self.x, self.y))  # a sixth of stack's time


Fills = list[tuple[Tensor, Tensor | None]]
"""how much of each view pixel a fill leaves `[R|1, N|1, h, w]`, and its colour (None is black)"""


def walk(legs: Sequence[Leg], out: Shape, device: torch.device) -> tuple[Points, Fills]:
    """Where the points of views of size `out` lie in the end, and the fills on the way."""
    points = _known(out, device)
    fills: Fills = []
    for leg in legs:
        if isinstance(leg, Move):
            points = points.moved(leg)
            continue
        if leg.soft is not None:
            fills.append((points.covered(leg), leg.color))
        points = points.kept(leg)
    return points, fills


def _centres(out: Shape, device: torch.device) -> Points:
    """The centres of a view's pixels."""
    x = torch.arange(out[1], device=device, dtype=torch.float32).add_(0.5)[None, None, None]
    y = torch.arange(out[0], device=device, dtype=torch.float32).add_(0.5)[None, None, :, None]
    return Points(x, y)


@lru_cache(maxsize=64)
def _known(out: Shape, device: torch.device) -> Points:
    with torch.inference_mode(False):  # tensors that any later step may use
        return _centres(out, device)


def _cover(x: Tensor, extent: int, soft: float) -> Tensor:
    """How much of a pixel at `x` lies within 0..extent, for pixels of `soft` (at least 1)."""
    soft = max(soft, 1.0)
    half = extent / 2
    # 0.5 + (half - |x - half|) / soft, in one buffer
    return (x - half).abs_().mul_(-1 / soft).add_(half / soft + 0.5).clamp_(0, 1)
