"""Transforms that add noise of mean zero. `std` is in units of the colour range 0..1."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from clipig.ops.base import Color, Deviation, Factor, Numbers, Size, Value, constant
from clipig.ops.kernels.resizing import Shape, resize
from clipig.ops.kernels.tones import Grain
from clipig.ops.transforms.base import Graining, Params, Pixelwise, color
from clipig.rng import ViewDraw


class _Normal(Graining):
    """Normal noise with one strength per channel."""

    channels: ClassVar[int]
    commutes: ClassVar[str] = "noise"

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.normal(self.channels, *size),)

    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        return Grain(drawn[0], color(p.std))


class Noise(_Normal):
    """Add normal noise to every pixel and channel.

    Example:
        - noise: .1
    """

    name: ClassVar[str] = "noise"
    sole: ClassVar[str] = "std"
    channels: ClassVar[int] = 3

    std: Deviation
    """standard deviation for red, green and blue"""


class BwNoise(_Normal):
    """Add normal noise that is the same for all channels.

    Example:
        - bwnoise: 1/5*ti
    """

    name: ClassVar[str] = "bwnoise"
    sole: ClassVar[str] = "std"
    channels: ClassVar[int] = 1

    std: Factor
    """standard deviation"""


class UniformNoise(Graining):
    """Add noise from -amount to amount to every pixel and channel.

    The noise is centred. Direct Ascent Synthesis adds 0..0.2, which brightens every view.

    Example:
        - uniform_noise: .1
    """

    name: ClassVar[str] = "uniform_noise"
    sole: ClassVar[str] = "std"
    commutes: ClassVar[str] = "noise"

    std: Deviation
    """maximum deviation for red, green and blue"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(3, *size, low=-1.0, high=1.0),)

    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        return Grain(drawn[0], color(p.std))


class RNoise(Graining):
    """Add normal noise that is drawn at another resolution and resized bilinearly to the view.

    Example:
        - rnoise: {std: .1, resolution: 20}
    """

    name: ClassVar[str] = "rnoise"
    sole: ClassVar[str] = "std"

    std: Deviation
    """standard deviation before the resize, which lowers it"""
    resolution: Size
    """width and height of the drawn noise"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.normal(3, *p.resolution),)

    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        noise = resize(drawn[0].flatten(0, 1), size).view(*drawn[0].shape[:3], *size)
        return Grain(noise, color(p.std))


class FNoise(Graining):
    """Add noise to the Fourier spectrum of each channel, whose rows form one long row.

    As in the original, 15 * std * N(0, 1) is added to the real and imaginary parts. The
    pixels' standard deviation is 15 * std * sqrt(2 / (H * W)), about a tenth of `std` at
    224 pixels. Odd sizes work, unlike in the original.

    Example:
        - fnoise: .1
    """

    name: ClassVar[str] = "fnoise"
    sole: ClassVar[str] = "std"

    std: Deviation
    """strength for red, green and blue"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.normal(2, 3, size[0] * size[1] // 2 + 1),)

    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        spectrum = torch.complex(drawn[0][:, :, 0], drawn[0][:, :, 1])
        noise = torch.fft.irfft(spectrum, n=size[0] * size[1]).view(*spectrum.shape[:3], *size)
        return Grain(noise, color(15 * p.std))


class RandomErase(Pixelwise):
    """Paint a random box of each view in one colour, with a given probability.

    Example:
        - random_erase: {probability: .5, area: .02 .2}
    """

    name: ClassVar[str] = "random_erase"
    sole: ClassVar[str] = "probability"
    random: ClassVar[bool] = True

    probability: Annotated[Value, Numbers(minimum=0, maximum=1)] = constant(0.5)
    """probability that a box is painted"""
    area: Annotated[Value, Numbers((2,), minimum=0, maximum=1)] = constant(0.02, 0.2)
    """minimum and maximum area of the box, as a fraction of the view's area"""
    color: Color = constant(0.5, 0.5, 0.5)
    """colour of the box"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Tensor, ...]:
        return (draw.uniform(5),)

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        u = drawn[0]
        height, width = views.shape[-2:]
        area = p.area[..., 0] + u[..., 1] * (p.area[..., 1] - p.area[..., 0])
        stretch = torch.exp((u[..., 2] - 0.5) * 2.4)  # aspect ratio 0.3 to 3.3
        h, w = (area / stretch).sqrt().clamp(max=1), (area * stretch).sqrt().clamp(max=1)
        top, left = u[..., 3] * (1 - h), u[..., 4] * (1 - w)
        y = (torch.arange(height, device=u.device) + 0.5) / height
        x = (torch.arange(width, device=u.device) + 0.5) / width
        rows = (y >= top[..., None]) & (y < (top + h)[..., None])
        columns = (x >= left[..., None]) & (x < (left + w)[..., None])
        chosen = (u[..., 0] < p.probability[..., 0])[..., None, None]
        box = rows[..., :, None] & columns[..., None, :] & chosen
        return torch.where(box[:, :, None], color(p.color), views)
