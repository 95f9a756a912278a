"""Straight changes of the colours, noise and the clamp to 0..1, done at once.

Any chain of straight changes is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipig.ops.kernels.cache_blocks import cut, tiles
from clipig.ops.kernels.clamp import mark_unit_, unit_gradient_
from clipig.rng import Slices

_AXES = (-2, -1)


@dataclass(frozen=True)
class Tone:
    """`scale * x + shift`, or `scale * (x - mean(x)) + shift` if `centred`.

    `scale` and `shift` are `[R|1, N|1, 3|1, 1, 1]`, without gradient; None stands
    for 1 and 0. The mean is that of each view and channel.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    centred: bool = False

    @property
    def alike(self) -> bool:
        """Whether it does the same to all views of a run."""
        return all(v is None or v.shape[1] == 1 for v in (self.scale, self.shift))

    def cut(self, runs: slice, views: slice) -> Tone:
        """The same for a piece of the views."""
        scale, shift = (v if v is None else cut(v, runs, views) for v in (self.scale, self.shift))
        return Tone(scale, shift, self.centred)

    def apply_(self, x: Tensor) -> None:
        """Change views in place."""
        shift = self.shift
        if self.centred:
            mean = x.mean(_AXES, keepdim=True)
            mean = mean if self.scale is None else mean * self.scale
            shift = -mean if shift is None else shift - mean
        if self.scale is not None:
            x.mul_(self.scale)
        if shift is not None:
            x.add_(shift)

    def turn_back_(self, grad: Tensor) -> None:
        """Gradient of the changed views to that of the views, in place."""
        if self.scale is not None:
            grad.mul_(self.scale)
        if self.centred:
            grad.sub_(grad.mean(_AXES, keepdim=True))

    def then(self, other: Tone) -> Tone:
        """Both, one after the other."""
        scale = _product(self.scale, other.scale)
        if other.centred:
            return Tone(scale, other.shift, True)
        shift = None if self.shift is None else _product(self.shift, other.scale)
        if other.shift is not None:
            shift = other.shift if shift is None else shift + other.shift
        return Tone(scale, shift, self.centred)


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b


@dataclass(frozen=True)
class Grain:
    """Noise to be added: `values` `[R|1, N|1, 3|1, H, W]` * `strength` `[R|1, N|1, 3|1, 1, 1]`."""

    values: Tensor | Slices
    strength: Tensor

    def cut(self, runs: slice, views: slice) -> Tensor:
        """The noise of a piece of the views."""
        strength = cut(self.strength, runs, views)
        if isinstance(self.values, Slices):
            return self.values.cut(runs, views).mul_(strength)
        return cut(self.values, runs, views) * strength

    @property
    def shape(self) -> tuple[int, ...]:
        """`[R|1, N|1, 3|1, H, W]`."""
        if isinstance(self.values, Slices):
            return (*self.values.starts.shape, *self.values.shape)
        return tuple(self.values.shape)


@dataclass(frozen=True)
class Touch:
    """Tones, and noise after them if its numbers are known beforehand."""

    tone: Tone
    grain: Grain | None = None


class _Touched(torch.autograd.Function):
    """Written out so that a piece of the views is in the cache until all is done with it.

    It also saves three of the passes that autograd makes for the gradient of a mean.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tone: Tone, grain: Grain | None, masks: Sequence[Tensor], unit: bool
    ) -> Tensor:
        shape = x.shape
        if grain is not None:  # torch.broadcast_shapes takes longer than a pass over the views
            shape = torch.Size(map(max, x.shape, grain.shape))
        out = x.new_empty(shape)
        for runs, views in tiles(out):
            piece, source = out[runs, views], cut(x, runs, views)
            if masks:
                torch.mul(source, cut(masks[0], runs, views)[:, :, None], out=piece)
            else:
                piece.copy_(source)
            for mask in masks[1:]:
                piece.mul_(cut(mask, runs, views)[:, :, None])
            tone.cut(runs, views).apply_(piece)
            if grain is not None:
                piece.add_(grain.cut(runs, views))
            if unit:
                mark_unit_(piece)
        ctx.tone, ctx.masks, ctx.unit = tone, masks, unit
        ctx.shape, ctx.strides = x.shape, x.stride()
        if unit:
            ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tone: Tone = ctx.tone
        given = grads[0]
        if given.shape == ctx.shape and 0 not in ctx.strides:
            out = given.new_empty_strided(ctx.shape, ctx.strides)
        else:
            out = torch.empty_like(given, memory_format=torch.contiguous_format)
        for runs, views in tiles(out):
            piece = out[runs, views]
            # encoders may give their gradient channels-last; all that follows would be slow
            piece.copy_(given[runs, views])
            if ctx.unit:
                unit_gradient_(piece, ctx.saved_tensors[0][runs, views])
            tone.cut(runs, views).turn_back_(piece)
            for mask in ctx.masks:
                piece.mul_(cut(mask, runs, views)[:, :, None])
        return out.sum_to_size(ctx.shape), None, None, None, None


def touched(
    views: Tensor, tone: Tone, grain: Grain | None = None, masks: Sequence[Tensor] = (),
    unit: bool = False,
) -> Tensor:
    """Views `[R, N, 3, H, W]`: darkened, toned, with noise, and clamped to 0..1 if `unit`.

    `masks` `[R|1, N|1, H, W]` are multiplied with them first. Gradient passes the clamp
    inside, both ends included; what was outside is marked by a hair's breadth (`mark_unit_`).
    """
    return _Touched.apply(views, tone, grain, masks, unit)  # type: ignore[no-any-return]
