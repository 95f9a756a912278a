"""Loads the embedded CLIP and speaks the encoder protocol."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from importlib import resources
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from clipig.encoders.embedded.network import EmbeddedNetwork, NetworkConfig
from clipig.encoders.embedded.vocabulary import Vocabulary, split_words
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError

_PACKAGE = "clipig.encoders.embedded"
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class EmbeddedEncoder:
    """Clipig's own small CLIP behind the `Encoder` protocol: frozen, in eval mode.

    With `precision="bf16"` the image tower computes in bfloat16; embeddings are
    float32 rows of length one either way.
    """

    def __init__(
        self,
        network: EmbeddedNetwork,
        vocabulary: Vocabulary,
        info: EncoderInfo,
        device: torch.device,
        precision: str = "fp32",
        gap: Tensor | None = None,
    ):
        self.vocabulary = vocabulary
        self._info = info
        self._dtype = _PRECISIONS[precision]
        self._device = device
        network = network.eval().requires_grad_(False).to(device)
        network.image.fold()
        network.image.stages.to(dtype=self._dtype)
        self._image = network.image.to(memory_format=torch.channels_last)
        self._image.norm.to(dtype=self._dtype)
        self._image.project.to(dtype=self._dtype)
        self._text = network.text
        self._gap = None if gap is None else gap.to(device)
        self._warned: set[str] = set()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def gap(self) -> Tensor | None:
        """Mean image embedding minus mean text embedding over the training data, `[D]`."""
        return self._gap

    def encode_image(self, views: Tensor) -> Tensor:
        """Embed pictures `[B, 3, size, size]` in [0, 1]: `[B, D]` float32, differentiable."""
        return self._image(self._prepare(views))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: `[P, D]` float32, no gradient.

        Words outside the vocabulary give one warning that names them and the nearest
        known ones. Raises `EncoderError` for an empty text or one of too many words.
        """
        self._check(texts)
        if not texts:
            return torch.zeros(0, self._info.width, device=self._device)
        words, letters = self.vocabulary.encode(texts)
        with torch.no_grad():
            return self._text(words.to(self._device), letters.to(self._device))

    def features(self, views: Tensor) -> list[Tensor]:
        """Activations of all stages but the last, fine to coarse, `[B, C, h, w]` float32."""
        return [x.float() for x in self._image.stage_outputs(self._prepare(views))[:-1]]

    def _prepare(self, views: Tensor) -> Tensor:
        size = self._info.size
        if views.ndim != 4 or views.shape[1:] != (3, size, size):
            raise EncoderError(
                f"{self._info.name}: expected pictures of shape [B, 3, {size}, {size}], "
                f"found {list(views.shape)}"
            )
        return views.to(self._dtype).contiguous(memory_format=torch.channels_last)

    def _check(self, texts: Sequence[str]) -> None:
        limit = self.vocabulary.context
        for text in texts:
            count = len(split_words(text))
            if count == 0:
                raise EncoderError(f"{self._info.name}: the text {text!r} has no words")
            if count > limit:
                raise EncoderError(
                    f"{self._info.name}: the text {text!r} has {count} words, "
                    f"{count - limit} more than the {limit} this model reads"
                )
        unknown = self.vocabulary.unknown(texts)
        fresh = {word: near for word, near in unknown.items() if word not in self._warned}
        if fresh:
            self._warned.update(fresh)
            listed = "; ".join(
                f"{word} (nearest: {', '.join(near)})" if near else word
                for word, near in fresh.items()
            )
            warnings.warn(f"{self._info.name} does not know: {listed}", stacklevel=3)


def embedded_names() -> tuple[str, ...]:
    """Names of the models in the package."""
    return tuple(_index())


def embedded_info(name: str = "embedded") -> EncoderInfo:
    """What is known of a shipped model without reading its weights.

    Raises `EncoderError` for a name that is not shipped.
    """
    index = _index()
    if name not in index:
        raise EncoderError(f"unknown embedded model {name!r}, expected one of: {', '.join(index)}")
    entry = index[name]
    return EncoderInfo(
        name=name,
        size=entry["size"],
        width=entry["width"],
        context=entry["context"],
        reason="shipped with clipig, needs no download",
        checksum=entry["checksum"],
    )


def load_embedded(
    name: str = "embedded",
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> EmbeddedEncoder:
    """Load a model of the package: `embedded` guides, `embedded-judge` only rates.

    `precision` is "fp32" or "bf16" (image tower only). Raises `EncoderError` for an
    unknown name or precision, or for damaged weights.
    """
    info = embedded_info(name)
    try:
        data = resources.files(_PACKAGE).joinpath(f"{name}.safetensors").read_bytes()
    except OSError as error:
        raise EncoderError(f"{name}: its weights cannot be read: {error}") from error
    return encoder_from_bytes(data, info, device, precision)


def encoder_from_bytes(
    data: bytes, info: EncoderInfo, device: torch.device | str = "cpu", precision: str = "fp32"
) -> EmbeddedEncoder:
    """Build an encoder from the bytes of a weights file (see `training.export`)."""
    if precision not in _PRECISIONS:
        raise EncoderError(
            f"{info.name}: unknown precision {precision!r}, "
            f"expected one of: {', '.join(_PRECISIONS)}"
        )
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        tensors = {key: value.float() for key, value in load_tensors(data).items()}
        config = config_from_json(metadata["config"])
        words = metadata["vocabulary"].split()
        with torch.device("meta"):
            network = EmbeddedNetwork(config)
        gap = tensors.pop("gap.image", None)
        text_mean = tensors.pop("gap.text", None)
        for key, value in network.state_dict().items():
            if key.endswith("num_batches_tracked"):
                tensors[key] = torch.zeros_like(value, device="cpu")
        network.load_state_dict(tensors, assign=True)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"{info.name}: the weights file is damaged: {error}") from error
    vocabulary = Vocabulary(words, config.buckets, config.groups, config.context)
    if gap is not None and text_mean is not None:
        gap = gap - text_mean
    return EmbeddedEncoder(network, vocabulary, info, torch.device(device), precision, gap)


def config_from_json(text: str) -> NetworkConfig:
    """The network's shape from the JSON in the weights file."""
    entries = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(text).items()
    }
    return NetworkConfig(**entries)


def _index() -> dict[str, dict[str, Any]]:
    text = resources.files(_PACKAGE).joinpath("index.json").read_text("utf-8")
    index: dict[str, dict[str, Any]] = json.loads(text)
    return index
