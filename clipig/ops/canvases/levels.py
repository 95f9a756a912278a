"""Pictures of several sizes, enlarged and summed; resizing by matrix products.

A separable resize is `A x Bᵀ` with two small matrices. So written it has a
deterministic gradient on every device, it can go around the edge (`wrap`), and
a sum of levels becomes one product: with `L_i = A_i x_i`,
`sum_i L_i B_iᵀ = [L_1 L_2 ...] [B_1 B_2 ...]ᵀ`. On a CPU fine levels, of whose matrices
little is not zero, are added one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.kernels.banded import Band
from clipig.ops.kernels.cache_blocks import whole
from clipig.ops.kernels.sampling import Shape

COARSE = 48
"""columns up to which a level is enlarged by a dense product"""
Bands = Sequence[tuple[Band, Band]]
"""What enlarges levels down and across"""


def resize_matrix(
    before: int, after: int, mode: str, wrap: bool, device: torch.device
) -> Tensor:
    """What resizes a row of `before` numbers to `after`: `[after, before]`.

    The matrix of `transforms.sampling.resize` (antialiased where it shrinks);
    with `wrap` the row goes on around its ends.
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
    """Resize `[..., H, W]`; equal to `sampling.resize` unless it wraps."""
    height, width = x.shape[-2:]
    if height != size[0]:
        x = _band(height, size[0], mode, wrap, x.device).matrix @ x
    if width != size[1]:
        x = x @ _band(width, size[1], mode, wrap, x.device).matrix.T
    return x


def level_sizes(size: Shape, ratio: float, least: int = 1, most: int | None = None) -> list[int]:
    """Longer sides of the levels of a picture: `least`, times `ratio` ..., and its own."""
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

    A level of the very size is added as it is, which saves the largest product.
    """
    if not levels:
        raise ValueError("no levels to add")
    full = [x for x in levels if tuple(x.shape[-2:]) == tuple(size)]
    rest = [x for x in levels if tuple(x.shape[-2:]) != tuple(size)]
    if not whole(levels[0].device):
        coarse = [x for x in rest if x.shape[-1] <= COARSE]
        fine = [x for x in rest if x.shape[-1] > COARSE]
        few, many = (_bands(some, size, mode, wrap) for some in (coarse, fine))
        return _LevelSum.apply(few, many, *coarse, *fine, *full)  # type: ignore[no-any-return]
    total: Tensor | None = None
    if rest:
        bands = _bands(rest, size, mode, wrap)
        total = _joint(rest, bands) @ _table(bands).T
    for x in full:
        total = x if total is None else total + x
    assert total is not None
    return total


@lru_cache(maxsize=1024)
def _band(before: int, after: int, mode: str, wrap: bool, device: torch.device) -> Band:
    return Band(resize_matrix(before, after, mode, wrap, device))


def _bands(levels: Sequence[Tensor], size: Shape, mode: str, wrap: bool) -> Bands:
    """What enlarges levels to `size`."""
    return [
        (_band(x.shape[-2], size[0], mode, wrap, x.device),
         _band(x.shape[-1], size[1], mode, wrap, x.device)) for x in levels
    ]


def _joint(levels: Sequence[Tensor], bands: Bands) -> Tensor:
    """Levels enlarged downwards, side by side: `[..., H, sum of w_i]`."""
    return torch.cat([down.matrix @ x for x, (down, _) in zip(levels, bands, strict=True)], -1)


def _table(bands: Bands) -> Tensor:
    """What enlarges `_joint` across and adds the levels: `[W, sum of w_i]`."""
    return torch.cat([across.matrix for _, across in bands], -1)


class _LevelSum(torch.autograd.Function):
    """For a CPU: coarse levels as one product, fine ones by their bands."""

    @staticmethod
    def forward(ctx: Any, coarse: Bands, fine: Bands, *levels: Tensor) -> Tensor:
        """`levels`: those with the bands `coarse`, then `fine`, then those of full size."""
        ctx.coarse, ctx.fine, ctx.shapes = coarse, fine, [x.shape for x in levels]
        flat = iter([x.flatten(0, -3) for x in levels])
        total: Tensor | None = None
        if coarse:
            ctx.table = _table(coarse)
            total = _joint([next(flat) for _ in coarse], coarse) @ ctx.table.T
        for down, across in fine:
            total = across.across(down.down(next(flat)), total)
        for x in flat:
            total = x.clone() if total is None else total.add_(x)
        assert total is not None
        return total.view(*levels[0].shape[:-2], *total.shape[-2:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat = grads[0].flatten(0, -3)
        passed: list[Tensor] = []
        if ctx.coarse:
            widths = [shape[-1] for shape in ctx.shapes[: len(ctx.coarse)]]
            pieces = (flat @ ctx.table).split(widths, -1)
            passed += [d.turned.matrix @ p for (d, _), p in zip(ctx.coarse, pieces, strict=True)]
        passed += [d.turned.down(a.turned.across(flat)) for d, a in ctx.fine]
        passed += [flat] * (len(ctx.shapes) - len(passed))
        return None, None, *(g.view(s) for g, s in zip(passed, ctx.shapes, strict=True))
