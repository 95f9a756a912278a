"""A filter that acts on the gradient only.

Under SGD a sum of levels moves the picture by its gradient through a low-pass
filter of power-law shape. Here is that filter by itself: the same effect with
one tensor and one Fourier transform per step.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from clipig.ops.kernels.sampling import Shape


@lru_cache(maxsize=64)
def power_law(size: Shape, power: float, device: torch.device) -> Tensor:
    """`1 / max(k, 1)^power` for `rfft2`, k in waves per longer side: `[H, W // 2 + 1]`.

    Scaled so that white noise keeps its root mean square.
    """
    height, width = size
    longer = max(size)
    y = torch.fft.fftfreq(height)[:, None] * longer
    x = torch.fft.rfftfreq(width)[None] * longer
    gain = (x.square() + y.square()).sqrt().clamp(min=1) ** -power
    weight = torch.full_like(gain, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    mean = (gain.square() * weight).sum() / (height * width)
    scaled: Tensor = gain / mean.sqrt()
    return scaled.to(device)


class _Precondition(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, power):  # type: ignore[no-untyped-def]
        ctx.power = power
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        size = (grad.shape[-2], grad.shape[-1])
        gain = power_law(size, ctx.power, grad.device)
        filtered = torch.fft.irfft2(torch.fft.rfft2(grad) * gain, s=size)
        return filtered, None


def precondition(x: Tensor, power: float) -> Tensor:
    """`x` itself; its gradient `[..., H, W]` is filtered by `1 / k^power`."""
    if power == 0:
        return x
    return _Precondition.apply(x, power)  # type: ignore[no-untyped-call, no-any-return]
