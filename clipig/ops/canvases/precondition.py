"""A filter that acts only on the gradient.

Under SGD, an image that is a sum of levels moves by its gradient after a low-pass
filter of power-law shape. This module applies that filter directly: it has the same
effect with one tensor and one filtering in the Fourier domain per step.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from clipig.ops.kernels.sampling import Shape


@lru_cache(maxsize=64)
def power_law(size: Shape, power: float, device: torch.device) -> Tensor:
    """Compute the gains `1 / max(k, 1)^power`, scaled so that white noise keeps its strength.

    Args:
        size: Height and width of the images.
        power: Power of the decrease; k is in waves per longer side.
        device: Device of the result.

    Returns:
        `[H, W // 2 + 1]`, factors for the result of `rfft2`.
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
    """Return `x` unchanged and filter its gradient `[..., H, W]` by `1 / k^power`."""
    if power == 0:
        return x
    return _Precondition.apply(x, power)  # type: ignore[no-untyped-call, no-any-return]
