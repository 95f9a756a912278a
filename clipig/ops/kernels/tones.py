"""Applies affine colour changes, noise and the clamp to 0..1 together.

Any chain of affine colour changes can be merged into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipig.ops.kernels.clamp import clamp_unit


@dataclass(frozen=True)
class Tone:
    """An affine colour change: `scale * x + shift`.

    Attributes:
        scale: `[R|1, N|1, 3|1, 1, 1]`, without gradient; None means 1.
        shift: Likewise; None means 0.
        centred: Subtract the mean of each view and channel first:
            `scale * (x - mean(x)) + shift`.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    centred: bool = False

    @property
    def alike(self) -> bool:
        """Whether all views of a run get the same change."""
        return all(v is None or v.shape[1] == 1 for v in (self.scale, self.shift))

    def applied(self, views: Tensor) -> Tensor:
        """Return the changed views, `[R, N, 3, H, W]`."""
        shift = self.shift
        if self.centred:  # merging the mean into the shift saves a pass over the views
            mean = views.mean((-2, -1), keepdim=True)
            mean = mean if self.scale is None else mean * self.scale
            shift = -mean if shift is None else shift - mean
        if self.scale is None:
            return views if shift is None else views + shift
        return views * self.scale if shift is None else torch.addcmul(shift, views, self.scale)

    def then(self, other: Tone) -> Tone:
        """Return this change followed by the other, as one."""
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
    """Additive noise: `values` `[R|1, N|1, 3|1, H, W]` * `strength` `[R|1, N|1, 3|1, 1, 1]`."""

    values: Tensor
    strength: Tensor

    def added(self, views: Tensor) -> Tensor:
        """Return the views `[R, N, 3, H, W]` with the noise."""
        return torch.addcmul(views, self.values, self.strength)


def touched(
    views: Tensor, tone: Tone, grain: Grain | None = None, masks: Sequence[Tensor] = (),
    clamp: bool = False,
) -> Tensor:
    """Multiply views by masks, change their colours, add noise and clamp them, in this order.

    Args:
        views: `[R, N, 3, H, W]`.
        tone: The change of the colours.
        grain: The noise, if any.
        masks: `[R|1, N|1, H, W]` each, in 0..1.
        clamp: Clamp to 0..1 at the end; see `clamp_unit` for the gradient.

    Returns:
        `[R, N, 3, H, W]`.
    """
    for mask in masks:
        views = views * mask[:, :, None]
    views = tone.applied(views)
    if grain is not None:
        views = grain.added(views)
    return clamp_unit(views) if clamp else views
