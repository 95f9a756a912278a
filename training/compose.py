"""Paints scenes: batched tensor operations only, on torch's default device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.concepts import COLORS
from training.scenes import Kind, Scene
from training.sources import Bank

PALETTE = torch.tensor(list(COLORS.values())) / 255
FLAT, GRADIENT, CLOUDS, STRIPES, CHECKS, DOTS = range(6)
BACKGROUNDS = torch.tensor([0.36, 0.2, 0.22, 0.08, 0.06, 0.08])
COLOR_PATTERNS = torch.tensor([FLAT, STRIPES, CHECKS, DOTS, FLAT])


class Painter:
    """Paints scenes with the drawings of a bank.

    size      side of the pictures in pixels
    augment   photometric changes and views as the optimiser makes them; without it
              the pictures are clean
    """

    def __init__(self, bank: Bank, size: int, seed: int, augment: bool = True):
        self.size, self.augment = size, augment
        self.device = torch.get_default_device()
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.palette = PALETTE.to(self.device)
        self.levels = [bank.pixels.to(self.device)]
        for _ in range(2):
            smaller = [
                F.avg_pool2d(part.float(), 2).round().to(torch.uint8)
                for part in self.levels[-1].split(512)
            ]
            self.levels.append(torch.cat(smaller))
        tiny = self.levels[-1].float() / 255
        alpha = tiny[:, 3].sum((1, 2)).clamp(min=1)
        self.mean = tiny[:, :3].sum((2, 3)) / alpha[:, None]
        line = torch.linspace(-1, 1, size)
        self.y, self.x = line.view(1, size, 1), line.view(1, 1, size)

    def paint(self, scenes: Sequence[Scene]) -> Tensor:
        """`[N, 3, size, size]`, about [0, 1]."""
        n = len(scenes)
        kind = torch.tensor([s.kind for s in scenes])
        first = torch.tensor([s.first for s in scenes])
        second = torch.tensor([s.second for s in scenes])
        zoom = torch.tensor([s.zoom for s in scenes])
        is_a = {k: kind == k for k in Kind}

        out = self._background(scenes, kind)
        scale = self._uniform(n, 0.42, 1.2)
        scale = torch.where(is_a[Kind.MADE], self._uniform(n, 0.6, 1.1), scale)
        scale = torch.where(is_a[Kind.BOTH], self._uniform(n, 0.38, 0.6), scale)
        scale = torch.where(zoom, self._uniform(n, 1.15, 1.7), scale)
        room = (scale - 1.08).abs().clamp(min=0.04)
        shift = (torch.rand(n, 2, generator=self.rng) * 2 - 1) * room[:, None]
        shift[:, 1] = torch.where(zoom, -shift[:, 1].abs() * 0.7 + 0.1, shift[:, 1])
        pair = is_a[Kind.BOTH]
        shift[:, 0] = torch.where(pair, self._uniform(n, -0.56, -0.38), shift[:, 0])
        theta = self._affine(scale, shift, torch.randn(n, generator=self.rng) * 0.22)
        drawn = (kind != Kind.TILES) & (kind != Kind.COLOR)
        rgba = self._sample(first, theta, scale, drawn)

        tint = is_a[Kind.TINT]
        if tint.any():
            colors = torch.tensor([max(s.color, 0) for s in scenes])[tint]
            told = torch.tensor([s.color >= 0 for s in scenes])[tint]
            rgba[tint] = self._tinted(rgba[tint], colors, told)

        units = self._tile_pictures(kind, second, scale)
        made = is_a[Kind.MADE]
        if made.any():
            rgba[made] = self._made_of(rgba[made], units[made], self.mean[second[made]])
        out = out * (1 - rgba[:, 3:]) + rgba[:, :3]
        over = (is_a[Kind.TILES] | pair).view(-1, 1, 1, 1)
        units = units * over
        out = (out * (1 - units[:, 3:]) + units[:, :3]).clamp(0, 1)
        return self._photograph(out) if self.augment else out

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.rand(n, generator=self.rng) * (high - low) + low

    def _map(self, n: int, low: float, high: float) -> Tensor:
        return self._uniform(n, low, high).view(n, 1, 1, 1)

    def _chance(self, n: int, p: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=self.rng) < p).float()

    def _affine(self, scale: Tensor, shift: Tensor, angle: Tensor) -> Tensor:
        """`[N, 2, 3]` from picture to drawing: rotated, mirrored, a little stretched."""
        n = len(scale)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([cos, sin, -sin, cos], 1).view(n, 2, 2)
        mirror = torch.where(self._uniform(n, 0, 1) < 0.3, -1.0, 1.0)
        stretch = torch.exp(self._uniform(n, -0.12, 0.12))
        turn = turn * torch.stack([mirror / stretch, stretch], 1).view(n, 2, 1)
        turn = turn / scale.view(n, 1, 1)
        return torch.cat([turn, -(turn @ shift[..., None])], 2)

    def _sample(
        self, pictures: Tensor, theta: Tensor, scale: Tensor, where: Tensor, bricks: bool = False
    ) -> Tensor:
        """Drawings under an affine map, from the level of detail that suits the scale."""
        out = torch.zeros(len(pictures), 4, self.size, self.size)
        level = (scale < 0.75).long() + (scale < 0.37).long()
        for i, pixels in enumerate(self.levels):
            rows = (where & (level == i)).nonzero().squeeze(1)
            if not len(rows):
                continue
            grid = F.affine_grid(
                theta[rows], [len(rows), 4, self.size, self.size], align_corners=False
            )
            if bricks:
                grid = self._brick_grid(grid)
            source = pixels[pictures[rows]].float() / 255
            out[rows] = F.grid_sample(source, grid, align_corners=False)
        return out

    def _brick_grid(self, grid: Tensor) -> Tensor:
        """Repeat the drawing in rows, every second row moved by half a unit."""
        period = self._uniform(len(grid), 1.8, 2.25).view(-1, 1, 1)
        row = torch.floor((grid[..., 1] + 1) / period)
        x = grid[..., 0] + (row % 2) * period / 2
        moved = torch.stack([x, grid[..., 1]], -1)
        return torch.remainder(moved + 1, period[..., None]) - 1

    def _tile_pictures(self, kind: Tensor, second: Tensor, scale: Tensor) -> Tensor:
        """The second drawing: repeated for MADE and TILES, once at the right for BOTH."""
        n = len(kind)
        made, tiles, pair = kind == Kind.MADE, kind == Kind.TILES, kind == Kind.BOTH
        small = torch.where(tiles, self._uniform(n, 0.18, 0.8), scale * self._uniform(n, 0.26, 0.7))
        small = torch.where(pair, self._uniform(n, 0.38, 0.6), small.clamp(min=0.18))
        shift = torch.rand(n, 2, generator=self.rng) * 2 - 1
        room = torch.where(pair, (1.08 - small), torch.ones(n))
        shift[:, 1] = shift[:, 1] * room
        shift[:, 0] = torch.where(pair, self._uniform(n, 0.38, 0.56), shift[:, 0])
        spread = torch.where(pair, 0.2, 0.5)
        theta = self._affine(small, shift, torch.randn(n, generator=self.rng) * spread)
        repeated = self._sample(second, theta, small, made | tiles, bricks=True)
        return repeated + self._sample(second, theta, small, pair)

    def _made_of(self, rgba: Tensor, units: Tensor, unit_mean: Tensor) -> Tensor:
        """A's silhouette and shading in the material B, some of A's own lines kept."""
        n = len(rgba)
        rgb, alpha = rgba[:, :3].clone(), rgba[:, 3:]
        own = rgb.sum((2, 3)) / alpha.sum((2, 3)).clamp(min=1)
        base = torch.where(
            self._chance(n, 0.65) > 0,
            unit_mean.view(n, 3, 1, 1) * self._map(n, 0.5, 1.1),
            torch.where(
                self._chance(n, 0.5) > 0,
                own.view(n, 3, 1, 1),
                torch.rand(n, 3, 1, 1, generator=self.rng),
            ),
        )
        texture = units[:, :3] + (1 - units[:, 3:]) * base
        light = rgb.mean(1, keepdim=True) / alpha.clamp(min=0.05)
        average = own.mean(1).view(n, 1, 1, 1)
        shade = (1 + (light - average) * self._map(n, 1.0, 2.4)).clamp(0.2, 1.8)
        weight = F.avg_pool2d(alpha, 9, 1, 4).clamp(min=0.03)
        local = F.avg_pool2d(light * alpha, 9, 1, 4) / weight
        lines = ((light - local).abs() * 3).clamp(0, 1) * self._map(n, 0.3, 1.0)
        keep = torch.maximum(self._map(n, 0.0, 0.35).expand_as(lines), lines)
        thick = self._chance(n, 0.4)
        inner = -F.max_pool2d(-alpha, 5, 1, 2) * thick - F.max_pool2d(-alpha, 3, 1, 1) * (1 - thick)
        rim = (alpha - inner).clamp(0, 1) * self._map(n, 0.3, 1.0) * self._chance(n, 0.65)
        rgb = (texture * shade).clamp(0, 1) * alpha * (1 - keep) + rgb * keep
        return torch.cat([rgb * (1 - 0.85 * rim), alpha], 1)

    def _tinted(self, rgba: Tensor, colors: Tensor, told: Tensor) -> Tensor:
        """A in one colour (its own mean if none is told), from shaded to a flat silhouette."""
        n = len(rgba)
        alpha = rgba[:, 3:]
        light = rgba[:, :3].mean(1, keepdim=True)
        light = light / light.amax((2, 3), keepdim=True).clamp(min=0.2)
        color = self.palette[colors] + 0.05 * torch.randn(n, 3, generator=self.rng)
        mean = rgba[:, :3].sum((2, 3)) / alpha.sum((2, 3)).clamp(min=1)
        color = torch.where(told[:, None], color, mean * 1.2)
        flat = torch.where(self._chance(n, 0.12) > 0, 1.0, self._map(n, 0.0, 0.4))
        rgb = color.clamp(0, 1).view(n, 3, 1, 1) * (alpha * flat + light * (1 - flat))
        return torch.cat([rgb.clamp(0, 1), alpha], 1)

    def _background(self, scenes: Sequence[Scene], kind: Tensor) -> Tensor:
        n, size = len(scenes), self.size
        one = torch.rand(n, 3, generator=self.rng)
        two = torch.rand(n, 3, generator=self.rng)
        gray = 0.3 + 0.4 * one.mean(1, keepdim=True).expand(n, 3)
        one = torch.where(self._uniform(n, 0, 1)[:, None] < 0.25, gray, one)
        pattern = torch.multinomial(BACKGROUNDS.to(self.device), n, True, generator=self.rng)
        color = torch.tensor([max(s.color, 0) for s in scenes])
        named = self.palette[color] + 0.06 * torch.randn(n, 3, generator=self.rng)
        plain = torch.tensor([s.kind == Kind.SINGLE and s.color >= 0 for s in scenes])
        colors = kind == Kind.COLOR
        if colors.any():
            which = torch.tensor([s.a if s.kind == Kind.COLOR else 0 for s in scenes])
            other = torch.tensor([s.b if s.kind == Kind.COLOR else 0 for s in scenes])
            pattern = torch.where(colors, COLOR_PATTERNS.to(self.device)[which], pattern)
            two = torch.where(colors[:, None], self.palette[other], two)
        pattern = torch.where(plain, FLAT, pattern)
        one = torch.where((plain | colors)[:, None], named, one).clamp(0, 1).view(n, 3, 1, 1)
        two = two.view(n, 3, 1, 1)

        angle = self._uniform(n, 0, 2 * math.pi).view(n, 1, 1)
        along = self.x * torch.cos(angle) + self.y * torch.sin(angle)
        across = self.y * torch.cos(angle) - self.x * torch.sin(angle)
        rate, phase = self._uniform(n, 3, 14), self._uniform(n, 0, 2 * math.pi)
        wave = torch.sin(along * rate.view(n, 1, 1) + phase.view(n, 1, 1))
        cross = torch.sin(across * rate.view(n, 1, 1))
        mix = torch.zeros(n, size, size)
        for what, value in (
            (GRADIENT, along * 0.5 + 0.5),
            (STRIPES, torch.sigmoid(20 * wave)),
            (CHECKS, torch.sigmoid(20 * wave * cross)),
            (DOTS, torch.sigmoid(10 * (0.1 - wave * cross))),
        ):
            mix = torch.where((pattern == what).view(n, 1, 1), value.clamp(0, 1), mix)
        out = one * (1 - mix[:, None]) + two * mix[:, None]
        clouds = (pattern == CLOUDS).nonzero().squeeze(1)
        if len(clouds):
            m = len(clouds)
            cells = [3, 4, 6, 10, 20][int(torch.randint(5, (1,), generator=self.rng))]
            noise = torch.randn(m, 3, cells, cells, generator=self.rng)
            noise = F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)
            grayish = noise.mean(1, keepdim=True) * 1.5
            noise = torch.where(self._chance(m, 0.4) > 0, grayish, noise)
            out[clouds] = out[clouds] + noise * self._map(m, 0.05, 0.35)
        return out

    def _photograph(self, pictures: Tensor) -> Tensor:
        """Views with edge padding, contrast down to a quarter, brightness, blur."""
        n = len(pictures)
        rows = (self._uniform(n, 0, 1) < 0.25).nonzero().squeeze(1)
        if len(rows):
            m = len(rows)
            turn = self._affine(
                self._uniform(m, 0.7, 1.25),
                (torch.rand(m, 2, generator=self.rng) * 2 - 1) * 0.2,
                self._uniform(m, -0.4, 0.4),
            )
            turn[:, 0, :2] = turn[:, 0, :2] * torch.sign(turn[:, 0, :1])
            grid = F.affine_grid(turn, [m, 3, self.size, self.size], align_corners=False)
            pictures[rows] = F.grid_sample(
                pictures[rows], grid, padding_mode="border", align_corners=False
            )
        mean = pictures.mean((1, 2, 3), keepdim=True)
        lower = self._chance(n, 0.55)
        contrast = 1 - lower * self._map(n, 0, 0.77)
        middle = torch.where(self._chance(n, 0.5) > 0, torch.full_like(mean, 0.5), mean)
        moved = (pictures - mean) * contrast + middle
        pictures = torch.where(lower > 0, moved, pictures) + self._map(n, -0.06, 0.06)
        rows = (self._uniform(n, 0, 1) < 0.18).nonzero().squeeze(1)
        if len(rows):
            sigma = float(self._uniform(1, 0.4, 1.6))
            pictures[rows] = _blur(pictures[rows], sigma)
        return pictures


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    kernel = torch.exp(-(torch.arange(-3, 4).float() ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    n, c, h, w = pictures.shape
    flat = F.pad(pictures.reshape(n * c, 1, h, w), (3, 3, 3, 3), mode="replicate")
    flat = F.conv2d(flat, kernel.view(1, 1, 1, 7))
    return F.conv2d(flat, kernel.view(1, 1, 7, 1)).view(n, c, h, w)
