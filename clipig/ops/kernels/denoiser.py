"""A denoiser of drawings: a small U-Net with the preconditioning of EDM.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative
Models", 2022, table 1; the network follows Ho et al., "Denoising Diffusion
Probabilistic Models", 2020, on space-to-depth images.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

FREQUENCIES = 16
GROUPS = 8


@dataclass(frozen=True)
class DenoiserConfig:
    """The shape of the network, from which it is built before its weights are read.

    Attributes:
        size: Side of the training images, in pixels.
        patch: Side of the squares of pixels that become one position of the first level.
        channels: Channels per level; every level halves the sides of the previous one.
        down: Residual blocks per level on the way down.
        up: Residual blocks per level, except the coarsest, on the way up.
        heads: Attention heads at the coarsest level.
        embedding: Width of the embedding of the noise level.
        sigma_data: Standard deviation of the training images, in units of [-1, 1].
        sigma_min: Minimum noise level of the training, in units of [-1, 1].
        sigma_max: Maximum noise level of the training, in units of [-1, 1].
    """

    size: int = 64
    patch: int = 2
    channels: tuple[int, ...] = (64, 96, 128)
    down: tuple[int, ...] = (1, 2, 4)
    up: tuple[int, ...] = (2, 2)
    heads: int = 4
    embedding: int = 128
    sigma_data: float = 0.5
    sigma_min: float = 0.03
    sigma_max: float = 8.0

    def __post_init__(self) -> None:
        whole = (self.size, self.patch, self.heads, self.embedding, *self.channels)
        if min((*whole, *self.down, *self.up), default=0) < 1:
            raise ValueError("sizes and counts are at least 1")
        if len(self.down) != len(self.channels) or len(self.up) != len(self.channels) - 1:
            raise ValueError(
                f"{len(self.channels)} levels need as many counts in `down` and one less in `up`"
            )
        if any(width % GROUPS for width in self.channels) or self.channels[-1] % self.heads:
            raise ValueError(f"channels are multiples of {GROUPS} and of the heads")
        if not 0 < self.sigma_min < self.sigma_max or not self.sigma_data > 0:
            raise ValueError("0 < sigma_min < sigma_max and 0 < sigma_data are needed")

    @property
    def multiple(self) -> int:
        """The sides of an image must be multiples of this number."""
        return self.patch << (len(self.channels) - 1)


class Block(nn.Module):
    """Two 3x3 convolutions parallel to a shortcut, scaled and shifted by the noise level."""

    def __init__(self, before: int, channels: int, embedding: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        same = before == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, channels, 1)
        for layer in (self.conv2, self.modulation):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.norm(self.conv1(F.silu(x)))
        scale, shift = self.modulation(level)[..., None, None].chunk(2, 1)
        h = self.conv2(F.silu(h * (1 + scale) + shift))
        return torch.add(self.shortcut(x), h)


class Attention(nn.Module):
    """Self-attention between all positions, which starts as the identity."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.answer = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.answer.weight)
        assert self.answer.bias is not None
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        asked = self.ask(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, -1)
        query, key, value = asked.transpose(-1, -2).unbind(1)
        found = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return torch.add(x, self.answer(found.reshape(batch, channels, height, width)))


class Denoiser(nn.Module):
    """Estimates the clean image from an image with Gaussian noise of a known deviation."""

    frequencies: Tensor

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        self.config = config
        channels, embedding = config.channels, config.embedding
        pixels = 3 * config.patch**2
        self.embed = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
            nn.SiLU(),
        )
        self.enter = nn.Conv2d(pixels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        before = channels[0]
        for width, depth in zip(channels, config.down, strict=True):
            widths = [before, *[width] * depth]
            self.down.append(_blocks(widths, embedding))
            before = width
        self.attention = Attention(before, config.heads)
        self.up = nn.ModuleList()
        for width, depth in zip(channels[-2::-1], config.up, strict=True):
            self.up.append(_blocks([before + width, *[width] * depth], embedding))
            before = width
        self.leave = nn.Conv2d(before, pixels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        steps = torch.exp(torch.linspace(0, math.log(50), FREQUENCIES))
        self.register_buffer("frequencies", steps, persistent=False)

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean image.

        Args:
            noisy: `[B, 3, H, W]`, images in [-1, 1] plus noise; the sides are multiples
                of `config.multiple`.
            sigma: `[B]`, standard deviation of the noise in units of [-1, 1].

        Returns:
            `[B, 3, H, W]`, float32, about [-1, 1].
        """
        data = self.config.sigma_data
        s = sigma.view(-1, 1, 1, 1)
        total = (s**2 + data**2).sqrt()
        rest = self.residual(noisy / total, sigma.log() / 4).float()
        return noisy * (data / total) ** 2 + rest * (s * data / total)

    def denoise(self, pictures: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean image in units of [0, 1], which the rest of the package uses.

        Args:
            pictures: `[B, 3, H, W]`, images in [0, 1] plus noise.
            sigma: `[B]`, standard deviation of the noise in units of [0, 1].

        Returns:
            `[B, 3, H, W]`, in [0, 1].
        """
        clean: Tensor = self(pictures * 2 - 1, sigma * 2)
        return (clean / 2 + 0.5).clamp(0, 1)

    def residual(self, x: Tensor, level: Tensor) -> Tensor:
        """Run the network itself, without the preconditioning.

        Args:
            x: `[B, 3, H, W]`, noisy images scaled to unit variance.
            level: `[B]`, ln(sigma) / 4.

        Returns:
            `[B, 3, H, W]`.
        """
        angles = level[:, None] * self.frequencies
        level = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.enter(F.pixel_unshuffle(x, self.config.patch))
        kept: list[Tensor] = []
        for depth, blocks in enumerate(self.down):
            if depth:
                kept.append(h)
                h = F.avg_pool2d(h, 2)
            h = _apply(blocks, h, level)
        h = self.attention(h)
        for blocks in self.up:
            h = torch.cat([F.interpolate(h, scale_factor=2.0), kept.pop()], 1)
            h = _apply(blocks, h, level)
        return F.pixel_shuffle(self.leave(F.silu(h)), self.config.patch)


def denoiser_from_bytes(data: bytes) -> Denoiser:
    """Build the network that a weights file describes and fill it.

    Args:
        data: A safetensors file whose metadata contain `config`, as `training.prior` writes it.

    Returns:
        The network in float32, in eval mode, without gradients for its weights.

    Raises:
        ValueError: The data is not such a file, or its tensors do not fit its config.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    if "config" not in metadata:
        raise ValueError("the file's metadata hold no `config` of a denoiser")
    network = Denoiser(denoiser_config(metadata["config"]))
    try:
        network.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit their config: {error}") from error
    return network.eval().requires_grad_(False)


def denoiser_config(text: str) -> DenoiserConfig:
    """Read and check the config in a weights file's metadata.

    Raises:
        ValueError: The text is not JSON, or has wrong keys, value types or values.
    """
    try:
        values: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`config` is not JSON: {error}") from error
    default = DenoiserConfig()
    known = {field.name: getattr(default, field.name) for field in fields(DenoiserConfig)}
    if not isinstance(values, dict) or values.keys() != known.keys():
        raise ValueError(f"`config` is expected to hold {', '.join(known)}")
    for key, value in values.items():
        kind = type(known[key])
        if kind is tuple:
            fits = isinstance(value, list) and all(type(item) is int for item in value)
        else:
            fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits:
            raise ValueError(f"`config`: {key} is {value!r}, expected like {known[key]!r}")
    checked: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return DenoiserConfig(**checked)


def _blocks(widths: list[int], embedding: int) -> nn.ModuleList:
    pairs = pairwise(widths)
    return nn.ModuleList(Block(before, width, embedding) for before, width in pairs)


def _apply(blocks: nn.Module, h: Tensor, level: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        h = block(h, level)
    return h
