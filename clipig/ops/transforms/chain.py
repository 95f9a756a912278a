"""From a list of transforms to few steps: what is fused, what is done at which size.

`arrange` looks at sizes only, once per phase; `prepare` works out all that pixels
have no part in, for many steps at once; `run` does the work in each step.
Geometric transforms that follow one another become one sampling, straight changes
of the colours one change. The resize to the encoder's input comes last; if it
reduces, it is moved forward past the pixelwise transforms that allow it, so that no
work is done at 448 pixels when the encoder sees 64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from clipig.ops.kernels.resizing import reduction_gain
from clipig.ops.kernels.sampling import Route, Shape, Stage, follow, resize_stages, route
from clipig.ops.kernels.tones import Grain, Tone, Touch, touched
from clipig.ops.transforms.base import Geometry, Graining, Params, Pixelwise, Toning, Transform
from clipig.rng import ViewDraw


class ChainError(ValueError):
    """A transform cannot be applied at the size that reaches it."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index
        """place of the transform in the list"""
        self.message = message


@dataclass(frozen=True)
class Segment:
    """One sampling, one change of tones with noise after it, or another pixelwise transform."""

    ops: tuple[int, ...]
    """places in the list of transforms; none: a resize only"""
    size: Shape
    """height and width of the input"""
    out: Shape
    """height and width of the result"""
    fused: bool
    """True: geometry; False: pixelwise"""
    noise_gain: float = 1.0
    """factor of the strength of a noise that was moved behind a reduction"""


def arrange(
    ops: Sequence[Transform], sizes: Sequence[Params], size: Shape, final: Shape
) -> tuple[Segment, ...]:
    """The segments that lead from pictures of `size` to views of `final`.

    `sizes[i]` holds the static fields of `ops[i]`. Raises `ChainError` where a
    transform cannot be applied.
    """
    segments: list[Segment] = []
    for index, (op, p) in enumerate(zip(ops, sizes, strict=True)):
        complaint = op.check(size, p)
        if complaint is not None:
            raise ChainError(index, complaint)
        out = op.out_size(size, p)
        last = segments[-1] if segments else None
        if last is not None and _joins(op, ops[last.ops[-1]]):
            segments[-1] = replace(last, ops=(*last.ops, index), out=out)
        else:
            segments.append(Segment((index,), size, out, isinstance(op, Geometry)))
        size = out
    return tuple(_with_resize(segments, ops, size, final))


def _joins(op: Transform, before: Transform) -> bool:
    """Whether a transform is done together with the one before it."""
    if isinstance(op, Geometry):
        return isinstance(before, Geometry)
    return isinstance(op, Toning | Graining) and isinstance(before, Toning)


def _with_resize(
    segments: list[Segment], ops: Sequence[Transform], size: Shape, final: Shape
) -> list[Segment]:
    """Append the resize to `final`, as far forward as it may stand."""
    if size == final:
        return segments
    place = len(segments)
    if final[0] <= size[0] and final[1] <= size[1]:
        while place and _may_follow_reduction(segments[place - 1], ops):
            place -= 1
    moved = [_reduced(s, ops, size, final) for s in segments[place:]]
    head = segments[:place]
    if head and head[-1].fused:
        head[-1] = replace(head[-1], out=final)
    else:
        head.append(Segment((), size, final, True))
    return head + moved


def _may_follow_reduction(segment: Segment, ops: Sequence[Transform]) -> bool:
    if segment.fused:
        return False
    return all(getattr(ops[i], "commutes", "") in ("linear", "noise") for i in segment.ops)


def _reduced(segment: Segment, ops: Sequence[Transform], size: Shape, final: Shape) -> Segment:
    """A pixelwise segment that follows the reduction from `size` to `final`.

    A noise gets the strength that the reduction would have left of it. (What is
    lost is the correlation, about 1/4, that the filter gives to neighbours.)
    """
    noisy = any(getattr(ops[i], "commutes", "") == "noise" for i in segment.ops)
    gain = reduction_gain(size, final) if noisy else 1.0
    return replace(segment, size=final, out=final, noise_gain=gain)


T = TypeVar("T")
Placed = Sequence[T] | Mapping[int, T]
"""Something for each transform, or for some of them, by its place"""
Part = Route | Touch | None
"""What a segment does apart from the pixels; None: it needs its own parameters and draws"""


def prepare(
    segments: Sequence[Segment],
    ops: Sequence[Transform],
    params: Placed[Params],
    draws: Placed[ViewDraw],
    like: Tensor,
) -> tuple[Part, ...]:
    """All of a chain that does not depend on the pixels, for as many rows as the parameters have.

    These can be the runs of many steps, one step after the other (`parts.by_step` takes
    them apart).
    """
    parts: list[Part] = []
    for segment in segments:
        if segment.fused:
            stages = _stages(segment, ops, params, draws, like)
            parts.append(route(stages, segment.size, segment.out, like))
        elif isinstance(ops[segment.ops[0]], Toning | Graining):
            ahead = _known_ahead(segment, ops)
            grain = _grain(segment, ops, params, draws) if ahead else None
            parts.append(Touch(_tone(segment, ops, params, draws), grain))
        else:
            parts.append(None)
    return tuple(parts)


def unprepared(segments: Sequence[Segment], ops: Sequence[Transform]) -> frozenset[int]:
    """The transforms that `prepare` leaves to `run`."""
    return frozenset(
        i for s in segments for i in s.ops
        if not isinstance(ops[i], Geometry | Toning | Graining)
        or (isinstance(ops[i], Graining) and not _known_ahead(s, ops))
    )


def _known_ahead(segment: Segment, ops: Sequence[Transform]) -> bool:
    """Whether the noise at the end of a segment can be prepared."""
    op = ops[segment.ops[-1]]
    return isinstance(op, Graining) and op.known_ahead(segment.size)


def run(
    segments: Sequence[Segment],
    ops: Sequence[Transform],
    source: Tensor,
    params: Placed[Params],
    draws: Placed[ViewDraw],
    views: int,
    parts: Sequence[Part] | None = None,
    unit: bool = False,
) -> Tensor:
    """Views `[R, views, C, h, w]` of the pictures `source` `[R, C, H, W]`.

    `params[i]` and `draws[i]` belong to `ops[i]`; of those that `parts` cover nothing is
    read. `unit`: clamp the views to 0..1 at last.
    """
    if parts is None:
        parts = prepare(segments, ops, params, draws, source)
    pictures = source  # [R, C, H, W] as long as all views of a run are equal
    masks: Sequence[Tensor] = ()  # of the last sampling, not yet applied
    clamped = not unit
    for segment, part in zip(segments, parts, strict=True):
        if isinstance(part, Touch):
            grain = part.grain or _grain(segment, ops, params, draws)
            last = unit and segment is segments[-1]
            pictures = _touched(pictures, views, part.tone, grain, masks, last)
            clamped, masks = clamped or last, ()
            continue
        if masks:
            pictures, masks = touched(pictures, Tone(), masks=masks), ()
        if isinstance(part, Route):
            pictures, masks = follow(pictures, part, views)
        else:
            pictures = _pixelwise(segment, ops, pictures, params, draws, views)
    if masks or not clamped:
        pictures = _touched(pictures, views, Tone(), None, masks, not clamped)
    return _spread(pictures, views)


def _touched(
    pictures: Tensor, views: int, tone: Tone, grain: Grain | None, masks: Sequence[Tensor],
    unit: bool,
) -> Tensor:
    """`touched`, for views or for pictures that all views of a run share."""
    if pictures.ndim == 5:
        return touched(pictures, tone, grain, masks, unit)
    if tone.alike and grain is None:
        return touched(pictures[:, None], tone, None, masks, unit)[:, 0]
    return touched(_spread(pictures, views), tone, grain, masks, unit)


def _spread(pictures: Tensor, views: int) -> Tensor:
    """Pictures that all views of a run share, as these views."""
    if pictures.ndim == 5:
        return pictures
    return pictures[:, None].expand(-1, views, -1, -1, -1)


def _stages(
    segment: Segment,
    ops: Sequence[Transform],
    params: Placed[Params],
    draws: Placed[ViewDraw],
    like: Tensor,
) -> list[Stage]:
    size = segment.size
    stages: list[Stage] = []
    for index in segment.ops:
        op, p = ops[index], params[index]
        assert isinstance(op, Geometry)
        drawn = op.sample(draws[index], p, size)
        stages += op.stages(size, p, drawn, like)
        size = op.out_size(size, p)
    return stages + resize_stages(size, segment.out, like)


def _tone(
    segment: Segment, ops: Sequence[Transform], params: Placed[Params],
    draws: Placed[ViewDraw],
) -> Tone:
    """All tones of a segment in one."""
    tone = Tone()
    for index in segment.ops:
        op = ops[index]
        if isinstance(op, Toning):
            p = params[index]
            tone = tone.then(op.tone(p, op.sample(draws[index], p, segment.size)))
    return tone


def _grain(
    segment: Segment, ops: Sequence[Transform], params: Placed[Params], draws: Placed[ViewDraw]
) -> Grain | None:
    """The noise at the end of a segment, if there is one."""
    index = segment.ops[-1]
    op = ops[index]
    if not isinstance(op, Graining):
        return None
    p = params[index]
    grain = op.grain(p, op.sample(draws[index], p, segment.size), segment.size)
    if segment.noise_gain == 1.0:
        return grain
    return Grain(grain.values, grain.strength * segment.noise_gain)


def _pixelwise(
    segment: Segment,
    ops: Sequence[Transform],
    pictures: Tensor,
    params: Placed[Params],
    draws: Placed[ViewDraw],
    views: int,
) -> Tensor:
    """One pixelwise transform; views stay one picture per run while they are equal."""
    (index,) = segment.ops
    op, p = ops[index], params[index]
    assert isinstance(op, Pixelwise)
    alike = pictures.ndim == 4 and not op.random and not _differs(p)
    wide = _spread(pictures, 1 if alike else views)
    changed = op.apply(wide, p, op.sample(draws[index], p, segment.size))
    return changed[:, 0] if alike else changed


def _differs(p: Params) -> bool:
    """Whether a parameter has another value for each view."""
    return any(isinstance(v, Tensor) and v.ndim > 1 and v.shape[1] > 1 for v in vars(p).values())
