"""Stores an image as the coefficients of its waves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.base import Positive
from clipig.ops.canvases.base import Canvas, CanvasSpec
from clipig.ops.canvases.fields import Grid, Power
from clipig.ops.canvases.finish import Axes, Finish, Squash
from clipig.ops.canvases.offset import OffsetCanvas
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw, stream_id

GAIN = 0.25
"""amplitude of the wave of one period per image for a coefficient of 1, as in lucid"""


@lru_cache(maxsize=64)
def amplitudes(spectrum: Shape, size: Shape, decay: float, device: torch.device) -> Tensor:
    """Compute the amplitudes `1 / max(k, 1)^decay` of a half spectrum.

    The amplitude is 0 for the mean, which belongs to the offset, and for the highest
    wave of an even size, which has no conjugate partner.

    Args:
        spectrum: Height and width of the grid of waves.
        size: Height and width of the image; k is in waves per longer side.
        decay: Power of the decrease.
        device: Device of the result.

    Returns:
        `[h, w // 2 + 1]`.
    """
    (height, width), longer = spectrum, max(size)
    y = torch.fft.fftfreq(height)[:, None] * (height * longer / size[0])
    x = torch.fft.rfftfreq(width)[None] * (width * longer / size[1])
    scale = (x.square() + y.square()).sqrt().clamp(min=1) ** -decay
    scale[0, 0] = 0
    if height % 2 == 0:
        scale[height // 2] = 0
    if width % 2 == 0:
        scale[:, -1] = 0
    kept: Tensor = scale
    return kept.to(device)


def power(spectrum: Shape, size: Shape, decay: float) -> float:
    """Mean square of an image whose half spectrum has these amplitudes and any phases."""
    # computed on the host, so that the result needs no wait for the device
    square = amplitudes(spectrum, size, decay, torch.device("cpu")).square()
    return float(2 * square.sum() - square[:, 0].sum())


def placed(half: Tensor, before: Shape, after: Shape) -> Tensor:
    """Crop or pad a half spectrum to another size.

    Each wave keeps its number of periods per image. Waves that do not fit are dropped, and
    new waves are zero.

    Args:
        half: `[..., h, w // 2 + 1]`.
        before: Height and width h, w.
        after: New height and width.

    Returns:
        `[..., h', w' // 2 + 1]`.
    """
    if before == after:
        return half
    columns = after[1] // 2 + 1
    half = half[..., :columns]
    half = F.pad(half, (0, columns - half.shape[-1]))
    count = min(before[0], after[0])
    positive, negative = (count + 1) // 2, count // 2
    gap = half.new_zeros((*half.shape[:-2], after[0] - count, columns))
    parts = [half[..., :positive, :], gap, half[..., half.shape[-2] - negative :, :]]
    return torch.cat(parts, -2)


def synthesised(half: Tensor, spectrum: Shape, size: Shape) -> Tensor:
    """Compute the image `[..., H, W]` of a complex half spectrum, equally strong at any size."""
    pictures: Tensor = torch.fft.irfft2(placed(half, spectrum, size), s=size, norm="forward")
    return pictures


class FreeCanvas(OffsetCanvas):
    """Learns both parts of each wave.

    `waves` `[R, 3, h, w // 2 + 1, 2]` holds real and imaginary parts, divided by
    `GAIN / k^decay`.
    """

    def __init__(
        self, spec: Fourier, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool
    ):
        super().__init__(start, Finish(spec.squash, spec.color), init, wrap)
        self.spec = spec
        self.spectrum = spec.shape(size)
        self.rates = {"waves": spec.rate}
        height, width = self.spectrum
        noise = draw.normal(stream_id("canvas", "fourier"), 0, (3, height, width // 2 + 1, 2))
        strength = math.sqrt(2 * power(self.spectrum, size, spec.decay))
        std = self.start_strength / (GAIN * strength)
        self.set("waves", noise * std[..., None])

    def _amplitudes(self) -> Tensor:
        device = self.buffers["offset"].device
        return amplitudes(self.spectrum, self.size, self.spec.decay, device)

    def content(self, t: Tensor | float) -> Tensor:
        half = self.parameters["waves"] * (GAIN * self._amplitudes())[..., None]
        return synthesised(torch.view_as_complex(half), self.spectrum, self.size)

    def resize(self, size: Shape, mode: str) -> None:
        super().resize(size, mode)
        self._before, self.spectrum = self.spectrum, self.spec.shape(size)
        self.set("waves", self._refit(self.parameters["waves"].detach()))

    def _refit(self, pairs: Tensor) -> Tensor:
        # `placed` treats real and imaginary parts like two spectra
        moved = placed(pairs.movedim(-1, 2), self._before, self.spectrum)
        return moved.movedim(2, -1).contiguous()

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return self._refit(state)


class PhaseCanvas(OffsetCanvas):
    """Learns the phases `phase` `[R, 3, h, w // 2 + 1]` in radians.

    The buffer `magnitude`, of the same shape, is fixed. In the first column, waves k and -k
    are conjugate partners, so their phase is the difference of two parameters there.
    """

    def __init__(
        self, spec: Fourier, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool
    ):
        super().__init__(start, Finish(spec.squash, spec.color), init, wrap)
        self.spectrum = spec.shape(size)
        self.rates = {"phase": spec.rate}
        height, width = self.spectrum
        natural = amplitudes(self.spectrum, size, spec.decay, start.device)
        if init == "picture":
            offset = self.buffers["offset"]
            half = torch.fft.rfft2(offset, norm="forward")
            half = placed(half, size, self.spectrum) * (natural > 0)
            magnitude, phase = half.abs(), half.angle()
            phase[..., 0] /= 2
            self.buffers["offset"] = offset - synthesised(half, self.spectrum, size)
        else:
            strength = math.sqrt(power(self.spectrum, size, spec.decay))
            magnitude = natural * (spec.contrast / strength)
            magnitude = magnitude.expand(start.shape[0], 3, -1, -1)
            stream = stream_id("canvas", "fourier", "phase")
            phase = draw.uniform(stream, 0, (3, height, width // 2 + 1), -math.pi, math.pi)
        self.buffers["magnitude"] = magnitude.contiguous()
        self.buffers["spectrum"] = start.new_tensor(self.spectrum).expand(start.shape[0], 2)
        self.set("phase", phase)

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        height, width = self.buffers["spectrum"][0].int().tolist()
        self.spectrum = (height, width)  # fixed at the first size of the run

    def half(self) -> Tensor:
        """Compute the complex half spectrum `[R, 3, h, w // 2 + 1]`."""
        phase = self.parameters["phase"]
        first = phase[..., :1]
        partner = torch.cat([first[..., :1, :], first[..., 1:, :].flip(-2)], -2)
        phase = torch.cat([first - partner, phase[..., 1:]], -1)
        return torch.polar(self.buffers["magnitude"], phase)

    def content(self, t: Tensor | float) -> Tensor:
        return synthesised(self.half(), self.spectrum, self.size)


class Fourier(CanvasSpec):
    """Store the coefficients of waves: `rgb = squash(offset + irfft2(c_k / k^decay))`.

    One coefficient changes the whole image, and low waves change it most, so
    gradients spread as they do in photographs (Olah, Mordvintsev and Schubert,
    "Feature Visualization", 2017; lucid). With `magnitude: fixed` only the
    phases are learned. The strength of each wave is then 1 / k^decay, as in natural
    images, or taken from the start image (MACO: Fel et al., 2023).

    Example:
        canvas: {fourier: {magnitude: fixed, decay: 1.2}}
    """

    name: ClassVar[str] = "fourier"
    editable: ClassVar[bool] = True

    magnitude: Literal["free", "fixed"] = "free"
    """`fixed`: only the phases are learned, and the spectrum keeps its first size"""
    decay: Power = 1.0
    """power with which the strength of the waves falls"""
    spectrum: Grid | None = None
    """width and height of the grid of waves; default: as many waves as pixels"""
    contrast: Positive = 1.0
    """standard deviation of the stored values for `fixed` and a start from noise"""
    squash: Squash = "sigmoid"
    """function from stored values to colours"""
    color: Axes = "decorrelated"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    rate: Positive = 5.0
    """factor of the learning rate"""

    def shape(self, size: Shape) -> Shape:
        """Height and width of the grid of waves for an image of this size."""
        if self.spectrum is None:
            return size
        width, height = self.spectrum
        return height, width

    def check(self, size: Shape) -> str | None:
        if power(self.shape(size), size, self.decay) > 0:
            return None
        height, width = self.shape(size)
        return (f"found a grid of {width}x{height} waves, expected at least one side of 3 or more: "
                "smaller ones hold the mean colour alone, which is not learned")

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        kind = PhaseCanvas if self.magnitude == "fixed" else FreeCanvas
        return kind(self, start, size, draw, init, wrap)
