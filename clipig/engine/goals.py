"""Goals: the embedded prompts and styles that views are compared with.

`R` runs, `N` views, `F` features of a target, `D` embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.config.parts import Feature, Target
from clipig.encoders.bridges import LoadBridge
from clipig.encoders.protocol import Encoder
from clipig.engine.styles import for_runs, references
from clipig.errors import ConfigError, EncoderError, ImageError, Problem
from clipig.ops.constraints.style import Goal, Style
from clipig.plan.plan import Plan

LoadImage = Callable[[str, int], Tensor]
"""A picture by its path or address, cropped to a square of the given side: `[3, s, s]`."""

Key = tuple[str, str, str, str, str, str]
"""Name, weights, device and precision of an encoder; kind and text or path of a prompt."""

_BATCH = 256


class PromptCache:
    """Embeddings by encoder and prompt, each computed once.

    A grid of 810 prompts encodes its texts in a few batches, and a second run
    of the same process encodes nothing.

    Args:
        load_image: Reads the picture of an image prompt or style by its path or address,
            cropped to a square of the given side: `[3, side, side]` in 0 to 1.
        load_bridge: Gives the statistics that are kept of an encoder, or None.
    """

    def __init__(
        self, load_image: LoadImage | None = None, load_bridge: LoadBridge | None = None
    ):
        self._load, self._bridge = load_image, load_bridge
        self._known: dict[Key, Tensor] = {}
        self._styles: dict[Key, list[Goal]] = {}

    def embed(self, encoder: Encoder, features: Sequence[Feature]) -> Tensor:
        """The embeddings of features, `[F, D]` float32, each row of length one.

        Raises:
            EncoderError: A text is empty or too long for the model.
            ImageError: A picture cannot be read.
        """
        for cut in (False, True):
            wanted = {t for f in features if f.truncate is cut for t in _texts(f)}
            self._texts(encoder, sorted(wanted), cut)
        rows = []
        for f in features:
            if texts := _texts(f):
                found = torch.stack([self._known[_key(encoder, "text", t)] for t in texts])
                mean = F.normalize(found.mean(0), dim=0)
                rows.append(self._bridged(mean, encoder, f) if f.bridge else mean)
            else:
                rows.append(self._image(encoder, f.image or ""))
        return torch.stack(rows)

    def _texts(self, encoder: Encoder, texts: Sequence[str], truncate: bool) -> None:
        new = [t for t in texts if _key(encoder, "text", t) not in self._known]
        for i in range(0, len(new), _BATCH):
            part = new[i : i + _BATCH]
            rows = encoder.encode_text(part, truncate=True) if truncate else (
                encoder.encode_text(part)
            )
            self._known.update(
                (_key(encoder, "text", t), row) for t, row in zip(part, rows, strict=True)
            )

    def _image(self, encoder: Encoder, name: str) -> Tensor:
        key = _key(encoder, "image", name)
        if key not in self._known:
            picture = self._picture(name, encoder.info.size).to(encoder.device)
            with torch.no_grad():
                self._known[key] = encoder.encode_image(picture[None])[0]
        return self._known[key]

    def _picture(self, name: str, side: int) -> Tensor:
        if self._load is None:
            raise ValueError("pictures need a loader")
        return self._load(name, side)

    def _bridged(self, text: Tensor, encoder: Encoder, feature: Feature) -> Tensor:
        """An embedded text `[D]` moved towards the images, as the feature says.

        Raises `EncoderError` for a model without statistics.
        """
        gap: Tensor | None = getattr(encoder, "gap", None)
        if gap is not None and feature.bridge_by == "shift":
            return F.normalize(text + feature.bridge * gap, dim=0)
        bridge = self._bridge(encoder.info) if self._bridge else None
        if bridge is None:
            raise EncoderError(
                f"{encoder.info.name}: nothing is known of the gap between its texts and pictures; "
                "leave `bridge` out, or make statistics: clipig bridge PAIRS --model NAME"
            )
        moved = bridge.to(text.device).moved(text, feature.bridge_by)
        return F.normalize(torch.lerp(text, moved, feature.bridge), dim=0)

    def style(self, encoder: Encoder, node: Style) -> list[Goal]:
        """The goals of a style for its layers. Raises `EncoderError` or `ImageError`."""
        key = _key(encoder, f"{node.statistics} {node.zoom:g}", node.image)
        if key not in self._styles:
            self._styles[key] = references(
                encoder, lambda side: self._picture(node.image, side), node.statistics, node.zoom
            )
        known = self._styles[key]
        for layer in node.layers or ():
            if layer >= len(known):
                raise EncoderError(
                    f"found layer {layer}, expected 0 to {len(known) - 1} of {encoder.info.name}"
                )
        return known if node.layers is None else [known[layer] for layer in node.layers]


def _texts(feature: Feature) -> list[str]:
    return [feature.text] if feature.text else list(feature.texts or [])


def _key(encoder: Encoder, kind: str, what: str) -> Key:
    info = encoder.info
    return (info.name, info.checksum or "", str(encoder.device), str(encoder.dtype), kind, what)


@dataclass(frozen=True)
class Prompts:
    """What views are compared with.

    embeddings  by target: for each encoder `[R, F, D]`, one per feature
    styles      by target and constraint: for each encoder the goals of its layers
    scales      for each encoder `scale` and `zero` of its similarities; none: 100 and 0
    """

    embeddings: Mapping[int, Sequence[Tensor]]
    styles: Mapping[tuple[int, int], Sequence[Sequence[Goal]]]
    scales: Sequence[tuple[float, float]] = ()

    def scale(self, encoder: int) -> tuple[float, float]:
        """Factor and summand that make similarities of the cosines of an encoder."""
        return self.scales[encoder] if self.scales else (100.0, 0.0)


def encode_prompts(plan: Plan, encoders: Sequence[Encoder], cache: PromptCache) -> Prompts:
    """Embed the texts and image prompts of all runs of a plan, and the references of its styles.

    Args:
        plan: From `compile`.
        encoders: The encoders of `plan.encoders`, loaded.
        cache: What is in it is not embedded again.

    Returns:
        Embeddings `[R, F, D]` by target and encoder.

    Raises:
        ConfigError: Every text that is too long and every picture that cannot be had.
        EncoderError: A model cannot do what a style asks of it.
    """
    problems = sorted(set(_faults(plan, encoders, cache)))
    if problems:
        raise ConfigError(problems)
    features: dict[int, list[Tensor]] = {}
    styles: dict[tuple[int, int], list[list[Goal]]] = {}
    for index, target in enumerate(plan.experiment.targets):
        if target.active and target.features:
            flat = [f for e in plan.experiments for f in e.targets[index].features]
            features[index] = [
                cache.embed(encoder, flat).unflatten(0, (plan.runs, len(target.features)))
                for encoder in encoders
            ]
        for place, _ in styles_of(target):
            peers = [e.targets[index].constraints[place] for e in plan.experiments]
            styles[index, place] = [_goals(cache, encoder, peers) for encoder in encoders]
    return Prompts(features, styles, [(e.info.scale, e.info.zero) for e in encoders])


def styles_of(target: Target) -> Iterator[tuple[int, Style]]:
    """The styles of a target that is not switched off, with their indices among the constraints."""
    for place, node in enumerate(target.constraints if target.active else ()):
        if isinstance(node, Style):
            yield place, node


def _goals(cache: PromptCache, encoder: Encoder, peers: Sequence[object]) -> list[Goal]:
    """The goals of the same style of R runs, layer by layer."""
    rows = [cache.style(encoder, node) for node in peers if isinstance(node, Style)]
    return [for_runs(layer) for layer in zip(*rows, strict=True)]


def _looking(plan: Plan, encoders: Sequence[Encoder], target: Target) -> list[Encoder]:
    """The encoders that look at a target."""
    return [
        encoder for encoder, model in zip(encoders, plan.experiment.model, strict=True)
        if target.models is None or model.name in target.models
    ]


def _faults(
    plan: Plan, encoders: Sequence[Encoder], cache: PromptCache
) -> Iterator[Problem]:
    """Texts that are too long for an encoder, pictures that cannot be read, missing patches."""
    for i, (model, encoder) in enumerate(zip(plan.experiment.model, encoders, strict=True)):
        if model.patch_dropout and not getattr(encoder, "patches", 0):
            lacking = f"{encoder.info.name} has no patches that could be left out"
            yield Problem("", 0, 0, f"model[{i}].patch_dropout", lacking)
    for experiment in plan.experiments:
        for t, target in enumerate(experiment.targets):
            for f, feature in enumerate(target.features if target.active else ()):
                key = f"targets[{t}].features[{f}]"
                for encoder in _looking(plan, encoders, target):
                    for text in () if feature.truncate else _texts(feature):
                        if message := _too_long(encoder, text):
                            yield Problem("", 0, 0, f"{key}.text", message)
                    if not _texts(feature):
                        try:
                            cache.embed(encoder, [feature])
                        except ImageError as e:
                            yield Problem("", 0, 0, f"{key}.image", str(e))
            for c, style in styles_of(target):
                key = f"targets[{t}].constraints[{c}].style"
                for encoder in _looking(plan, encoders, target):
                    try:
                        cache.style(encoder, style)
                    except ImageError as e:
                        yield Problem("", 0, 0, f"{key}.image", str(e))
                    except EncoderError as e:
                        place = key if style.layers is None else f"{key}.layers"
                        yield Problem("", 0, 0, place, str(e))


def _too_long(encoder: Encoder, text: str) -> str | None:
    context, count = encoder.info.context, getattr(encoder, "count_tokens", None)
    tokens = count(text) if context and count else None
    if not context or not tokens or tokens <= context:
        return None
    return (
        f"a text of {tokens} tokens found, at most {context} expected by {encoder.info.name}; "
        "`truncate: true` cuts it"
    )
