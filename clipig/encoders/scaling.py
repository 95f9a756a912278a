"""Keeps gradients inside float16's range on their way back through a tower.

float16 holds numbers down to 6e-8 only; the gradient of a cosine with respect
to an activation is often smaller and would vanish. Between the two ends of the
tower it is multiplied, per view, by a power of two that brings its largest
number near one, and divided by the same at the input. Exact, since the backward
pass is linear; per view, so that neighbours in the batch do not matter. Several
outputs (an embedding and early activations) share the factor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Enlarge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, owner: GradientScale, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.owner = owner
        return tuple(x.view_as(x) for x in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        each = [g.detach().abs().flatten(1).amax(dim=1) for g in grads]
        largest = torch.stack(each).amax(dim=0).clamp(min=1e-30)
        factor = torch.exp2(-torch.log2(largest).floor())
        ctx.owner.factor = factor
        return (None, *(g * factor.view(-1, *(1,) * (g.ndim - 1)) for g in grads))


class _Restore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor, owner: GradientScale) -> Tensor:
        ctx.owner = owner
        return views.view_as(views)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad / ctx.owner.factor.view(-1, 1, 1, 1), None


class GradientScale:
    """One forward and backward pass: `restore` at the input, `enlarge` at the outputs.

    Without `active`, for arithmetic of a greater range, both do nothing.
    """

    factor: Tensor

    def __init__(self, active: bool = True):
        self._active = active

    def enlarge(self, *outputs: Tensor) -> tuple[Tensor, ...]:
        """Identity on all outputs `[B, ...]`; its backward multiplies their gradients per row."""
        if not self._active:
            return outputs
        out: tuple[Tensor, ...] = _Enlarge.apply(self, *outputs)
        return out

    def restore(self, views: Tensor) -> Tensor:
        """Identity; its backward divides the gradient `[B, 3, H, W]` again."""
        if not self._active:
            return views
        out: Tensor = _Restore.apply(views, self)
        return out
