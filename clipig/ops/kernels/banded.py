"""Separable resizes as products with banded matrices.

Each number of a resized row comes from a short piece of the row, so the matrix of
the resize is zero but for a band. A CPU multiplies it block by block, about a
fourth of the dense product; elsewhere the matrix is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipig.ops.kernels.cache_blocks import whole

_PER_BLOCK = 48
"""columns or rows (whichever are more) per block: smaller ones do not fill the processor"""
_MOST = 16
"""blocks: more hardly hold less"""
_WORTH = 0.6
"""share of a matrix that its blocks may hold at most; more is multiplied in one piece"""


@dataclass(frozen=True)
class Block:
    """Some rows of a matrix without the columns that are zero there."""

    rows: slice
    columns: slice
    weights: Tensor


class Band:
    """A matrix `[out, n]` that makes `out` numbers of a row of `n`, on its device."""

    def __init__(self, matrix: Tensor):
        self.matrix = matrix

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What is not zero, in pieces."""
        out, n = self.matrix.shape
        count = max(1, min(_MOST, max(out, n) // _PER_BLOCK))
        step = -(-out // count)
        blocks = [_block(self.matrix, slice(a, min(a + step, out))) for a in range(0, out, step)]
        if sum(b.weights.numel() for b in blocks) > _WORTH * out * n:
            return (Block(slice(0, out), slice(0, n), self.matrix),)
        return tuple(blocks)

    @cached_property
    def turned(self) -> Band:
        """The transpose, which takes gradients back."""
        return Band(self.matrix.T.contiguous())

    def across(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """`x @ matrix.T`: `[..., n]` to `[..., out]`; with `out` (contiguous) added to it."""
        rows = x.reshape(-1, x.shape[-1])
        made = x.new_empty(*x.shape[:-1], len(self.matrix)) if out is None else out
        flat = made.view(len(rows), -1)
        for block in self.blocks:
            piece, weights = rows[:, block.columns], block.weights.T
            if out is None:
                torch.mm(piece, weights, out=flat[:, block.rows])
            else:
                flat[:, block.rows].addmm_(piece, weights)
        return made

    def down(self, x: Tensor) -> Tensor:
        """`matrix @ x`: `[B, n, w]` to `[B, out, w]`."""
        made = x.new_empty(len(x), len(self.matrix), x.shape[-1])
        for block in self.blocks:
            weights = block.weights.expand(len(x), -1, -1)
            torch.bmm(weights, x[:, block.columns], out=made[:, block.rows])
        return made


def _block(matrix: Tensor, rows: slice) -> Block:
    used = matrix[rows].ne(0).any(0).nonzero()[:, 0].tolist() or [0]
    columns = slice(used[0], used[-1] + 1)
    return Block(rows, columns, matrix[rows, columns].contiguous())


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Band, across: Band) -> Tensor:
        ctx.bands = down, across
        # what is batched is slower, so it is done where the rows are short
        made = down.down(across.across(x.flatten(0, -3)))
        return made.view(*x.shape[:-2], *made.shape[-2:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        down, across = ctx.bands
        grad = grads[0]
        made = across.turned.across(down.turned.down(grad.flatten(0, -3)))
        return made.view(*grad.shape[:-2], *made.shape[-2:]), None, None


def separable(x: Tensor, down: Band, across: Band) -> Tensor:
    """`down.matrix @ x @ across.matrix.T` of `[..., h, w]`, differentiable once."""
    if whole(x.device):
        return down.matrix @ (x @ across.matrix.mT)
    return _Separable.apply(x, down, across)  # type: ignore[no-any-return]
