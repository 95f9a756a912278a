"""Resizing of whole pictures, antialiased."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int]
"""height, width"""


def resize(pictures: Tensor, size: Shape, mode: str = "bilinear", wrap: bool = False) -> Tensor:
    """Resize `[B, C, H, W]`, antialiased where it shrinks; mode nearest, bilinear or bicubic.

    `wrap`: the picture is a tile, its opposite edges meet (bilinear only).
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
    """Whether two matrix products are the better way to reduce.

    On CUDA their gradient is deterministic, which the interpolation kernel's is not; a CPU
    takes less time for the interpolation.
    """
    height, width = pictures.shape[-2:]
    if not pictures.is_floating_point() or height < size[0] or width < size[1]:
        return False
    return pictures.device.type != "cpu" and max(height, width) <= 1024


def filter_matrix(size: int, out: int, wrap: bool = False) -> Tensor:
    """Weights of the antialiased bilinear resize of one axis: `[out, size]`, rows of sum one.

    A triangle as wide as the output pixels (never narrower than the input's),
    cut at the edges and normalised as Pillow and torch do it, or laid around.
    """
    scale = size / out
    support = max(scale, 1.0)
    center = (torch.arange(out, dtype=torch.float64) + 0.5) * scale
    pixel = torch.arange(size, dtype=torch.float64) + 0.5
    away = pixel - center[:, None]
    if not wrap:
        weights = (1 - away.abs() / support).clamp(min=0)
    else:  # a wide triangle meets a pixel and its next copies
        turns = [(1 - (away + turn * size).abs() / support).clamp(min=0) for turn in (-1, 0, 1)]
        weights = turns[0] + turns[1] + turns[2]
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=64)
def _filter_on(
    size: int, out: int, wrap: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # a tensor that any later step may use
        return filter_matrix(size, out, wrap).to(device, dtype)


def reduction_gain(size: Shape, out: Shape) -> float:
    """What an antialiased resize from `size` to `out` makes of white noise of std 1.

    The root mean square over the result of the L2 norm of the filter.
    """
    return _gain(size[0], out[0]) * _gain(size[1], out[1])


@functools.lru_cache(maxsize=256)
def _gain(size: int, out: int) -> float:
    return 1.0 if size == out else float(filter_matrix(size, out).square().sum(1).mean().sqrt())
