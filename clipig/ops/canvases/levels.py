"""Enlarges and sums images of several sizes; resizes by matrix products.

A separable resize is `A x Bᵀ` with two small matrices. In this form its gradient is
deterministic on every device, it can continue at the opposite edge (`wrap`), and
a sum of levels becomes one product: with `L_i = A_i x_i`,
`sum_i L_i B_iᵀ = [L_1 L_2 ...] [B_1 B_2 ...]ᵀ`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.kernels.sampling import Shape


def resize_matrix(
    before: int, after: int, mode: str, wrap: bool, device: torch.device
) -> Tensor:
    """Compute the matrix that resizes a row of pixels, antialiased where it shrinks.

    It gives the result of `kernels.resizing.resize`.

    Args:
        before: Number of pixels of the row.
        after: Number of pixels of the result.
        mode: `nearest`, `bilinear` or `bicubic`.
        wrap: The row continues at its opposite end.
        device: Device of the result.

    Returns:
        `[after, before]`.
    """
    copies = 3 if wrap else 1
    unit = torch.eye(before * copies)[None, None]
    size = (after * copies, before * copies)
    if mode == "nearest":
        matrix = F.interpolate(unit, size=size, mode="nearest-exact")[0, 0]
    else:
        matrix = F.interpolate(unit, size=size, mode=mode, align_corners=False, antialias=True)
        matrix = matrix[0, 0]
    if wrap:
        matrix = matrix[after : 2 * after].view(after, copies, before).sum(1)
    return matrix.contiguous().to(device)


def resized(x: Tensor, size: Shape, mode: str = "bilinear", wrap: bool = False) -> Tensor:
    """Resize `[..., H, W]` to `[..., *size]`, as `resizing.resize` does unless it wraps."""
    height, width = x.shape[-2:]
    if height != size[0]:
        x = _matrix(height, size[0], mode, wrap, x.device) @ x
    if width != size[1]:
        x = x @ _matrix(width, size[1], mode, wrap, x.device).T
    return x


def level_sizes(size: Shape, ratio: float, least: int = 1, most: int | None = None) -> list[int]:
    """Compute the longer sides of the levels of an image.

    Args:
        size: Height and width of the image.
        ratio: Ratio of the sides of two neighbouring levels.
        least: Longer side of the coarsest level.
        most: Maximum longer side of the finest level; None: as long as the image's.

    Returns:
        Longer sides in pixels, from coarse to fine.
    """
    longer = max(size) if most is None else min(max(size), most)
    if least >= longer:
        return [longer]
    steps = math.ceil(math.log(longer / least) / math.log(ratio))
    sides = {round(least * ratio**i) for i in range(steps)}
    return [*sorted(s for s in sides if s < longer), longer]


def level_shape(side: int, size: Shape) -> Shape:
    """Height and width of the level whose longer side is `side`."""
    longer = max(size)
    height, width = (max(1, round(side * n / longer)) for n in size)
    return height, width


def level_sum(
    levels: Sequence[Tensor], size: Shape, mode: str = "bilinear", wrap: bool = False
) -> Tensor:
    """Enlarge all `[R, C, h_i, w_i]` to `size` and add them: `[R, C, H, W]`.

    A level that already has this size is added unchanged, which saves the largest product.
    """
    if not levels:
        raise ValueError("no levels to add")
    full = [x for x in levels if tuple(x.shape[-2:]) == tuple(size)]
    rest = [x for x in levels if tuple(x.shape[-2:]) != tuple(size)]
    total: Tensor | None = None
    if rest:
        columns = [resized(x, (size[0], x.shape[-1]), mode, wrap) for x in rest]
        matrices = [_matrix(x.shape[-1], size[1], mode, wrap, x.device) for x in rest]
        total = torch.cat(columns, -1) @ torch.cat(matrices, -1).T
    for x in full:
        total = x if total is None else total + x
    assert total is not None
    return total


@lru_cache(maxsize=1024)
def _matrix(before: int, after: int, mode: str, wrap: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached inference tensors would break later gradients
        return resize_matrix(before, after, mode, wrap, device)
