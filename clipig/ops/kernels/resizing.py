"""Resizes whole images with antialiasing."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int]
"""height, width"""


def resize(pictures: Tensor, size: Shape, mode: str = "bilinear", wrap: bool = False) -> Tensor:
    """Resize images, with antialiasing where they shrink.

    Args:
        pictures: `[B, C, H, W]`.
        size: New height and width.
        mode: `nearest`, `bilinear` or `bicubic`.
        wrap: Opposite edges touch, as in a tile; the mode is then bilinear.

    Returns:
        `[B, C, *size]`.
    """
    height, width = pictures.shape[-2:]
    if (height, width) == tuple(size):
        return pictures
    if wrap or (mode == "bilinear" and _by_matrix(pictures, size)):
        down = _filter_on(height, size[0], wrap, pictures.dtype, pictures.device)
        across = _filter_on(width, size[1], wrap, pictures.dtype, pictures.device)
        return down @ (pictures @ across.mT)
    if mode == "nearest":
        return F.interpolate(pictures, size=size, mode="nearest-exact")
    return F.interpolate(pictures, size=size, mode=mode, align_corners=False, antialias=True)


def _by_matrix(pictures: Tensor, size: Shape) -> bool:
    """Whether to reduce with two matrix products instead of the interpolation kernel.

    On CUDA the products have a deterministic gradient, while the kernel does not. On a CPU
    the kernel is faster.
    """
    height, width = pictures.shape[-2:]
    if not pictures.is_floating_point() or height < size[0] or width < size[1]:
        return False
    return pictures.device.type != "cpu" and max(height, width) <= 1024


def filter_matrix(size: int, out: int, wrap: bool = False) -> Tensor:
    """Compute the weights of an antialiased bilinear resize of one axis.

    The filter is a triangle as wide as the output pixels, and at least as wide as the
    input pixels. At the edges it is cut and normalised as in Pillow and torch.

    Args:
        size: Number of input pixels.
        out: Number of output pixels.
        wrap: The filter continues at the opposite edge instead of being cut.

    Returns:
        `[out, size]`, float64; each row sums to one.
    """
    scale = size / out
    support = max(scale, 1.0)
    center = (torch.arange(out, dtype=torch.float64) + 0.5) * scale
    pixel = torch.arange(size, dtype=torch.float64) + 0.5
    away = pixel - center[:, None]
    if not wrap:
        weights = (1 - away.abs() / support).clamp(min=0)
    else:  # a wide triangle covers a pixel and its nearest copies
        turns = [(1 - (away + turn * size).abs() / support).clamp(min=0) for turn in (-1, 0, 1)]
        weights = turns[0] + turns[1] + turns[2]
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=64)
def _filter_on(
    size: int, out: int, wrap: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # cached inference tensors would break later gradients
        return filter_matrix(size, out, wrap).to(device, dtype)


def reduction_gain(size: Shape, out: Shape) -> float:
    """Standard deviation of white noise of deviation 1 after a resize from `size` to `out`.

    It is the root mean square, over the output pixels, of the filter's L2 norm.
    """
    return _gain(size[0], out[0]) * _gain(size[1], out[1])


@functools.lru_cache(maxsize=256)
def _gain(size: int, out: int) -> float:
    return 1.0 if size == out else float(filter_matrix(size, out).square().sum(1).mean().sqrt())
