"""Converts stored values to colours: the squashing, and the axes of the stored colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from clipig.ops.kernels.clamp import clamp_inward

Squash = Literal["clamp", "sigmoid", "tanh"]
Axes = Literal["rgb", "decorrelated"]

# Root of the covariance of colours in photographs, columns from lightness to hue
# (lucid, `color_correlation_svd_sqrt`). `_NORM` is its largest column norm.
_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_NORM = sum(row[0] ** 2 for row in _ROOT) ** 0.5
SLOPES = {"clamp": 1.0, "sigmoid": 0.25, "tanh": 0.5}
"""slope of each squashing function at mid gray"""


@lru_cache(maxsize=16)
def _matrices(device: torch.device) -> tuple[Tensor, Tensor]:
    matrix = torch.tensor(_ROOT, dtype=torch.float64) / _NORM
    return matrix.float().to(device), torch.linalg.inv(matrix).float().to(device)


def mix(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply the colours of `[R, 3, H, W]` by a `[3, 3]` matrix."""
    return torch.einsum("ij,rjhw->rihw", matrix, x)


@dataclass(frozen=True)
class Finish:
    """The last stage of a canvas, from stored values `[R, 3, H, W]` to sRGB.

    Attributes:
        squash: `clamp`, `sigmoid` or `tanh` ((tanh(x) + 1) / 2).
        axes: `rgb`: red, green and blue are stored; `decorrelated`: coordinates along the
            axes in which the colours of photographs vary independently.
    """

    squash: Squash = "sigmoid"
    axes: Axes = "rgb"

    def levels(self, x: Tensor) -> Tensor:
        """Convert stored values to red, green and blue before the squashing."""
        return x if self.axes == "rgb" else mix(_matrices(x.device)[0], x)

    def show(self, x: Tensor) -> Tensor:
        """Convert stored values to colours in 0..1."""
        levels = self.levels(x)
        if self.squash == "sigmoid":
            return torch.sigmoid(levels)
        if self.squash == "tanh":
            return (torch.tanh(levels) + 1) / 2
        return clamp_inward(levels)

    def raw(self, x: Tensor) -> Tensor:
        """Convert stored values to colours, without clamping them to 0..1."""
        return self.levels(x) if self.squash == "clamp" else self.show(x)

    def invert(self, rgb: Tensor, eps: float = 1e-3) -> Tensor:
        """Convert colours to stored values.

        Args:
            rgb: `[R, 3, H, W]`, nominally in 0..1.
            eps: Minimum distance from 0 and 1 before a sigmoid or tanh is inverted, since
                the stored values of 0 and 1 are infinite.

        Returns:
            `[R, 3, H, W]`.
        """
        if self.squash == "sigmoid":
            levels = torch.logit(rgb, eps)
        elif self.squash == "tanh":
            levels = torch.atanh(rgb.clamp(eps, 1 - eps) * 2 - 1)
        else:
            levels = rgb.clone()
        return levels if self.axes == "rgb" else mix(_matrices(rgb.device)[1], levels)

    def strength(self, start: Tensor) -> Tensor:
        """Standard deviation of stored values that looks as strong as `start`: `[R, 1, 1, 1]`."""
        std = start.flatten(1).sub(start.mean((2, 3)).repeat_interleave(
            start.shape[2] * start.shape[3], 1)).square().mean(1).sqrt()
        gain = 1.0
        if self.axes == "decorrelated":
            gain = (sum(v**2 for row in _ROOT for v in row) / 3) ** 0.5 / _NORM
        return (std / (SLOPES[self.squash] * gain))[:, None, None, None]
