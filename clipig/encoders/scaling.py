"""Keeps gradients inside float16's range on their way back through a tower.

float16 holds numbers down to 6e-8 only; the gradient of a cosine with respect
to an activation is often smaller and would vanish. Between the two ends of the
tower it is multiplied, per view, by a power of two that brings its largest
number near one, and divided by the same at the input. Exact, since the backward
pass is linear; per view, so that neighbours in the batch do not matter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Enlarge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embedded: Tensor, owner: GradientScale) -> Tensor:
        ctx.owner = owner
        return embedded.view_as(embedded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        largest = grad.detach().abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
        factor = torch.exp2(-torch.log2(largest).floor())
        ctx.owner.factor = factor
        return grad * factor, None


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
    """One forward and backward pass: `restore` at the input, `enlarge` at the output."""

    factor: Tensor

    def enlarge(self, embedded: Tensor) -> Tensor:
        """Identity; its backward multiplies the gradient `[B, D]` per row."""
        out: Tensor = _Enlarge.apply(embedded, self)
        return out

    def restore(self, views: Tensor) -> Tensor:
        """Identity; its backward divides the gradient `[B, 3, H, W]` again."""
        out: Tensor = _Restore.apply(views, self)
        return out
