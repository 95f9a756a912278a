"""Compiles a target's transforms: merges neighbours and sets the size at which each part runs.

`Chain.arrange` uses only the sizes and runs once per phase. `Chain.prepare` computes
everything that does not depend on the pixels, for many steps at once. `Chain.run` does the
rest in each step. Neighbouring geometric transforms become one sampling, neighbouring affine
colour changes become one affine change. The resize to the encoder's input comes last. If it
reduces, it is moved forward past the pixelwise transforms that allow it, so that no work is
done at 448 pixels when the encoder sees 64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from clipig.ops.kernels.resizing import reduction_gain
from clipig.ops.kernels.sampling import Route, Shape, Stage, follow, resize_stages, route
from clipig.ops.kernels.tones import Grain, Tone, touched
from clipig.ops.transforms.base import Geometry, Graining, Params, Pixelwise, Toning, Transform
from clipig.rng import ViewDraw

T = TypeVar("T")
ByOp = Sequence[T] | Mapping[int, T]
"""One value for each transform, or for some of them, by index in the list."""
Part = Route | Tone | None
"""The part of a segment that does not depend on the pixels. None: the segment reads its
parameters and random numbers in each step."""


class ChainError(ValueError):
    """A transform cannot be applied at the size that reaches it."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index
        """index of the transform in the list"""
        self.message = message


@dataclass(frozen=True)
class Segment:
    """One sampling, one colour change with noise after it, or another pixelwise transform."""

    ops: tuple[int, ...]
    """indices of the transforms; empty: a resize only"""
    size: Shape
    """height and width of the input"""
    out: Shape
    """height and width of the result"""
    fused: bool
    """True: geometry; False: pixelwise"""
    noise_gain: float = 1.0
    """factor of the strength of noise that was moved behind a reduction"""


@dataclass(frozen=True)
class Chain:
    """A list of transforms, arranged for one size of images and one size of views."""

    ops: tuple[Transform, ...]
    """the transforms, in the order of the config"""
    segments: tuple[Segment, ...] = ()
    """the parts of the work, in order"""

    @classmethod
    def arrange(
        cls, ops: Sequence[Transform], sizes: Sequence[Params], size: Shape, final: Shape
    ) -> Chain:
        """Arrange the segments that lead from images to views.

        Args:
            ops: The transforms.
            sizes: The static fields of each transform (sizes as tuples).
            size: Height and width of the images.
            final: Height and width of the views.

        Returns:
            The chain for these two sizes.

        Raises:
            ChainError: A transform cannot be applied at the size that reaches it.
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
        return cls(tuple(ops), tuple(_with_resize(segments, ops, size, final)))

    @cached_property
    def unprepared(self) -> frozenset[int]:
        """Indices of the transforms that `prepare` leaves to `run`."""
        return frozenset(
            i for s in self.segments for i in s.ops
            if not isinstance(self.ops[i], Geometry | Toning)
        )

    def prepare(
        self, params: ByOp[Params], draws: ByOp[ViewDraw], like: Tensor
    ) -> tuple[Part, ...]:
        """Compute everything that does not depend on the pixels.

        Args:
            params: Fields of each transform. Their rows may be the runs of many steps, one step
                after the other (`engine.window.by_step` splits them).
            draws: Random numbers of each transform, for the same rows.
            like: A tensor on the device, of the pixels' dtype.

        Returns:
            One part per segment.
        """
        parts: list[Part] = []
        for segment in self.segments:
            if segment.fused:
                stages = self._stages(segment, params, draws, like)
                parts.append(route(stages, segment.size, segment.out, like))
            elif isinstance(self.ops[segment.ops[0]], Toning | Graining):
                parts.append(self._tone(segment, params, draws))
            else:
                parts.append(None)
        return tuple(parts)

    def run(
        self, source: Tensor, params: ByOp[Params], draws: ByOp[ViewDraw], views: int,
        parts: Sequence[Part] | None = None, clamp: bool = False,
    ) -> Tensor:
        """Make the views of one step.

        Args:
            source: The images `[R, C, H, W]`, nominally in 0..1.
            params: Fields of the transforms. Transforms in `parts` need none.
            draws: Random numbers of the transforms, likewise.
            views: N, views per run.
            parts: From `prepare`; computed here if None.
            clamp: Clamp the views to 0..1 at the end.

        Returns:
            `[R, N, C, h, w]`.
        """
        if parts is None:
            parts = self.prepare(params, draws, source)
        pixels = source  # [R, C, H, W] as long as all views of a run are equal
        masks: Sequence[Tensor] = ()  # masks of the last sampling that are not yet applied
        clamped = not clamp
        for segment, part in zip(self.segments, parts, strict=True):
            if isinstance(part, Tone):
                grain = self._grain(segment, params, draws)
                last = clamp and segment is self.segments[-1]
                pixels = _touched(pixels, views, part, grain, masks, last)
                clamped, masks = clamped or last, ()
                continue
            if masks:
                pixels, masks = touched(pixels, Tone(), masks=masks), ()
            if isinstance(part, Route):
                pixels, masks = follow(pixels, part, views)
            else:
                pixels = self._pixelwise(segment, pixels, params, draws, views)
        if masks or not clamped:
            pixels = _touched(pixels, views, Tone(), None, masks, not clamped)
        return _spread(pixels, views)

    def _stages(
        self, segment: Segment, params: ByOp[Params], draws: ByOp[ViewDraw], like: Tensor
    ) -> list[Stage]:
        """Collect all stages of a sampling, including the resize at its end."""
        size = segment.size
        stages: list[Stage] = []
        for index in segment.ops:
            op, p = self.ops[index], params[index]
            assert isinstance(op, Geometry)
            drawn = op.sample(draws[index], p, size)
            stages += op.stages(size, p, drawn, like)
            size = op.out_size(size, p)
        return stages + resize_stages(size, segment.out, like)

    def _tone(self, segment: Segment, params: ByOp[Params], draws: ByOp[ViewDraw]) -> Tone:
        """Merge all colour changes of a segment into one."""
        tone = Tone()
        for index in segment.ops:
            op = self.ops[index]
            if isinstance(op, Toning):
                p = params[index]
                tone = tone.then(op.tone(p, op.sample(draws[index], p, segment.size)))
        return tone

    def _grain(
        self, segment: Segment, params: ByOp[Params], draws: ByOp[ViewDraw]
    ) -> Grain | None:
        """Return the noise at the end of a segment, if there is one."""
        index = segment.ops[-1]
        op = self.ops[index]
        if not isinstance(op, Graining):
            return None
        p = params[index]
        grain = op.grain(p, op.sample(draws[index], p, segment.size), segment.size)
        if segment.noise_gain == 1.0:
            return grain
        return Grain(grain.values, grain.strength * segment.noise_gain)

    def _pixelwise(
        self, segment: Segment, pixels: Tensor, params: ByOp[Params], draws: ByOp[ViewDraw],
        views: int,
    ) -> Tensor:
        """Apply one pixelwise transform; equal views stay one image per run."""
        (index,) = segment.ops
        op, p = self.ops[index], params[index]
        assert isinstance(op, Pixelwise)
        alike = pixels.ndim == 4 and not op.random and not _differs(p)
        wide = _spread(pixels, 1 if alike else views)
        changed = op.apply(wide, p, op.sample(draws[index], p, segment.size))
        return changed[:, 0] if alike else changed


def _joins(op: Transform, before: Transform) -> bool:
    """Whether a transform is merged with the previous one."""
    if isinstance(op, Geometry):
        return isinstance(before, Geometry)
    return isinstance(op, Toning | Graining) and isinstance(before, Toning)


def _with_resize(
    segments: list[Segment], ops: Sequence[Transform], size: Shape, final: Shape
) -> list[Segment]:
    """Insert the resize to `final` as early as the transforms allow."""
    if size == final:
        return segments
    position = len(segments)
    if final[0] <= size[0] and final[1] <= size[1]:
        while position and _may_follow_reduction(segments[position - 1], ops):
            position -= 1
    moved = [_reduced(s, ops, size, final) for s in segments[position:]]
    head = segments[:position]
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
    """Adapt a pixelwise segment that now follows the reduction from `size` to `final`.

    Noise gets the strength that the reduction would have left. The correlation of about
    1/4 that the filter gives to neighbouring pixels is lost.
    """
    noisy = any(getattr(ops[i], "commutes", "") == "noise" for i in segment.ops)
    gain = reduction_gain(size, final) if noisy else 1.0
    return replace(segment, size=final, out=final, noise_gain=gain)


def _touched(
    pixels: Tensor, views: int, tone: Tone, grain: Grain | None, masks: Sequence[Tensor],
    clamp: bool,
) -> Tensor:
    """Apply `touched` to views, or to images that all views of a run share."""
    if pixels.ndim == 5:
        return touched(pixels, tone, grain, masks, clamp)
    if tone.alike and grain is None:
        return touched(pixels[:, None], tone, None, masks, clamp)[:, 0]
    return touched(_spread(pixels, views), tone, grain, masks, clamp)


def _spread(pixels: Tensor, views: int) -> Tensor:
    """Expand images `[R, C, H, W]` to the views of each run; return views unchanged."""
    if pixels.ndim == 5:
        return pixels
    return pixels[:, None].expand(-1, views, -1, -1, -1)


def _differs(p: Params) -> bool:
    """Whether a parameter differs between the views of a run."""
    return any(isinstance(v, Tensor) and v.ndim > 1 and v.shape[1] > 1 for v in vars(p).values())
