"""Fused geometry: one sampling from the canvas for any chain of coordinate changes.

Each geometric transform says, for a point of its output, which point of its
input it shows (`Map`) and what lies beyond its input's edge (`EdgeClamp`, `Wrap`,
`Fill`). A chain is walked from the view back to the canvas: maps that follow
one another become one matrix, only edges need the coordinates themselves. The
canvas is then read once, bilinearly, whatever the number of transforms.

Antialiasing happens before the reading, once per run and not per view: the
canvas is reduced as far as all views allow, and if views differ in scale each
reads its own level of a mip atlas (`atlas.py`).

Agreement with doing the transforms one by one, as tests/ops/kernels/test_sampling.py asserts
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

from clipig.ops.kernels import mip_atlas as atlas
from clipig.ops.kernels.coordinates import EdgeMode, Leg, Move, Points, walk
from clipig.ops.kernels.resizing import Shape, resize

__all__ = [
    "EdgeClamp", "Fill", "Map", "Shape", "Stage", "Wrap", "about", "affine", "reduction", "resize",
    "resize_stages", "translation",
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
    aligned: bool = False
    """True if nothing is turned or slanted: x depends on x alone, y on y"""
    plain: bool = False
    """True for a resize of the whole picture"""


@dataclass(frozen=True)
class EdgeClamp:
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


Stage = Map | EdgeClamp | Wrap | Fill


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
    enlarged = affine(((x, 0.0, 0.0), (0.0, y, 0.0)), like)
    return [EdgeClamp(size), Map(enlarged, (x, y), aligned=True, plain=True)]


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


@dataclass(frozen=True)
class Route:
    """A sampling as far as it does not depend on the pixels; `route` makes it.

    frame      size of the pictures to be read
    small      size to which they are reduced first
    out        size of the views
    wrapped    opposite edges meet
    levels     the mip atlas, if views differ in scale
    magnitude  `[R|1, N|1]`, picture pixels per view pixel, for the atlas
    legs       what happens to the points of a view on their way to the canvas
    """

    frame: Shape
    small: Shape
    out: Shape
    wrapped: bool = False
    levels: atlas.Levels | None = None
    magnitude: Tensor | None = None
    legs: tuple[Leg, ...] = ()
    resized: bool = False
    """nothing but resizes: reduce to `small`, then resize to `out`"""


def route(stages: Sequence[Stage], frame: Shape, out: Shape, like: Tensor) -> Route:
    """Work out the way from views of size `out` to pictures of size `frame`.

    `stages`: in the order of the transforms, from canvas to view; within one
    transform the edge comes before the map, as the input's edge does.
    """
    if _only_resizes(stages):
        return Route(frame, reduction(stages, frame), out, resized=True)
    wrapped = isinstance(stages[0], Wrap) and stages[0].size == frame
    small = _kept(reduction(stages, frame), frame)
    levels = atlas.layout(small, _span(stages, frame, small), guard=int(wrapped))
    scale = (small[1] / frame[1], small[0] / frame[0])
    if levels is not None:
        goal = affine(((scale[0], 0.0, 0.0), (0.0, scale[1], 0.0)), like)
        legs = _trace(stages, out, frame, goal)
        return Route(frame, small, out, wrapped, levels, _magnitude(stages, scale), legs)
    seam = float(wrapped)
    across, down = small[1] + 2 * seam, small[0] + 2 * seam
    goal = affine(((scale[0] * 2 / across, 0.0, 2 * seam / across - 1),
                   (0.0, scale[1] * 2 / down, 2 * seam / down - 1)), like)
    return Route(frame, small, out, wrapped, legs=_trace(stages, out, frame, goal))


def follow(source: Tensor, way: Route, views: int) -> tuple[Tensor, list[Tensor]]:
    """Views of pictures, and masks to be multiplied with them: where it is black.

    `source`: `[R, C, H, W]`, one picture per run, shown in `views` ways, or
    `[R, N, C, H, W]`, views that are sampled again one by one.
    Returns `[R, N, C, *out]` (`[R, C, *out]` if all views of a run are equal) and
    `[R|1, N|1, *out]` each.
    """
    shared = source.ndim == 4
    pictures = source if shared else source.flatten(0, 1)
    if way.resized:
        read = resize(resize(pictures, way.small), way.out)
        return read if shared else read.view(*source.shape[:2], *read.shape[1:]), []

    pictures = resize(pictures, way.small, wrap=way.wrapped)
    points, fills = walk(way.legs, way.out, source.device)
    if way.levels is not None:
        pictures = way.levels.pack(pictures, way.wrapped)
        assert way.magnitude is not None
        points = Points(*way.levels.place(points.x, points.y, way.magnitude))
    elif way.wrapped:  # so that the seam is interpolated too
        pictures = F.pad(pictures, (1, 1, 1, 1), mode="circular")
    grid = points.interleaved().expand(source.shape[0], views, *way.out, 2)
    read = _read_shared(pictures, grid) if shared else _read_each(pictures, grid)
    if all(color is None for _, color in fills):
        return read, [inside for inside, _ in fills]
    for inside, color in reversed(fills):
        if color is None:
            read = read * inside[:, :, None]
        else:
            read = torch.lerp(color[..., None, None].to(read.dtype), read, inside[:, :, None])
    return read, []


def _only_resizes(stages: Sequence[Stage]) -> bool:
    """Whether a chain changes nothing but the size."""
    edges, maps = stages[0::2], stages[1::2]
    return len(edges) == len(maps) and all(
        isinstance(edge, EdgeClamp) and isinstance(m, Map) and m.plain
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


def _trace(stages: Sequence[Stage], out: Shape, frame: Shape, goal: Tensor) -> tuple[Leg, ...]:
    """From the points of a view back to those of the canvas, moved by `goal` at last."""
    legs: list[Leg] = []
    pending: Tensor | None = None
    flat = aligned = True
    soft = [1.0, 1.0]  # pixels of the present frame that one view pixel spans
    reach: list[float] | None = [0.5, 0.5]  # how far all points keep from the edges, if known
    for position in range(len(stages) - 1, -1, -1):
        stage = stages[position]
        if isinstance(stage, Map):
            pending = stage.matrix if pending is None else stage.matrix @ pending
            flat, aligned = flat and stage.flat, aligned and stage.aligned
            soft = [s * z for s, z in zip(soft, stage.zoom, strict=True)]
            reach = [r * z for r, z in zip(reach, stage.zoom, strict=True)] if (
                stage.plain and reach is not None) else None
            continue
        inside = reach is not None and min(reach) >= 0.5
        innermost = position == 0 and stage.size == frame
        if isinstance(stage, EdgeClamp) and (innermost or inside):
            continue  # nothing beyond it, or the sampler clamps by itself
        if pending is not None:
            legs.append(Move.by(pending, flat, aligned))
            pending, flat, aligned = None, True, True
        reach = None
        fill = isinstance(stage, Fill)
        legs.append(EdgeMode(
            stage.size, isinstance(stage, Wrap), not innermost,
            (soft[0], soft[1]) if fill else None, stage.color if isinstance(stage, Fill) else None,
        ))
    legs.append(Move.by(goal if pending is None else goal @ pending, flat, aligned))
    return tuple(legs)
