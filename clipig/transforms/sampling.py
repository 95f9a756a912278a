"""Fused geometry: one sampling from the canvas for any chain of coordinate changes.

Each geometric transform says, for a point of its output, which point of its
input it shows (`Map`) and what lies beyond its input's edge (`Clamp`, `Wrap`,
`Fill`). A chain is walked from the view back to the canvas: maps that follow
one another become one matrix, only edges need the coordinates themselves. The
canvas is then read once, bilinearly, whatever the number of transforms.

Antialiasing happens before the reading, once per run and not per view: the
canvas is reduced as far as all views allow, and if views differ in scale each
reads its own level of a mip atlas (`atlas.py`).

Agreement with doing the transforms one by one, as tests/test_sampling.py asserts
it for pictures in 0..1: chains of whole-pixel moves differ by less than 2e-3 even
on noise (rounding of coordinates). Other chains save the interpolations in
between: on a smooth picture the ten chains of the test differ by less than 0.005
in the mean, and by up to 0.4 in single pixels, at black borders and seams that
the two ways cut differently. On noise, single pixels of views that are rotated
and reduced differ much more; only the contrast agrees, within 3 %.

Coordinates are continuous pixels `(x, y)`; the centre of the first pixel is
(0.5, 0.5), the frame is [0, W] x [0, H].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.transforms import atlas
from clipig.transforms.resizing import Shape, resize

__all__ = [
    "Clamp", "Fill", "Map", "Shape", "Stage", "Wrap", "about", "affine", "reduction", "resize",
    "resize_stages", "sample", "translation",
]


@dataclass(frozen=True)
class Map:
    """Output point -> input point: `matrix` `[R|1, N|1, 3, 3]`; affine if `flat`.

    How many input pixels one output pixel spans decides about antialiasing:
    `zoom` per axis (x, y), times `spread` `[R|1, N|1]` if views differ. `reach`
    is what is known of the spread beforehand: its least and greatest value.
    """

    matrix: Tensor
    zoom: tuple[float, float] = (1.0, 1.0)
    spread: Tensor | None = None
    reach: tuple[float, float] = (1.0, 1.0)
    flat: bool = True
    plain: bool = False
    """True for a resize of the whole picture"""


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
    """Beyond the input's edge: a colour `[R|1, N|1, 3]`, or black.

    The edge itself is as soft as if pixels of that colour lay around the input.
    """

    size: Shape
    color: Tensor | None = None


Stage = Map | Clamp | Wrap | Fill


def affine(rows: Sequence[Sequence[Tensor | float]], like: Tensor) -> Tensor:
    """A `[R|1, N|1, 3, 3]` matrix from 2 x 3 entries, each a number or `[R|1, N|1]`."""
    entries = [e for row in rows for e in row] + [0.0, 0.0, 1.0]
    # new_full and not tensor(): a copy from the host would wait for the device
    tensors = [e if isinstance(e, Tensor) else like.new_full((1, 1), float(e)) for e in entries]
    stacked = torch.stack(torch.broadcast_tensors(*tensors), -1)  # type: ignore[no-untyped-call]
    return stacked.view(*stacked.shape[:-1], 3, 3)


def translation(x: Tensor | float, y: Tensor | float, like: Tensor) -> Tensor:
    """Output point (x', y') shows input point (x' + x, y' + y)."""
    return affine(((1.0, 0.0, x), (0.0, 1.0, y)), like)


def about(center: tuple[Tensor | float, Tensor | float], a: Tensor, b: Tensor,
          c: Tensor, d: Tensor) -> Tensor:
    """The linear map [[a, b], [c, d]] around a fixed point; entries `[R|1, N|1]`."""
    x, y = center
    return affine(((a, b, x - a * x - b * y), (c, d, y - c * x - d * y)), a)


def resize_stages(size: Shape, out: Shape, like: Tensor) -> list[Stage]:
    """What shows a picture of one size at another."""
    if size == out:
        return []
    x, y = size[1] / out[1], size[0] / out[0]
    return [Clamp(size), Map(affine(((x, 0.0, 0.0), (0.0, y, 0.0)), like), (x, y), plain=True)]


def reduction(stages: Sequence[Stage], canvas: Shape) -> Shape:
    """The size at which a chain needs its input: smaller if all of it is shown reduced.

    It is the smallest that any step of the chain leaves of the canvas, so that
    `resize: 16` followed by `resize: 224` shows 16 pixels enlarged.
    """
    zoom_x, zoom_y, most_x, most_y = 1.0, 1.0, 1.0, 1.0
    for stage in stages:
        if isinstance(stage, Map):
            zoom_x, zoom_y = (z * f * stage.reach[0] for z, f in
                              zip((zoom_x, zoom_y), stage.zoom, strict=True))
            most_x, most_y = max(most_x, zoom_x), max(most_y, zoom_y)
    return max(1, round(canvas[0] / most_y)), max(1, round(canvas[1] / most_x))


def _kept(size: Shape, frame: Shape) -> Shape:
    """The size to which a picture of `frame` is reduced before it is read at about `size`.

    Reading bilinearly between pixels blurs too, so up to `atlas.SHARPNESS` times
    more is kept. With it the result has the contrast of a resize that comes last.
    """
    height, width = (
        min(whole, round(wanted * (1 + (atlas.SHARPNESS - 1) * min(1.0, 2 * (whole / wanted - 1)))))
        for wanted, whole in zip(size, frame, strict=True)
    )
    return height, width


def sample(source: Tensor, stages: Sequence[Stage], out: Shape, views: int) -> Tensor:
    """Views of pictures.

    `source`: `[R, C, H, W]`, one picture per run, shown in `views` ways, or
    `[R, N, C, H, W]`, views that are sampled again one by one.
    `stages`: in the order of the transforms, from canvas to view; within one
    transform the edge comes before the map, as the input's edge does.
    Returns `[R, N, C, *out]`.
    """
    shared = source.ndim == 4
    frame: Shape = (source.shape[-2], source.shape[-1])
    pictures = source if shared else source.flatten(0, 1)
    if _only_resizes(stages):
        read = resize(pictures, reduction(stages, frame))
        read = resize(read, out)
        if shared:
            return read[:, None].expand(-1, views, -1, -1, -1)
        return read.view(*source.shape[:2], *read.shape[1:])

    wrapped = isinstance(stages[0], Wrap) and stages[0].size == frame
    small = _kept(reduction(stages, frame), frame)
    pictures = resize(pictures, small, wrap=wrapped)
    levels = atlas.layout(small, _span(stages, frame, small), guard=int(wrapped))
    if levels is None and wrapped:  # so that the seam is interpolated too
        pictures = F.pad(pictures, (1, 1, 1, 1), mode="circular")
    scale = (small[1] / frame[1], small[0] / frame[0])
    if levels is None:
        seam = float(wrapped)
        across, down = small[1] + 2 * seam, small[0] + 2 * seam
        goal = affine(((scale[0] * 2 / across, 0.0, 2 * seam / across - 1),
                       (0.0, scale[1] * 2 / down, 2 * seam / down - 1)), source)
        x, y, fills = _trace(stages, out, frame, goal)
    else:
        goal = affine(((scale[0], 0.0, 0.0), (0.0, scale[1], 0.0)), source)
        x, y, fills = _trace(stages, out, frame, goal)
        pictures = levels.pack(pictures, wrapped)
        x, y = levels.place(x, y, _magnitude(stages, scale))
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)  # type: ignore[no-untyped-call]
    grid = grid.expand(source.shape[0], views, *out, 2)
    read = _read_shared(pictures, grid) if shared else _read_each(pictures, grid)
    for inside, color in reversed(fills):
        if color is None:
            read = read * inside[:, :, None]
        else:
            read = torch.lerp(color[..., None, None].to(read.dtype), read, inside[:, :, None])
    return read


def _only_resizes(stages: Sequence[Stage]) -> bool:
    """Whether a chain changes nothing but the size."""
    edges, maps = stages[0::2], stages[1::2]
    return len(edges) == len(maps) and all(
        isinstance(edge, Clamp) and isinstance(m, Map) and m.plain
        for edge, m in zip(edges, maps, strict=True)
    )


def _read_shared(pictures: Tensor, grid: Tensor) -> Tensor:
    """Read `[R, C, H, W]` at `[R, N, h, w, 2]`: `[R, N, C, h, w]`.

    The views of a run lie below one another in one grid: the canvas is read in
    place and its gradient is gathered in one buffer instead of N copies. The
    CPU's sampler works on the pictures of a batch in parallel; if there are
    fewer pictures than threads, each thread gets a copy and a share of the views.
    """
    runs, views, height, width = grid.shape[:4]
    copies = _copies(pictures, grid)
    if copies > 1:
        pictures = pictures.repeat_interleave(copies, 0)
    rows = grid.reshape(runs * copies, views // copies * height, width, 2)
    read = _grid_sample(pictures, rows)
    channels = read.shape[1]
    read = read.view(runs * copies, channels, views // copies, height, width).transpose(1, 2)
    return read.reshape(runs, views, channels, height, width) if copies > 1 else read


def _read_each(pictures: Tensor, grid: Tensor) -> Tensor:
    """Read `[R*N, C, H, W]` at `[R, N, h, w, 2]`: `[R, N, C, h, w]`."""
    read = _grid_sample(pictures, grid.flatten(0, 1))
    return read.view(*grid.shape[:2], *read.shape[1:])


def _grid_sample(pictures: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(pictures, grid.to(pictures.dtype), mode="bilinear",
                         padding_mode="border", align_corners=False)


def _copies(pictures: Tensor, grid: Tensor) -> int:
    """How many copies of each picture pay: a divisor of the views, 1 on a GPU."""
    runs, views, height, width = grid.shape[:4]
    if pictures.device.type != "cpu" or runs > 1:
        return 1
    read, held = views * height * width, pictures.shape[-2] * pictures.shape[-1]
    most = min(torch.get_num_threads(), read // (2 * held))
    return max((n for n in range(1, most + 1) if views % n == 0), default=1)


def _span(stages: Sequence[Stage], frame: Shape, small: Shape) -> float:
    """How much smaller than the reduced canvas a view may show it, at most."""
    now = most = (small[0] / frame[0] * small[1] / frame[1]) ** 0.5
    for stage in stages:
        if isinstance(stage, Map):
            now *= (stage.zoom[0] * stage.zoom[1]) ** 0.5 * stage.reach[1]
            most = max(most, now)
    varied = any(isinstance(s, Map) and s.spread is not None for s in stages)
    return most if varied else 1.0


def _magnitude(stages: Sequence[Stage], scale: tuple[float, float]) -> Tensor:
    """Pixels of the reduced canvas per view pixel, `[R|1, N|1]`: the most on the way."""
    fixed = (scale[0] * scale[1]) ** 0.5
    now: Tensor | None = None
    most: Tensor | None = None
    floor = fixed
    for stage in stages:
        if not isinstance(stage, Map):
            continue
        fixed *= (stage.zoom[0] * stage.zoom[1]) ** 0.5
        if stage.spread is not None:
            now = stage.spread if now is None else now * stage.spread
        if now is None:
            floor = max(floor, fixed)
        else:
            most = now * fixed if most is None else torch.maximum(most, now * fixed)
    assert most is not None
    return most.clamp(min=floor)


_Fills = list[tuple[Tensor, Tensor | None]]


def _trace(
    stages: Sequence[Stage], out: Shape, frame: Shape, goal: Tensor
) -> tuple[Tensor, Tensor, _Fills]:
    """Canvas coordinates of each output pixel, moved by `goal`, and the fills on the way."""
    x = torch.arange(out[1], device=goal.device, dtype=torch.float32).add_(0.5)[None, None, None]
    y = torch.arange(out[0], device=goal.device, dtype=torch.float32).add_(0.5)[None, None, :, None]
    pending: Tensor | None = None
    flat = True
    soft_x = soft_y = 1.0  # pixels of the present frame that one view pixel spans
    fills: _Fills = []
    for position in range(len(stages) - 1, -1, -1):
        stage = stages[position]
        if isinstance(stage, Map):
            pending = stage.matrix if pending is None else stage.matrix @ pending
            flat = flat and stage.flat
            soft_x, soft_y = soft_x * stage.zoom[0], soft_y * stage.zoom[1]
            continue
        innermost = position == 0 and stage.size == frame
        if innermost and isinstance(stage, Clamp):
            continue  # the sampler clamps at the canvas's edge by itself
        if pending is not None:
            x, y = _move(x, y, pending, flat)
            pending, flat = None, True
        height, width = stage.size
        if isinstance(stage, Wrap):
            x, y = x.remainder(width), y.remainder(height)
            continue
        if isinstance(stage, Fill):
            inside = _cover(x, width, soft_x) * _cover(y, height, soft_y)
            fills.append((inside, stage.color))
        if not innermost:
            x, y = x.clamp(0.5, width - 0.5), y.clamp(0.5, height - 0.5)
    x, y = _move(x, y, goal if pending is None else goal @ pending, flat)
    return x, y, fills


def _cover(x: Tensor, extent: int, soft: float) -> Tensor:
    """How much of a pixel at `x` lies within 0..extent, for pixels of `soft` (at least 1)."""
    soft = max(soft, 1.0)
    half = extent / 2
    # 0.5 + (half - |x - half|) / soft, in one buffer
    return (x - half).abs_().mul_(-1 / soft).add_(half / soft + 0.5).clamp_(0, 1)


def _move(x: Tensor, y: Tensor, matrix: Tensor, flat: bool) -> tuple[Tensor, Tensor]:
    """Apply a matrix to points; x and y may be a row and a column, then little is computed."""
    m = matrix[..., None, None]
    out_x = torch.addcmul(torch.addcmul(m[:, :, 0, 2], m[:, :, 0, 0], x), m[:, :, 0, 1], y)
    out_y = torch.addcmul(torch.addcmul(m[:, :, 1, 2], m[:, :, 1, 1], y), m[:, :, 1, 0], x)
    if flat:
        return out_x, out_y
    depth = (m[:, :, 2, 0] * x + m[:, :, 2, 1] * y + m[:, :, 2, 2]).clamp(min=1e-6)
    return out_x / depth, out_y / depth
