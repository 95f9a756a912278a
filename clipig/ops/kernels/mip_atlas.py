"""A mip atlas: a picture at several sizes in one texture.

Views that show pieces of very different size need the picture at different
resolutions, or small details alias. The levels, half an octave apart (1, 0.71,
0.5, ...), are packed into one texture of about 2.3 times the picture's area,
made once per run and read once per view, whatever the number of views. Each
view takes the level nearest to its own scale, at most 19 % off; which one is
decided on the device. (Williams, "Pyramidal parametrics", 1983, with one
nearest level instead of a blend of two: half the reading.)
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
"""pixels of a reduced picture per pixel of the view for which white and 1/f noise
keep the contrast that rotating first and resizing last would leave. Chosen among
1, 1.1, 1.2, 1.3, 1.41 and 1.7 for a 224 canvas, padded by 32, turned by up to 30
degrees and shown at 64, 160 and 224 (tests/ops/kernels/test_sampling.py checks the white noise)"""
STEPS = 2
"""levels per octave"""
LEAST = 4
"""no level is made smaller than this many pixels"""


@dataclass(frozen=True)
class Levels:
    """Where the levels of a picture lie in the atlas.

    `shelves` are rows of the atlas, each with the numbers of its levels from
    left to right; `guard` pixels around each level repeat its opposite side.
    """

    sizes: tuple[Shape, ...]
    corners: tuple[Shape, ...]
    shelves: tuple[tuple[int, ...], ...]
    extent: Shape
    guard: int

    def pack(self, pictures: Tensor, wrap: bool = False) -> Tensor:
        """The atlas `[B, C, *extent]` of pictures `[B, C, H, W]`."""
        levels = [pictures]
        for number, size in enumerate(self.sizes[1:], 1):
            # from the level one octave above: little is filtered twice
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
        """Points of the picture (pixels) as points of the atlas, -1..1.

        `magnitude` `[R|1, N|1]`: picture pixels per view pixel; decides the level.
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
    """For each level: scale in x and y, then left, top, right and bottom of its inside."""
    full = levels.sizes[0]
    rows = []
    for (height, width), (top, left) in zip(levels.sizes, levels.corners, strict=True):
        top, left = top + levels.guard, left + levels.guard
        rows.append([width / full[1], height / full[0], left, top, left + width, top + height])
    with torch.inference_mode(False):  # a tensor that any later step may use
        return torch.tensor(rows, dtype=torch.float32, device=device)


@functools.lru_cache(maxsize=256)
def layout(size: Shape, most: float, guard: int = 0) -> Levels | None:
    """The levels for views that show a picture reduced up to `most` times; None for one level."""
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
    """Put each level, from the largest on, on the first shelf that has room for it."""
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
