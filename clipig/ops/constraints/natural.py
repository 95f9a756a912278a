"""Constraints that prefer properties which photographs and designs have in common."""

from __future__ import annotations

import functools
import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import LIVE, Numbers, Value, constant
from clipig.ops.constraints.base import Constraint
from clipig.ops.kernels.resizing import Shape
from clipig.ops.transforms.base import Params, color
from clipig.ops.transforms.color import luma


class Spectrum(Constraint):
    """Prefer the spectrum of natural images, amplitude 1 / frequency^slope; K is 1.

    The power of the brightness (under a Hann window) is averaged over rings of
    spatial frequency, three per octave. D compares its logarithm to base 10 with
    the line of the given slope through its mean, so the contrast stays free.
    Photographs have a slope of about 1 (D. J. Field, "Relations between the
    statistics of natural images and the response properties of cortical cells",
    1987). Noise has a slope of 0, soft images of 2.

    Example:
        - spectrum: {slope: 1, weight: .5}
    """

    name: ClassVar[str] = "spectrum"
    sole: ClassVar[str] = "slope"
    factor: ClassVar[float] = 1.0

    slope: Annotated[Value, Numbers(variables=LIVE)] = constant(1.0)
    """power with which the amplitude falls with the frequency"""

    def check(self, size: Shape, p: Params) -> str | None:
        if min(size) >= 8:
            return None
        return f"a spectrum needs views of at least 8x8 pixels, they are {size[1]}x{size[0]} here"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        size = (views.shape[-2], views.shape[-1])
        rings, frequency, window = _rings(size, views.device)
        gray = luma(views)[:, :, 0]
        gray = (gray - gray.mean((-2, -1), keepdim=True)) * window
        power = torch.fft.rfft2(gray.float()).abs().square().flatten(2) / gray[0, 0].numel()
        level = (power @ rings + 1e-8).log10()
        level = level + 2 * p.slope * frequency
        return self.distance(level - level.mean(-1, keepdim=True))


@functools.lru_cache(maxsize=16)
def _rings(size: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the rings of spatial frequency for views of height and width `size`.

    Returns:
        The weight of each entry of the spectrum in each ring, `[H * (W // 2 + 1), rings]`;
        log10 of the rings' mean frequency in cycles per pixel, `[rings]`; the Hann window,
        `[H, W]`.
    """
    height, width = size
    y = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    x = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
    radius = (x.square() + y.square()).sqrt().flatten()
    twice = torch.full_like(x, 2.0)  # an entry of the half spectrum also stands for its conjugate
    twice[0, 0] = 1.0
    if width % 2 == 0:
        twice[0, -1] = 1.0
    weight = twice.expand(height, -1).flatten() * (radius <= 0.5)
    first = 2.0 / min(size)  # window and composition dominate the lower frequencies
    ring = (3 * torch.log2(radius.clamp(min=1e-9) / first)).floor()
    columns, frequency = [], []
    for number in range(math.ceil(3 * math.log2(0.5 / first)) + 1):
        share = weight * (ring == number)
        if share.sum() > 0:
            share = share / share.sum()
            columns.append(share)
            frequency.append((share * radius.clamp(min=1e-9).log10()).sum())
    hann_y = torch.hann_window(height, dtype=torch.float64)[:, None]
    hann_x = torch.hann_window(width, dtype=torch.float64)
    with torch.inference_mode(False):  # cached inference tensors would break later gradients
        made = torch.stack(columns, 1), torch.stack(frequency), hann_y * hann_x
        rings, log_frequency, window = (t.to(device, torch.float32) for t in made)
    return rings, log_frequency, window


class PaletteColors(Constraint):
    """Prefer pixels of the given colours: D(x, the nearest of the colours).

    Example:
        - colors: {palette: [0, 0, 0, 1, 1, 1, .8, .1, .1]}
    """

    name: ClassVar[str] = "colors"
    sole: ClassVar[str] = "palette"

    palette: Annotated[Value, Numbers(tuple(range(3, 97, 3)), variables=LIVE)]
    """red, green and blue of each colour, one colour after the other; up to 32 colours"""

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        nearest: Tensor | None = None
        for shade in p.palette.split(3, -1):
            away = views - color(shade)
            away = away.abs() if self.loss in ("l1", "mae") else away.square()
            away = away.mean(2)
            nearest = away if nearest is None else torch.minimum(nearest, away)
        assert nearest is not None
        return nearest.mean((-2, -1))


class GrayWorld(Constraint):
    """Prefer images without tint: D(mean of each colour, mean of all three).

    White balance calls this the gray-world assumption (G. Buchsbaum, "A spatial processor
    model for object colour perception", 1980).

    Example:
        - gray_world: {weight: 2}
    """

    name: ClassVar[str] = "gray_world"

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        means = views.mean((-2, -1))
        return self.distance(means - means.mean(2, keepdim=True))
