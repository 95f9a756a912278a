"""Straight changes of the colours, noise and the clamp to 0..1, done at once.

Any chain of straight changes is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipig.ops.kernels.clamp import clamp_unit


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

    def applied(self, views: Tensor) -> Tensor:
        """The changed views `[R, N, 3, H, W]`."""
        shift = self.shift
        if self.centred:  # the mean joins the shift: one pass less over the views
            mean = views.mean((-2, -1), keepdim=True)
            mean = mean if self.scale is None else mean * self.scale
            shift = -mean if shift is None else shift - mean
        if self.scale is None:
            return views if shift is None else views + shift
        return views * self.scale if shift is None else torch.addcmul(shift, views, self.scale)

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

    values: Tensor
    strength: Tensor

    def added(self, views: Tensor) -> Tensor:
        """The views `[R, N, 3, H, W]` with the noise."""
        return torch.addcmul(views, self.values, self.strength)


def touched(
    views: Tensor, tone: Tone, grain: Grain | None = None, masks: Sequence[Tensor] = (),
    clamp: bool = False,
) -> Tensor:
    """Darken views by masks, change their colours, add noise and clamp them.

    Args:
        views: `[R, N, 3, H, W]`.
        tone: The change of colours.
        grain: The noise.
        masks: `[R|1, N|1, H, W]` each; multiplied with the views first.
        clamp: Clamp to 0..1 in the end; gradient passes inside, both ends included.
    """
    for mask in masks:
        views = views * mask[:, :, None]
    views = tone.applied(views)
    if grain is not None:
        views = grain.added(views)
    return clamp_unit(views) if clamp else views
