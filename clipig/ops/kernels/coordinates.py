"""Follows the points of a view back to the canvas: matrices move them, edges limit them.

A `Leg` is one part of the way. Legs do not depend on pixels, so they can be computed for
many steps at once; `walk` follows them in each step. A row of x and a column of y
represent all points until a move rotates or slants them.
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
    """Moves points `(x, y)` to `(x * across + y * down + offset) / depth`.

    Attributes:
        across: `[R|1, N|1, 2, 1, 1]`, change in x and y per unit of x. If `down` is None:
            the factors of x and of y.
        down: `[R|1, N|1, 2, 1, 1]`, change in x and y per unit of y. None if rows of points
            stay rows and columns stay columns.
        offset: `[R|1, N|1, 2, 1, 1]`, image of the origin.
        depth: `[R|1, N|1, 3, 1, 1]`, coefficients of x, y and 1 in the divisor of a
            perspective; None for an affine move.
    """

    across: Tensor
    down: Tensor | None
    offset: Tensor
    depth: Tensor | None = None

    @classmethod
    def by(cls, matrix: Tensor, flat: bool, aligned: bool) -> Move:
        """Build the move from a matrix `[R|1, N|1, 3, 3]`; `flat` and `aligned` as in `Map`."""
        m = matrix[..., None, None]
        across, down, offset = m[:, :, :2, 0], m[:, :, :2, 1], m[:, :, :2, 2]
        if aligned:
            return cls(torch.stack((across[:, :, 0], down[:, :, 1]), 2), None, offset)
        return cls(across, down, offset, None if flat else m[:, :, 2])


@dataclass(frozen=True)
class EdgeMode:
    """Clamps or wraps points at the edge of an input, or covers them with a fill."""

    size: Shape
    wraps: bool
    clamps: bool
    soft: tuple[float, float] | None = None
    """input pixels per view pixel in x and y, for a fill"""
    color: Tensor | None = None


Leg = Move | EdgeMode


@dataclass(frozen=True)
class Points:
    """Coordinates of all points of a view, in pixels.

    Attributes:
        x: `[R|1, N|1, h|1, w]`.
        y: `[R|1, N|1, h, w|1]`.
        both: None as long as a row of x and a column of y suffice, which saves
            computation; then `[R|1, N|1, 2, h, w]`, of which x and y are the halves.
    """

    x: Tensor
    y: Tensor
    both: Tensor | None = None

    @classmethod
    def of(cls, both: Tensor) -> Points:
        """Build the points from `[R|1, N|1, 2, h, w]`."""
        return cls(both[:, :, 0], both[:, :, 1], both)

    def moved(self, by: Move) -> Points:
        """Return the points after a move."""
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
        """Return the points clamped or wrapped at an edge."""
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
        """Return the points as one tensor if `like` is one."""
        return self if like.both is None else Points.of(torch.stack((self.x, self.y), 2))

    def covered(self, edge: EdgeMode) -> Tensor:
        """Share of each view pixel within a fill's input, 0..1: `[R|1, N|1, h, w]`."""
        assert edge.soft is not None
        (height, width), (soft_x, soft_y) = edge.size, edge.soft
        if self.both is None or width != height or soft_x != soft_y:
            return _cover(self.x, width, soft_x) * _cover(self.y, height, soft_y)
        cover = _cover(self.both, width, soft_x)
        return cover[:, :, 0] * cover[:, :, 1]

    def interleaved(self) -> Tensor:
        """Return the points as `grid_sample` expects them, `[R|1, N|1, h, w, 2]`."""
        if self.x.device.type == "mps":
            return torch.stack(torch.broadcast_tensors(self.x, self.y), -1)  # type: ignore[no-untyped-call]
        return torch.view_as_real(torch.complex(self.x, self.y))  # six times faster than stack


Fills = list[tuple[Tensor, Tensor | None]]
"""for each fill: the share of each view pixel that it leaves, `[R|1, N|1, h, w]` in 0..1, and
its colour `[R|1, N|1, 3]` (None: black)"""


def walk(legs: Sequence[Leg], out: Shape, device: torch.device) -> tuple[Points, Fills]:
    """Follow the points of views back to the canvas.

    Args:
        legs: The way, from the view to the canvas.
        out: Height and width of the views.
        device: Device of the result.

    Returns:
        The points at the end of the way, and the fills in the order in which they were met.
    """
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
    """Return the centres of a view's pixels."""
    x = torch.arange(out[1], device=device, dtype=torch.float32).add_(0.5)[None, None, None]
    y = torch.arange(out[0], device=device, dtype=torch.float32).add_(0.5)[None, None, :, None]
    return Points(x, y)


@lru_cache(maxsize=64)
def _known(out: Shape, device: torch.device) -> Points:
    with torch.inference_mode(False):  # cached inference tensors would break later gradients
        return _centres(out, device)


def _cover(x: Tensor, extent: int, soft: float) -> Tensor:
    """Share of a pixel at `x` that lies within 0..extent; the pixel is `soft` wide, at least 1."""
    soft = max(soft, 1.0)
    half = extent / 2
    # 0.5 + (half - |x - half|) / soft, in one buffer
    return (x - half).abs_().mul_(-1 / soft).add_(half / soft + 0.5).clamp_(0, 1)
