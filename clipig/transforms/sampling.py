"""Fused geometry: one sampling from the canvas for any chain of coordinate changes.

Each geometric transform says, for a point of its output, which point of its
input it shows (`Affine`, `Homography`) and what lies beyond its input's edge
(`Clamp`, `Wrap`, `Fill`). A chain is walked from the view back to the canvas:
maps that follow one another become one matrix, only edges need the coordinates
themselves. The canvas is then read once, bilinearly, whatever the number of
transforms; before that it is reduced, antialiased, once per run, if the view
shows it smaller than it is.

Coordinates are continuous pixels `(x, y)`; the centre of the first pixel is
(0.5, 0.5), the frame is [0, W] x [0, H].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int]
"""height, width"""


@dataclass(frozen=True)
class Map:
    """Output point -> input point: `matrix` `[R|1, N|1, 3, 3]`; affine if `flat`.

    `zoom` is how many input pixels one output pixel spans, per axis (x, y), at
    least; it decides how far the canvas may be reduced beforehand.
    """

    matrix: Tensor
    zoom: tuple[float, float] = (1.0, 1.0)
    flat: bool = True


@dataclass(frozen=True)
class Clamp:
    """Beyond the input's edge: its nearest pixel."""

    size: Shape


@dataclass(frozen=True)
class Wrap:
    """Beyond the input's edge: the opposite side."""

    size: Shape


@dataclass(frozen=True)
class Fill:
    """Beyond the input's edge: a colour, `[R|1, N|1, 3]`."""

    size: Shape
    color: Tensor


Stage = Map | Clamp | Wrap | Fill


def affine(rows: Sequence[Sequence[Tensor | float]], like: Tensor) -> Tensor:
    """A `[R, N, 3, 3]` matrix from 2 x 3 entries, each a number or `[R|1, N|1]`."""
    entries = [torch.as_tensor(e, dtype=like.dtype, device=like.device) for r in rows for e in r]
    zero, one = like.new_zeros(()), like.new_ones(())
    entries += [zero, zero, one]
    stacked = torch.stack(torch.broadcast_tensors(*entries), -1)
    if stacked.ndim == 1:
        stacked = stacked[None, None]
    return stacked.unflatten(-1, (3, 3))


def translation(x: Tensor | float, y: Tensor | float, like: Tensor) -> Tensor:
    """Output point (x', y') shows input point (x' + x, y' + y)."""
    return affine(((1.0, 0.0, x), (0.0, 1.0, y)), like)


def about(center: tuple[Tensor | float, Tensor | float], a: Tensor, b: Tensor,
          c: Tensor, d: Tensor) -> Tensor:
    """The linear map [[a, b], [c, d]] around a fixed point; entries `[R|1, N|1]`."""
    x, y = center
    return affine(((a, b, x - a * x - b * y), (c, d, y - c * x - d * y)), a)


def reduction(stages: Sequence[Stage], canvas: Shape) -> Shape:
    """The size at which a chain needs its input: smaller if all of it is shown reduced."""
    zoom_x = zoom_y = 1.0
    for stage in stages:
        if isinstance(stage, Map):
            zoom_x, zoom_y = zoom_x * stage.zoom[0], zoom_y * stage.zoom[1]
    height, width = canvas
    return (
        max(1, round(height / zoom_y)) if zoom_y > 1 else height,
        max(1, round(width / zoom_x)) if zoom_x > 1 else width,
    )


def resize(pictures: Tensor, size: Shape, mode: str = "bilinear") -> Tensor:
    """Resize `[B, C, H, W]`, antialiased where it shrinks; mode nearest, bilinear or bicubic."""
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    if mode == "nearest":
        return F.interpolate(pictures, size=size, mode="nearest-exact")
    return F.interpolate(pictures, size=size, mode=mode, align_corners=False, antialias=True)


def sample(source: Tensor, stages: Sequence[Stage], out: Shape, views: int) -> Tensor:
    """Views of pictures.

    `source`: `[R, C, H, W]`, one picture per run, shown in `views` ways, or
    `[R, N, C, H, W]`, views that are sampled again one by one.
    `stages`: in the order of the transforms, from canvas to view; within one
    transform the edge comes before the map, as the input's edge does.
    Returns `[R, N, C, *out]`.
    """
    shared = source.ndim == 4
    runs = source.shape[0]
    frame: Shape = (source.shape[-2], source.shape[-1])
    pictures = source if shared else source.flatten(0, 1)
    per = views if shared else 1
    if not stages and frame == out:
        return source[:, None].expand(-1, views, -1, -1, -1) if shared else source
    x, y, fills = _trace(stages, out, frame, source)
    wrapped = isinstance(_last_edge(stages, frame), Wrap)
    small = reduction(stages, frame)
    pictures = resize(pictures, small)
    if wrapped:  # so that the seam is interpolated too
        pictures = F.pad(pictures, (1, 1, 1, 1), mode="circular")
        scale_x, scale_y = small[1] / frame[1], small[0] / frame[0]
        x = (x * scale_x + 1) * (2 / (small[1] + 2)) - 1
        y = (y * scale_y + 1) * (2 / (small[0] + 2)) - 1
    else:
        x, y = x * (2 / frame[1]) - 1, y * (2 / frame[0]) - 1
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)
    grid = grid.expand(runs, views, *out, 2)
    # the views of a run lie below one another in one grid: the canvas is read in
    # place and its gradient is gathered in one buffer instead of N copies
    grid = grid.reshape(runs, views * out[0], out[1], 2) if shared else grid.flatten(0, 1)
    read = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border",
                         align_corners=False)
    if shared:
        read = read.unflatten(2, (per, out[0])).transpose(1, 2)
    else:
        read = read.unflatten(0, (runs, views))
    for inside, color in reversed(fills):
        read = torch.where(inside[:, :, None], read, color[..., None, None])
    return read


def _last_edge(stages: Sequence[Stage], frame: Shape) -> Stage | None:
    """The edge rule of the canvas itself, if it has one."""
    for stage in stages:
        if not isinstance(stage, Map):
            return stage if stage.size == frame else None
        return None
    return None


def _trace(
    stages: Sequence[Stage], out: Shape, frame: Shape, like: Tensor
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Canvas coordinates of each output pixel, and the masks of the fills on the way."""
    x = torch.arange(out[1], device=like.device, dtype=torch.float32).add_(0.5)[None, None, None]
    y = torch.arange(out[0], device=like.device, dtype=torch.float32).add_(0.5)[None, None, :, None]
    pending: Tensor | None = None
    flat = True
    fills: list[tuple[Tensor, Tensor]] = []
    for position in range(len(stages) - 1, -1, -1):
        stage = stages[position]
        if isinstance(stage, Map):
            pending = stage.matrix if pending is None else stage.matrix @ pending
            flat = flat and stage.flat
            continue
        if position == 0 and isinstance(stage, Clamp) and stage.size == frame:
            continue  # the sampler clamps at the canvas's edge by itself
        if pending is not None:
            x, y = _move(x, y, pending, flat)
            pending, flat = None, True
        height, width = stage.size
        if isinstance(stage, Clamp):
            x, y = x.clamp(0.5, width - 0.5), y.clamp(0.5, height - 0.5)
        elif isinstance(stage, Wrap):
            x, y = x.remainder(width), y.remainder(height)
        else:
            inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
            fills.append((inside, stage.color))
    if pending is not None:
        x, y = _move(x, y, pending, flat)
    return x, y, fills


def _move(x: Tensor, y: Tensor, matrix: Tensor, flat: bool) -> tuple[Tensor, Tensor]:
    m = matrix[..., None, None]
    out_x = m[:, :, 0, 0] * x + m[:, :, 0, 1] * y + m[:, :, 0, 2]
    out_y = m[:, :, 1, 0] * x + m[:, :, 1, 1] * y + m[:, :, 1, 2]
    if flat:
        return out_x, out_y
    depth = (m[:, :, 2, 0] * x + m[:, :, 2, 1] * y + m[:, :, 2, 2]).clamp(min=1e-6)
    return out_x / depth, out_y / depth
