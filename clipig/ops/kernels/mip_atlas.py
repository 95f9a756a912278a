"""A mip atlas: one texture that holds an image at several sizes.

Views that show pieces of very different size need the image at different
resolutions, or small details alias. The levels, half an octave apart (1, 0.71,
0.5, ...), are packed into one texture of about 2.3 times the image's area. The
texture is made once per run and read once per view. Each view uses the level
nearest to its own scale, at most 19 % off; the device makes this choice.

Source: Williams, "Pyramidal parametrics", 1983, with the nearest level instead of a
blend of two, which halves the number of reads.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.kernels.resizing import Shape, resize

SHARPNESS = 1.3
"""pixels of the reduced image per pixel of the view. At this ratio white noise and 1/f
noise keep the contrast that a rotation followed by a resize would leave. Chosen among
1, 1.1, 1.2, 1.3, 1.41 and 1.7 for a canvas of 224 pixels, padded by 32, rotated by up to 30
degrees and shown at 64, 160 and 224 (tests/ops/kernels/test_sampling.py checks the white noise)"""
STEPS = 2
"""levels per octave"""
LEAST = 4
"""minimum side of a level in pixels"""


@dataclass(frozen=True)
class Levels:
    """Layout of the levels in the atlas.

    Attributes:
        sizes: Height and width of each level, from the largest to the smallest.
        corners: Top and left of each level in the atlas.
        shelves: Rows of the atlas; each holds the indices of its levels from left to right.
        extent: Height and width of the atlas.
        guard: Pixels around each level that repeat its opposite side.
    """

    sizes: tuple[Shape, ...]
    corners: tuple[Shape, ...]
    shelves: tuple[tuple[int, ...], ...]
    extent: Shape
    guard: int

    def pack(self, pictures: Tensor, wrap: bool = False) -> Tensor:
        """Build the atlas of a batch of images.

        Args:
            pictures: `[B, C, H, W]`.
            wrap: Opposite edges of the images touch.

        Returns:
            `[B, C, *extent]`.
        """
        levels = [pictures]
        for number, size in enumerate(self.sizes[1:], 1):
            # starts from the level one octave above, so that little is filtered twice
            levels.append(resize(levels[max(0, number - STEPS)], size, wrap=wrap))
        guard = self.guard
        if guard:
            levels = [F.pad(level, (guard,) * 4, mode="circular") for level in levels]
        rows = []
        for shelf in self.shelves:
            height = levels[shelf[0]].shape[-2]
            row = torch.cat([F.pad(levels[n], (0, 0, 0, height - levels[n].shape[-2]))
                             for n in shelf], -1)
            rows.append(F.pad(row, (0, self.extent[1] - row.shape[-1])))
        return torch.cat(rows, -2)

    def place(self, x: Tensor, y: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Convert points of the image to points of the atlas.

        Args:
            x: `[R|1, N|1, h|1, w]`, in pixels of the image.
            y: `[R|1, N|1, h, w|1]`, in pixels of the image.
            magnitude: `[R|1, N|1]`, image pixels per view pixel, which selects the level.

        Returns:
            x and y in the atlas, -1..1.
        """
        octaves = (magnitude / SHARPNESS).log2()
        level = (STEPS * octaves).round().clamp(0, len(self.sizes) - 1).long()
        table = _table(self, x.device)[level][..., None, None, :]  # [R|1, N|1, 1, 1, 6]
        factor_x, factor_y, left, top, right, bottom = table.unbind(-1)
        guard = self.guard
        inset = 0.5 - guard
        x = (x * factor_x).clamp(inset, None).minimum(right - left - inset) + left
        y = (y * factor_y).clamp(inset, None).minimum(bottom - top - inset) + top
        return x * (2 / self.extent[1]) - 1, y * (2 / self.extent[0]) - 1


@functools.lru_cache(maxsize=64)
def _table(levels: Levels, device: torch.device) -> Tensor:
    """Return scale x, scale y, left, top, right, bottom per level (without guard): `[L, 6]`."""
    full = levels.sizes[0]
    rows = []
    for (height, width), (top, left) in zip(levels.sizes, levels.corners, strict=True):
        top, left = top + levels.guard, left + levels.guard
        rows.append([width / full[1], height / full[0], left, top, left + width, top + height])
    with torch.inference_mode(False):  # cached inference tensors would break later gradients
        return torch.tensor(rows, dtype=torch.float32, device=device)


@functools.lru_cache(maxsize=256)
def layout(size: Shape, most: float, guard: int = 0) -> Levels | None:
    """Choose and place the levels for views that show an image reduced.

    Args:
        size: Height and width of the image.
        most: Maximum reduction, image pixels per view pixel.
        guard: Pixels around each level that repeat its opposite side.

    Returns:
        The layout, or None if one level suffices.
    """
    sizes = [size]
    most /= SHARPNESS
    wanted = 0
    if most > 1:
        wanted = math.ceil(STEPS * math.log2(min(most, 1 << 16)) - 0.5)
    for number in range(1, wanted + 1):
        factor = 2 ** (-number / STEPS)
        level = (round(size[0] * factor), round(size[1] * factor))
        if min(level) < LEAST:
            break
        sizes.append(level)
    if len(sizes) == 1:
        return None
    return _shelved(sizes, guard)


def _shelved(sizes: list[Shape], guard: int) -> Levels:
    """Put each level, largest first, on the first shelf that has room for it."""
    width = sizes[0][1] + 2 * guard
    shelves: list[list[int]] = []
    used: list[int] = []
    tops: list[int] = []
    corners: list[Shape] = []
    bottom = 0
    for number, size in enumerate(sizes):
        needed = size[1] + 2 * guard
        shelf = next((i for i, taken in enumerate(used) if taken + needed <= width), len(used))
        if shelf == len(used):
            shelves.append([])
            used.append(0)
            tops.append(bottom)
            bottom += size[0] + 2 * guard
        corners.append((tops[shelf], used[shelf]))
        shelves[shelf].append(number)
        used[shelf] += needed
    return Levels(tuple(sizes), tuple(corners), tuple(map(tuple, shelves)), (bottom, width), guard)
