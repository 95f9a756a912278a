"""A picture as the waves that it is made of."""

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
"""amplitude that a coefficient of 1 means at one wave per picture, as in lucid"""


@lru_cache(maxsize=64)
def amplitudes(spectrum: Shape, size: Shape, decay: float, device: torch.device) -> Tensor:
    """`1 / max(k, 1)^decay`, k in waves per longer side of `size`: `[h, w // 2 + 1]`.

    Zero for the mean, which belongs to the offset, and at the highest wave of
    an even size, which has no partner of its own.
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
    """Mean square of a picture whose half spectrum has these amplitudes and any phases."""
    # on the host, for it is wanted there
    square = amplitudes(spectrum, size, decay, torch.device("cpu")).square()
    return float(2 * square.sum() - square[:, 0].sum())


def placed(half: Tensor, before: Shape, after: Shape) -> Tensor:
    """A half spectrum `[..., h, w // 2 + 1]` of one size as that of another.

    Waves keep their number per picture; those that do not fit are left out, new
    ones are zero.
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
    """The picture `[..., H, W]` of a complex half spectrum, of equal strength at any size."""
    pictures: Tensor = torch.fft.irfft2(placed(half, spectrum, size), s=size, norm="forward")
    return pictures


class FreeCanvas(OffsetCanvas):
    """`waves` `[R, 3, h, w // 2 + 1, 2]`: real and imaginary parts, divided by `GAIN / k^decay`."""

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
        # real and imaginary parts are moved like two spectra
        moved = placed(pairs.movedim(-1, 2), self._before, self.spectrum)
        return moved.movedim(2, -1).contiguous()

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return self._refit(state)


class PhaseCanvas(OffsetCanvas):
    """`phase` `[R, 3, h, w // 2 + 1]` in radians; `magnitude`, of the same shape, is fixed.

    In the first column waves k and -k are partners, so there the phase is the
    difference of the two numbers and the magnitude stays what it is.
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
        self.spectrum = (height, width)  # that of the first size, not of this one

    def half(self) -> Tensor:
        """The complex half spectrum `[R, 3, h, w // 2 + 1]`."""
        phase = self.parameters["phase"]
        first = phase[..., :1]
        partner = torch.cat([first[..., :1, :], first[..., 1:, :].flip(-2)], -2)
        phase = torch.cat([first - partner, phase[..., 1:]], -1)
        return torch.polar(self.buffers["magnitude"], phase)

    def content(self, t: Tensor | float) -> Tensor:
        return synthesised(self.half(), self.spectrum, self.size)


class Fourier(CanvasSpec):
    """Coefficients of waves: `rgb = squash(offset + irfft2(c_k / k^decay))`.

    One coefficient moves the whole picture, and low waves move it most, so
    gradients spread as they do in photographs (Olah, Mordvintsev and Schubert,
    "Feature Visualization", 2017; lucid). With `magnitude: fixed` only the
    phases are learned and the strength of each wave is that of a natural
    picture, 1 / k^decay, or that of the start picture (MACO: Fel et al., 2023).

    Example:
        canvas: {fourier: {magnitude: fixed, decay: 1.2}}
    """

    name: ClassVar[str] = "fourier"
    editable: ClassVar[bool] = True

    magnitude: Literal["free", "fixed"] = "free"
    """`fixed`: only the phases are learned; the spectrum then keeps its first size"""
    decay: Power = 1.0
    """how fast the strength of waves falls with their number"""
    spectrum: Grid | None = None
    """width and height of the grid of waves; default: as many as there are pixels"""
    contrast: Positive = 1.0
    """`fixed` from noise: standard deviation of the stored numbers"""
    squash: Squash = "sigmoid"
    """how stored numbers become colours"""
    color: Axes = "decorrelated"
    """`decorrelated`: stored along the axes in which colours of photographs vary (lucid)"""
    rate: Positive = 5.0
    """factor of the learning rate"""

    def shape(self, size: Shape) -> Shape:
        """Height and width of the grid of waves for a picture of this size."""
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
