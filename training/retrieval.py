"""How often the right caption is found: the quick measure during training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clipig.encoders.embedded.network import EmbeddedNetwork
from clipig.encoders.embedded.vocabulary import Vocabulary
from training.compose import Painter
from training.scenes import SceneDrawer, mend_articles
from training.sources import HELD_OUT, Bank

COUNT = 400


def top_one(pictures: Tensor, texts: Tensor) -> float:
    """Share of pictures `[N, D]` whose own text scores highest of `[M, D]`, rounded.

    The first N texts are the pictures' own; M is at least N.
    """
    best = (pictures @ texts.T).argmax(1)
    return round((best == torch.arange(len(pictures))).float().mean().item(), 4)


def fill_captions(captions: list[str], bank: Bank) -> list[str]:
    """The captions and as many other nouns as are wanting to 400."""
    nouns = [mend_articles(f"a {concept.name}") for concept in bank.concepts]
    others = [noun for noun in nouns if noun not in captions]
    return captions + others[: max(0, COUNT - len(captions))]


@torch.no_grad()
def measure_retrieval(
    network: EmbeddedNetwork, vocabulary: Vocabulary, bank: Bank, full: bool = False
) -> dict[str, float]:
    """Top-1 among 400 captions of held-out pairs and of nouns, training and held-out styles.

    `full` adds the attacked columns. The network is left in eval mode.
    """
    network.eval()
    generator = torch.Generator(torch.get_default_device()).manual_seed(5)
    results: dict[str, float] = {}
    families = [(style, name) for style, name in HELD_OUT.items() if style in bank.style]
    for held_out_style, prefix in [(None, ""), *families]:
        drawer = SceneDrawer(bank, seed=5, held_out_style=held_out_style)
        painter = Painter(bank, network.config.size, seed=5, augment=False)
        for name, scenes in (
            ("pairs", drawer.draw_test(COUNT)),
            ("nouns", drawer.draw_nouns(COUNT)),
        ):
            pictures = painter.paint(scenes)
            captions = fill_captions([scene.caption for scene in scenes], bank)
            words, letters = vocabulary.encode(captions)
            texts = network.text(words, letters)
            noise = torch.randn(pictures.shape, generator=generator)
            mean = pictures.mean((1, 2, 3), keepdim=True)
            variants = {
                "clean": pictures,
                "noise": pictures + 0.25 * noise,
                "contrast": (pictures - mean) / 3 + 0.5,
            }
            if full:
                variants["attacked"] = attack(network.image, pictures, texts, radius=3.0)
            for variant, seen in variants.items():
                found = torch.cat([network.image(part) for part in seen.split(100)])
                results[f"{prefix}{name}_{variant}"] = top_one(found, texts)
    return results


@torch.enable_grad()
def attack(
    encode: Callable[[Tensor], Tensor],
    pictures: Tensor,
    texts: Tensor,
    radius: float,
    steps: int = 10,
    scale: float = 15.0,
) -> Tensor:
    """L2 projected gradient ascent on the contrastive loss; `radius` is for 64 px."""
    radius = radius * pictures.shape[-1] / 64
    own = torch.arange(len(pictures))
    delta = torch.zeros_like(pictures)
    for _ in range(steps):
        moved = (pictures + delta).requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(encode(moved) @ texts.T * scale, own)
        (gradient,) = torch.autograd.grad(loss, moved)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-20).view(-1, 1, 1, 1)
        delta = delta + 2.5 * radius / steps * gradient / length
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-20).view(-1, 1, 1, 1)
        delta = delta * (radius / length).clamp(max=1)
    return (pictures + delta).detach()
