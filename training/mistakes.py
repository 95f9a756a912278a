"""Pictures that the optimiser itself makes from a caption: what the network mistakes for it.

After CLIP-JEM (Ganz and Elad, "Text-to-Image Generation Via Energy-Based CLIP", 2024,
arXiv 2408.17046): a pool of such pictures is kept and refined a little at every visit, and
they are negatives for the caption that they were made from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.scenes import Scene

LEVELS = (1, 2, 4, 8, 16, 32, 64)
VISITS = 30  # after so many a picture gives way to a new caption
RATE = 0.15


class Pool:
    """Pyramids of pictures on the way from gray to what the network likes best.

    `size` pyramids for pictures of `side` pixels; `visit` refines some of them.
    """

    def __init__(self, size: int, side: int, seed: int):
        self.side = side
        device = torch.get_default_device()
        self.rng = torch.Generator(device).manual_seed(seed)
        sides = [level for level in LEVELS if level <= side]
        self.levels = [torch.zeros(size, 3, level, level) for level in sides]
        self.scenes: list[Scene | None] = [None] * size
        self.visits = torch.zeros(size, dtype=torch.long)

    def choose(self, count: int, draw: Callable[[int], list[Scene]]) -> list[int]:
        """`count` places of the pool; new and worn-out ones begin again with a new scene."""
        rows = torch.randperm(len(self.scenes), generator=self.rng)[:count].tolist()
        old = [row for row in rows if self.scenes[row] is None or self.visits[row] >= VISITS]
        if old:
            for row, scene in zip(old, draw(len(old)), strict=True):
                self.scenes[row] = scene
            for level in self.levels:
                noise = torch.randn(len(old), *level.shape[1:], generator=self.rng)
                level[old] = 0.1 * noise
            # of different age from the start, so that they do not all leave together
            self.visits[old] = torch.randint(0, VISITS // 2, (len(old),), generator=self.rng)
        return rows

    def at(self, rows: list[int]) -> list[Scene]:
        """The scenes of some places."""
        return [scene for row in rows if (scene := self.scenes[row]) is not None]

    def visit(
        self, rows: list[int], encode: Callable[[Tensor], Tensor], texts: Tensor, steps: int
    ) -> Tensor:
        """Refine some pictures towards their texts.

        Args:
            rows: Places of the pool, R of them.
            encode: `[R, 3, side, side]` to `[R, D]`, rows of length one.
            texts: `[R, D]`.
            steps: Normalised gradient steps.

        Returns:
            The pictures after the last step, `[R, 3, side, side]` in [0, 1], no graph.
        """
        held = [level[rows].requires_grad_(True) for level in self.levels]
        for _ in range(steps):
            views = self._view(self._picture(held))
            likeness = (encode(views) * texts).sum()
            for level, gradient in zip(held, torch.autograd.grad(likeness, held), strict=True):
                length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
                level.data += RATE * level[0].numel() ** 0.5 * gradient / length
        with torch.no_grad():
            for level, value in zip(self.levels, held, strict=True):
                level[rows] = value
            self.visits[rows] += 1
            return self._picture(held)

    def _picture(self, levels: list[Tensor]) -> Tensor:
        shape = (self.side, self.side)
        total = sum(
            F.interpolate(level, size=shape, mode="bilinear", align_corners=False)
            for level in levels
        )
        return torch.sigmoid(torch.as_tensor(total))

    def _view(self, pictures: Tensor) -> Tensor:
        """The optimiser's augmentation, short: moved, paler, noisy."""
        n = len(pictures)

        def chance(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=self.rng) * (high - low) + low

        angle, theta = chance(-0.15, 0.15), torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos(), angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = -angle.sin(), angle.cos()
        theta[:, :, 2] = chance(-0.12, 0.12, 2)
        grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
        moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        moved = (moved - 0.5) * chance(0.4, 1, 1, 1, 1) + 0.5
        noise = torch.randn(moved.shape, generator=self.rng)
        return moved + noise * chance(0, 0.3, 1, 1, 1)


def mistake_loss(made: Tensor, real: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """How much better a made picture suits a text than a real one does.

    Args:
        made: `[R, D]`, embeddings of pictures made from the texts.
        real: `[R, D]`, embeddings of painted pictures with the same captions.
        texts: `[R, D]`.
        scale: Scalar, the inverse temperature of the contrastive loss.

    Returns:
        Scalar: mean of softplus(scale * (s(made, text) - s(real, text))).
    """
    return F.softplus(scale * ((made - real) * texts).sum(1)).mean()
