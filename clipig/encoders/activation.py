"""Which activation a CLIP was trained with, where nothing says it: both are tried.

The tensors of a model with GELU and of one with QuickGELU have the same names and shapes.
With the wrong one it still works, only worse, so the fault is easily overlooked: nine public
threads lost results to it. Here images of known content are drawn, each model names them, and
the activation under which the right names are likelier is taken, and reported.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipig.encoders.architecture import Activation, Traits
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.protocol import Encoder, EncoderInfo
from clipig.errors import EncoderError
from clipig.web import cache_dir

_CANDIDATES: tuple[Activation, ...] = ("quick_gelu", "gelu")
_CLEAR = 0.02  # difference of mean log-likelihoods that is called clear
_COLORS = {
    "red": (0.85, 0.1, 0.1), "green": (0.1, 0.65, 0.15), "blue": (0.1, 0.2, 0.85),
    "yellow": (0.95, 0.85, 0.1),
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of trying both activations.

    Attributes:
        activation: The better one.
        scores: Mean log-likelihood of the right label by activation; 0 would be perfect.
        chance: The score of a model that knows nothing.
    """

    activation: Activation
    scores: Mapping[Activation, float]
    chance: float

    @property
    def clear(self) -> bool:
        """Whether the two differ enough to trust the choice."""
        return abs(self.scores["gelu"] - self.scores["quick_gelu"]) > _CLEAR

    def sentence(self) -> str:
        """The outcome in one sentence."""
        shown = ", ".join(f"{name} {self.scores[name]:.3f}" for name in _CANDIDATES)
        doubt = "" if self.clear else " (too close to be sure: say `activation:`)"
        if max(self.scores.values()) < self.chance:
            doubt += " (no better than chance: is it a whole CLIP?)"
        return (
            f"nothing says its activation; {self.activation} was taken, under which drawn samples "
            f"are named better (log-likelihood {shown}){doubt}"
        )


def samples(size: int) -> tuple[Tensor, list[str]]:
    """Draw images of plain things, and what they show.

    Args:
        size: Side in pixels.

    Returns:
        Images `[N, 3, size, size]` in 0..1, and N labels.
    """
    line = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    shapes: dict[str, Callable[[], Tensor]] = {
        "circle": lambda: x * x + y * y < 0.09,
        "square": lambda: (x.abs() < 0.27) & (y.abs() < 0.27),
        "triangle": lambda: (y < 0.25) & (y > 3 * x.abs() - 0.3),
        "cross": lambda: ((x.abs() < 0.08) | (y.abs() < 0.08)) & (x.abs().maximum(y.abs()) < 0.33),
    }
    images, labels = [], []
    for color, rgb in _COLORS.items():
        for name, inside in shapes.items():
            mask = inside().float()[None]
            images.append(mask * torch.tensor(rgb).view(3, 1, 1) + (1 - mask))
            labels.append(f"a {color} {name}")
    frequency = 8 * 2 * math.pi
    for label, value in (
        ("vertical stripes", torch.sin(x * frequency)),
        ("horizontal stripes", torch.sin(y * frequency)),
        ("a checkerboard", torch.sin(x * frequency) * torch.sin(y * frequency)),
    ):
        images.append((value > 0).float().expand(3, -1, -1))
        labels.append(label)
    return torch.stack(images), labels


@dataclass(frozen=True)
class Naming:
    """How well a model names the drawn samples.

    Attributes:
        likelihood: Mean log-likelihood of the right label; 0 would be perfect.
        right: How many got their label.
        count: Number of samples and labels.
    """

    likelihood: float
    right: int
    count: int

    @property
    def chance(self) -> float:
        """The likelihood of a model that knows nothing."""
        return -math.log(self.count)


def name_samples(encoder: Encoder) -> Naming:
    """Let a model name the images of `samples`, each by one of all labels."""
    images, labels = samples(encoder.info.size)
    with torch.no_grad():
        parts = images.to(encoder.device).split(4)
        embedded = torch.cat([encoder.encode_image(part) for part in parts])
        texts = encoder.encode_text([f"a photo of {label}" for label in labels])
        logits = (encoder.info.scale * embedded @ texts.T).cpu()
    right = logits.argmax(-1) == torch.arange(len(labels))
    likelihood = float(logits.log_softmax(-1).diagonal().mean())
    return Naming(likelihood, int(right.sum()), len(labels))


def decide(state: Mapping[str, Tensor], traits: Traits) -> Verdict:
    """Try both activations on drawn samples.

    Args:
        state: Tensors by OpenAI's names.
        traits: What else is known.

    Returns:
        The better one, with its figures.

    Raises:
        EncoderError: The tensors are no CLIP.
    """
    info = EncoderInfo("sample", 0, 0)
    scores: dict[Activation, float] = {}
    for name in _CANDIDATES:
        encoder = OpenAIEncoder(state, info, traits=replace(traits, activation=name))
        scores[name] = name_samples(encoder).likelihood
    return _verdict(scores)


def _verdict(scores: Mapping[Activation, float]) -> Verdict:
    best = max(_CANDIDATES, key=lambda name: scores[name])
    return Verdict(best, scores, -math.log(len(samples(8)[1])))


def remembered(
    checksum: str, tensors: Callable[[], Mapping[str, Tensor]], traits: Traits, place: str
) -> Verdict:
    """Return what `decide` found for these weights, computed once per cache directory.

    Args:
        checksum: Of the weights.
        tensors: Reads them.
        traits: What else is known.
        place: The file, for messages.

    Returns:
        The outcome; a warning says it, too.

    Raises:
        EncoderError: The tensors are no CLIP.
    """
    path = cache_dir() / "activations" / f"{checksum.removeprefix('sha256:')}.json"
    verdict = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        scores = json.loads(path.read_bytes())
        verdict = _verdict({name: float(scores[name]) for name in _CANDIDATES})
    if verdict is None:
        try:
            verdict = decide(tensors(), traits)
        except EncoderError as fault:
            raise EncoderError(f"{place}: {fault}") from fault
        with suppress(OSError):  # a cache that cannot be written is none
            path.parent.mkdir(parents=True, exist_ok=True)
            number, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(number, "w") as file:
                json.dump(dict(verdict.scores), file)
            os.replace(temporary, path)
    warnings.warn(f"{place}: {verdict.sentence()}", stacklevel=2)
    return verdict
