"""Multi-step adversarial pictures at the price of none.

After "Adversarial Training for Free!" (Shafahi et al., 2019): the backward pass that
updates the weights also gives the gradient at the pictures, and that gradient attacks
them in the next step. Here every picture lives for `generations` steps, and each batch
holds equal parts of every age: fresh, attacked once, attacked twice ... This differs
from the paper, which replays one whole batch several times: neighbouring updates share
fewer pictures, and old and fresh ones are told apart within one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.scenes import Scene


@dataclass
class Batch:
    """Pictures of all ages.

    clean    `[N, 3, S, S]` as painted
    delta    `[N, 3, S, S]` the attack so far
    radius   `[N, 1, 1, 1]` how far the attack may go, in units of `limit`
    square   `[N, 1, 1, 1]` 1: the attack is bounded per pixel (Linf), 0: as a whole (L2)
    sigma    `[N, 1, 1, 1]` deviation of the noise
    gray     `[N, 1, 1, 1]` 1: the noise is gray
    """

    scenes: list[Scene]
    clean: Tensor
    delta: Tensor
    radius: Tensor
    square: Tensor
    sigma: Tensor
    gray: Tensor


@dataclass(frozen=True)
class Strength:
    """Greatest L2 radius of an attack at 64 px, greatest Linf radius, greatest noise."""

    l2: float
    linf: float
    noise: float


class Replay:
    """Mixes fresh pictures with attacked ones of earlier steps."""

    def __init__(self, generations: int, seed: int):
        self.generations = generations
        self.rng = torch.Generator(torch.get_default_device()).manual_seed(seed)
        self.batch: Batch | None = None

    def fresh_count(self, size: int) -> int:
        """How many new pictures a batch of `size` needs."""
        if self.batch is None:
            return size
        return size - size * (self.generations - 1) // self.generations

    def add(self, scenes: list[Scene], pictures: Tensor, strength: Strength) -> Batch:
        """Fresh pictures first, then the youngest old ones. The oldest leave."""
        n = len(scenes)

        def chance(low: float, high: float) -> Tensor:
            return torch.rand(n, 1, 1, 1, generator=self.rng) * (high - low) + low

        new = Batch(
            scenes,
            pictures,
            torch.zeros_like(pictures),
            chance(0, 1),
            (chance(0, 1) < 0.4).float(),
            chance(0, strength.noise),
            (chance(0, 1) < 0.2).float(),
        )
        if self.batch is not None:
            old, keep = self.batch, len(self.batch.scenes) - n
            new = Batch(
                new.scenes + old.scenes[:keep],
                *(
                    torch.cat([getattr(new, key), getattr(old, key)[:keep]])
                    for key in ("clean", "delta", "radius", "square", "sigma", "gray")
                ),
            )
        self.batch = new
        return new

    def noisy(self, batch: Batch) -> Tensor:
        """The pictures as the network sees them: attacked, with fresh noise."""
        noise = torch.randn(batch.clean.shape, generator=self.rng)
        noise = torch.where(batch.gray > 0, noise[:, :1], noise)
        return batch.clean + batch.delta + noise * batch.sigma

    def attack(self, batch: Batch, gradient: Tensor, strength: Strength) -> None:
        """One step of ascent for every picture, within its own radius."""
        step = 1.4 / (self.generations - 1) if self.generations > 2 else 1.0
        scale = batch.clean.shape[-1] / 64
        l2, linf = strength.l2 * scale * batch.radius, strength.linf * batch.radius
        norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-20).view(-1, 1, 1, 1)
        round_ = batch.delta + step * l2 * gradient / norm
        length = round_.flatten(1).norm(dim=1).clamp(min=1e-20).view(-1, 1, 1, 1)
        round_ = round_ * (l2 / length).clamp(max=1)
        boxed = batch.delta + step * linf * gradient.sign()
        boxed = torch.minimum(torch.maximum(boxed, -linf), linf)
        batch.delta = torch.where(batch.square > 0, boxed, round_)
