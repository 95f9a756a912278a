"""From a list of transforms to few steps: what is fused, what is done at which size.

`arrange` looks at sizes only, once per phase; `run` does the work in each step.
Geometric transforms that follow one another become one sampling. The resize to
the encoder's input comes last; if it reduces, it is moved forward past the
pixelwise transforms that allow it, so that no work is done at 448 pixels when
the encoder sees 64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from clipig.rng import ViewDraw
from clipig.transforms.base import Geometry, Params, Pixelwise, Transform
from clipig.transforms.resizing import reduction_gain
from clipig.transforms.sampling import Shape, Stage, resize_stages, sample


class ChainError(ValueError):
    """A transform cannot be applied at the size that reaches it."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index
        """place of the transform in the list"""
        self.message = message


@dataclass(frozen=True)
class Segment:
    """One sampling, or one pixelwise transform."""

    ops: tuple[int, ...]
    """places in the list of transforms; none: a resize only"""
    size: Shape
    """height and width of the input"""
    out: Shape
    """height and width of the result"""
    fused: bool
    """True: geometry; False: one pixelwise transform"""
    noise_gain: float = 1.0
    """factor of `std` for a noise that was moved behind a reduction"""


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
        if isinstance(op, Geometry) and segments and segments[-1].fused:
            last = segments[-1]
            segments[-1] = replace(last, ops=(*last.ops, index), out=out)
        else:
            segments.append(Segment((index,), size, out, isinstance(op, Geometry)))
        size = out
    return tuple(_with_resize(segments, ops, size, final))


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
    op = ops[segment.ops[0]]
    return isinstance(op, Pixelwise) and op.commutes in ("linear", "noise")


def _reduced(segment: Segment, ops: Sequence[Transform], size: Shape, final: Shape) -> Segment:
    """A pixelwise segment that follows the reduction from `size` to `final`.

    A noise gets the strength that the reduction would have left of it. (What is
    lost is the correlation, about 1/4, that the filter gives to neighbours.)
    """
    op = ops[segment.ops[0]]
    noisy = isinstance(op, Pixelwise) and op.commutes == "noise"
    gain = reduction_gain(size, final) if noisy else 1.0
    return replace(segment, size=final, out=final, noise_gain=gain)


def run(
    segments: Sequence[Segment],
    ops: Sequence[Transform],
    source: Tensor,
    params: Sequence[Params],
    draws: Sequence[ViewDraw],
    views: int,
) -> Tensor:
    """Views `[R, views, C, h, w]` of the pictures `source` `[R, C, H, W]`.

    `params[i]` and `draws[i]` belong to `ops[i]`.
    """
    pictures = source  # [R, C, H, W] as long as all views of a run are equal
    for segment in segments:
        if segment.fused:
            stages = _stages(segment, ops, params, draws, source)
            pictures = sample(pictures, stages, segment.out, views)
        else:
            pictures = _pixelwise(segment, ops, pictures, params, draws, views)
    if pictures.ndim == 4:
        pictures = pictures[:, None].expand(-1, views, -1, -1, -1)
    return pictures


def _stages(
    segment: Segment,
    ops: Sequence[Transform],
    params: Sequence[Params],
    draws: Sequence[ViewDraw],
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


def _pixelwise(
    segment: Segment,
    ops: Sequence[Transform],
    pictures: Tensor,
    params: Sequence[Params],
    draws: Sequence[ViewDraw],
    views: int,
) -> Tensor:
    """One pixelwise transform; views stay one picture per run while they are equal."""
    (index,) = segment.ops
    op, p = ops[index], params[index]
    assert isinstance(op, Pixelwise)
    if segment.noise_gain != 1.0:
        p = copy.copy(p)
        p.std = p.std * segment.noise_gain
    shared = pictures.ndim == 4
    if shared:
        alike = not op.random and not _differs(p)
        pictures = pictures[:, None].expand(-1, 1 if alike else views, -1, -1, -1)
    changed = op.apply(pictures, p, op.sample(draws[index], p, segment.size))
    return changed[:, 0] if shared and alike else changed


def _differs(p: Params) -> bool:
    """Whether a parameter has another value for each view."""
    return any(isinstance(v, Tensor) and v.ndim > 1 and v.shape[1] > 1 for v in vars(p).values())
