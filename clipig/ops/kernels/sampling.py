"""Fused geometry: one sampling from the canvas for any chain of coordinate changes.

Each geometric transform defines which point of its input a point of its output
shows (`Map`), and how its input continues beyond the edge (`EdgeClamp`, `Wrap`,
`Fill`). A chain is followed from the view back to the canvas: neighbouring maps
become one matrix, and only edges need the coordinates themselves. The canvas is
then sampled once, bilinearly, whatever the number of transforms.

Antialiasing happens before the sampling, once per run and not per view: the
canvas is reduced as far as all views allow, and if views differ in scale, each
samples its own level of a mip atlas (`mip_atlas.py`).

tests/ops/kernels/test_sampling.py compares the result, for images in 0..1, with the
transforms applied one by one. Chains of whole-pixel moves differ by less than 2e-3 even
on noise (rounding of coordinates). Other chains avoid the interpolations in
between: on a smooth image the ten chains of the test differ by less than 0.005
in the mean, and by up to 0.4 in single pixels, at black borders and seams that
the two methods cut differently. On noise, single pixels of views that are rotated
and reduced differ much more, but the contrast agrees within 3 %.

Coordinates are continuous pixels `(x, y)`: the centre of the first pixel is
(0.5, 0.5), and the frame is [0, W] x [0, H].
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
    """Maps output points to input points.

    One output pixel spans `zoom * spread` input pixels, which determines the antialiasing.

    Attributes:
        matrix: `[R|1, N|1, 3, 3]`, in homogeneous coordinates.
        zoom: Input pixels per output pixel in x and y, as far as all views agree.
        spread: `[R|1, N|1]`, further factor of each view; None: all views agree.
        reach: Minimum and maximum of the spread, known before it is drawn.
        flat: The matrix is affine.
    """

    matrix: Tensor
    zoom: tuple[float, float] = (1.0, 1.0)
    spread: Tensor | None = None
    reach: tuple[float, float] = (1.0, 1.0)
    flat: bool = True
    aligned: bool = False
    """True without rotation and shear: x depends on x alone, y on y"""
    plain: bool = False
    """True for a resize of the whole image"""


@dataclass(frozen=True)
class EdgeClamp:
    """Repeats the nearest pixel beyond the input's edge."""

    size: Shape


@dataclass(frozen=True)
class Wrap:
    """Continues at the opposite side beyond the input's edge."""

    size: Shape


@dataclass(frozen=True)
class Fill:
    """Shows a colour `[R|1, N|1, 3]` beyond the input's edge, or black (None).

    The edge is as soft as if the input were surrounded by pixels of that colour.
    """

    size: Shape
    color: Tensor | None = None


Stage = Map | EdgeClamp | Wrap | Fill


def affine(rows: Sequence[Sequence[Tensor | float]], like: Tensor) -> Tensor:
    """Build an affine matrix on the device of `like`.

    Args:
        rows: 2 x 3 entries, each a number or `[R|1, N|1]`.
        like: Gives device and dtype of the entries that are numbers.

    Returns:
        `[R|1, N|1, 3, 3]`.
    """
    entries = [e for row in rows for e in row] + [0.0, 0.0, 1.0]
    # new_full instead of tensor(), whose copy from the host would wait for the device
    tensors = [e if isinstance(e, Tensor) else like.new_full((1, 1), float(e)) for e in entries]
    stacked = torch.stack(torch.broadcast_tensors(*tensors), -1)  # type: ignore[no-untyped-call]
    return stacked.view(*stacked.shape[:-1], 3, 3)


def translation(x: Tensor | float, y: Tensor | float, like: Tensor) -> Tensor:
    """Matrix of a shift: output point (x', y') shows input point (x' + x, y' + y)."""
    return affine(((1.0, 0.0, x), (0.0, 1.0, y)), like)


def about(center: tuple[Tensor | float, Tensor | float], a: Tensor, b: Tensor,
          c: Tensor, d: Tensor) -> Tensor:
    """Matrix of the linear map [[a, b], [c, d]] about a fixed point; entries `[R|1, N|1]`."""
    x, y = center
    return affine(((a, b, x - a * x - b * y), (c, d, y - c * x - d * y)), a)


def resize_stages(size: Shape, out: Shape, like: Tensor) -> list[Stage]:
    """Stages that resize an image of height and width `size` to `out`; none if they are equal."""
    if size == out:
        return []
    x, y = size[1] / out[1], size[0] / out[0]
    enlarged = affine(((x, 0.0, 0.0), (0.0, y, 0.0)), like)
    return [EdgeClamp(size), Map(enlarged, (x, y), aligned=True, plain=True)]


def reduction(stages: Sequence[Stage], canvas: Shape) -> Shape:
    """Compute the size to which a chain reduces the whole canvas.

    It is the minimum over all stages of the chain, so that `resize: 16` followed by
    `resize: 224` shows 16 pixels enlarged.

    Args:
        stages: The chain, from canvas to view.
        canvas: Height and width of the canvas.

    Returns:
        Height and width, each at least 1.
    """
    zoom_x, zoom_y, most_x, most_y = 1.0, 1.0, 1.0, 1.0
    for stage in stages:
        if isinstance(stage, Map):
            zoom_x, zoom_y = (z * f * stage.reach[0] for z, f in
                              zip((zoom_x, zoom_y), stage.zoom, strict=True))
            most_x, most_y = max(most_x, zoom_x), max(most_y, zoom_y)
    return max(1, round(canvas[0] / most_y)), max(1, round(canvas[1] / most_x))


def _kept(size: Shape, frame: Shape) -> Shape:
    """Size to which an image of `frame` is reduced before it is sampled at about `size`.

    Bilinear sampling between pixels blurs too, so the sides are up to `atlas.SHARPNESS`
    times longer. The result then has the contrast of a resize that comes last.
    """
    height, width = (
        min(whole, round(wanted * (1 + (atlas.SHARPNESS - 1) * min(1.0, 2 * (whole / wanted - 1)))))
        for wanted, whole in zip(size, frame, strict=True)
    )
    return height, width


@dataclass(frozen=True)
class Route:
    """The part of a sampling that does not depend on the pixels; `route` computes it.

    Attributes:
        frame: Height and width of the source images.
        small: Height and width to which they are reduced first.
        out: Height and width of the views.
        wrapped: Opposite edges touch.
        levels: Layout of the mip atlas; None if all views have the same scale.
        magnitude: `[R|1, N|1]`, image pixels per view pixel, which select the atlas level.
        legs: The way of the points of a view back to the canvas.
    """

    frame: Shape
    small: Shape
    out: Shape
    wrapped: bool = False
    levels: atlas.Levels | None = None
    magnitude: Tensor | None = None
    legs: tuple[Leg, ...] = ()
    resized: bool = False
    """True if the chain only resizes: reduce to `small`, then resize to `out`"""


def route(stages: Sequence[Stage], frame: Shape, out: Shape, like: Tensor) -> Route:
    """Compute the route from views of size `out` to images of size `frame`.

    Args:
        stages: From canvas to view, in the order of the transforms. Within one
            transform the edge comes before the map, because it is the edge of the input.
        frame: Height and width of the images.
        out: Height and width of the views.
        like: A tensor on the device, of the pixels' dtype.

    Returns:
        The route, which `follow` applies to images.
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
    """Sample the views of images.

    Args:
        source: `[R, C, H, W]`, one image per run, or `[R, N, C, H, W]`, views that are
            sampled again one by one.
        way: From `route`.
        views: N, views per run.

    Returns:
        The views `[R, N, C, *out]` (`[R, C, *out]` if all views of a run are equal), and
        masks `[R|1, N|1, *out]` in 0..1 by which the caller multiplies them: 0 where a
        view is black.
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
    elif way.wrapped:  # a border of one pixel, so that the seam is interpolated too
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
    """Whether a chain changes only the size."""
    edges, maps = stages[0::2], stages[1::2]
    return len(edges) == len(maps) and all(
        isinstance(edge, EdgeClamp) and isinstance(m, Map) and m.plain
        for edge, m in zip(edges, maps, strict=True)
    )


def _read_shared(pictures: Tensor, grid: Tensor) -> Tensor:
    """Sample `[R, C, H, W]` at `[R, N, h, w, 2]`: `[R, N, C, h, w]`.

    One grid holds the views of a run below one another, so the canvas is not copied
    and its gradient is summed in one buffer instead of N. The CPU's sampler
    parallelises over the images of a batch: if there are fewer images than threads,
    each thread gets a copy and some of the views.
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
    """Sample `[R*N, C, H, W]` at `[R, N, h, w, 2]`: `[R, N, C, h, w]`."""
    read = _grid_sample(pictures, grid.flatten(0, 1))
    return read.view(*grid.shape[:2], *read.shape[1:])


def _grid_sample(pictures: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(pictures, grid.to(pictures.dtype), mode="bilinear",
                         padding_mode="border", align_corners=False)


def _copies(pictures: Tensor, grid: Tensor) -> int:
    """Number of copies of each image that saves time: a divisor of the views, 1 on a GPU."""
    runs, views, height, width = grid.shape[:4]
    if pictures.device.type != "cpu" or runs > 1:
        return 1
    read, held = views * height * width, pictures.shape[-2] * pictures.shape[-1]
    most = min(torch.get_num_threads(), read // (2 * held))
    return max((n for n in range(1, most + 1) if views % n == 0), default=1)


def _span(stages: Sequence[Stage], frame: Shape, small: Shape) -> float:
    """Maximum of the pixels of the reduced canvas per view pixel; 1 if all views agree."""
    now = most = (small[0] / frame[0] * small[1] / frame[1]) ** 0.5
    for stage in stages:
        if isinstance(stage, Map):
            now *= (stage.zoom[0] * stage.zoom[1]) ** 0.5 * stage.reach[1]
            most = max(most, now)
    varied = any(isinstance(s, Map) and s.spread is not None for s in stages)
    return most if varied else 1.0


def _magnitude(stages: Sequence[Stage], scale: tuple[float, float]) -> Tensor:
    """Pixels of the reduced canvas per view pixel, the maximum over all stages: `[R|1, N|1]`."""
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
    """Compute the legs from the points of a view back to the canvas; `goal` is applied last."""
    legs: list[Leg] = []
    pending: Tensor | None = None
    flat = aligned = True
    soft = [1.0, 1.0]  # pixels of the current frame that one view pixel spans
    reach: list[float] | None = [0.5, 0.5]  # minimum distance of all points to the edges, if known
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
            continue  # no point lies beyond the edge, or the sampler clamps by itself
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
