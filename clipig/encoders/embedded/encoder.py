"""Loads the embedded CLIP and speaks the encoder protocol."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from importlib import resources
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from clipig.encoders.blank import blank
from clipig.encoders.embedded.network import ACTIVATIONS, Block, EmbeddedNetwork, NetworkConfig
from clipig.encoders.embedded.vocabulary import Vocabulary, split_words
from clipig.encoders.names import ASKED
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError
from clipig.files import file_sha256, open_regular, user_path

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_LONGEST_HEADER = 1 << 24


class EmbeddedEncoder:
    """Clipig's own small CLIP behind the `Encoder` protocol: frozen, in eval mode.

    gap  mean image minus mean text embedding over the training data, `[D]`, or None
    """

    def __init__(
        self,
        network: EmbeddedNetwork,
        vocabulary: Vocabulary,
        info: EncoderInfo,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        gap: Tensor | None = None,
    ):
        network = network.eval().requires_grad_(False).to(device)
        for module in list(network.image.modules()):
            if isinstance(module, Block):
                module.fold()
        image = network.image.to(memory_format=torch.channels_last)
        for part in (image.stages, image.norm, image.project):
            part.to(dtype)
        self.info, self.device, self.dtype, self.vocabulary = info, device, dtype, vocabulary
        self.gap = None if gap is None else gap.to(device)
        self._image, self._text = image, network.text
        self._warned: set[str] = set()

    def encode_image(self, views: Tensor) -> Tensor:
        """Embed pictures `[B, 3, size, size]` in [0, 1]: `[B, D]` float32, differentiable."""
        embedded: Tensor = self._image(self._prepare(views))
        return embedded

    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """Embed texts: `[P, D]` float32, no gradient.

        Words outside the vocabulary give one warning that names them and the nearest
        known ones. Raises `EncoderError` for an empty text or, unless it is to be cut by
        `truncate`, one of too many words.
        """
        if truncate:
            texts = [" ".join(split_words(text)[: self.vocabulary.context]) for text in texts]
        self._check(texts)
        if not texts:
            return torch.zeros(0, self.info.width, device=self.device)
        words, letters = self.vocabulary.encode(texts)
        with torch.no_grad():
            embedded: Tensor = self._text(words.to(self.device), letters.to(self.device))
        return embedded

    def features(self, views: Tensor) -> list[Tensor]:
        """Activations of all stages but the last, fine to coarse, `[B, C, h, w]` float32."""
        early = len(self._image.stages) - 1
        return [x.float() for x in self._image.stage_outputs(self._prepare(views), early)]

    def encode_with_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `encode_image` and `features` give, in one pass."""
        *early, last = self._image.stage_outputs(self._prepare(views))
        return self._image.read_out(last), [x.float() for x in early]

    def _prepare(self, views: Tensor) -> Tensor:
        size = self.info.size
        if views.shape[1:] != (3, size, size):
            wanted = f"[B, 3, {size}, {size}]"
            raise EncoderError(
                f"{self.info.name}: expected views {wanted}, found {list(views.shape)}"
            )
        return views.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _check(self, texts: Sequence[str]) -> None:
        name, limit = self.info.name, self.vocabulary.context
        for text in texts:
            count = len(split_words(text))
            if count == 0:
                raise EncoderError(f"{name}: the text {text!r} has no words")
            if count > limit:
                excess = f"{count} words, {count - limit} more than the {limit} it reads"
                raise EncoderError(f"{name}: the text {text!r} has {excess}")
        unknown = self.vocabulary.unknown(texts)
        fresh = [word for word in unknown if word not in self._warned]
        if fresh:
            self._warned.update(fresh)
            near = {word: f" (nearest: {', '.join(unknown[word])})" for word in fresh}
            listed = "; ".join(word + near[word] * bool(unknown[word]) for word in fresh)
            warnings.warn(f"{name} does not know: {listed}", stacklevel=3)


def embedded_names() -> tuple[str, ...]:
    """Names of the models in the package."""
    return tuple(_index())


def embedded_info(name: str = "embedded") -> EncoderInfo:
    """What is known of a model of the package without its weights; `EncoderError` if unknown."""
    index = _index()
    if name not in index:
        raise EncoderError(f"unknown embedded model {name!r}, expected one of: {', '.join(index)}")
    return EncoderInfo(name=name, reason="shipped with clipig, needs no download", **index[name])


def load_embedded(
    name: str = "embedded", device: torch.device | str = "cpu", precision: str = "fp32"
) -> EmbeddedEncoder:
    """Load a model of the package: `embedded` guides, `embedded-judge` only rates.

    `precision` is "fp32" or "bf16" (image tower only). Raises `EncoderError` for an
    unknown name or precision, or for damaged weights.
    """
    info = embedded_info(name)
    data = resources.files(__package__).joinpath(f"{name}.safetensors").read_bytes()
    return encoder_from_bytes(data, info, device, precision)


def encoder_from_bytes(
    data: bytes, info: EncoderInfo, device: torch.device | str = "cpu", precision: str = "fp32"
) -> EmbeddedEncoder:
    """Build an encoder from the bytes of a weights file; errors as in `load_embedded`."""
    if precision not in PRECISIONS:
        choices = ", ".join(PRECISIONS)
        raise EncoderError(f"{info.name}: precision {precision!r} is not one of: {choices}")
    try:
        metadata = _metadata(data)
        tensors = {key: value.float() for key, value in load_tensors(data).items()}
        image_mean, text_mean = tensors.pop("gap.image", None), tensors.pop("gap.text", None)
        config = config_from_json(metadata["config"])
        with blank():
            network = EmbeddedNetwork(config)
        for key in network.state_dict():
            if key.endswith("num_batches_tracked"):
                tensors[key] = torch.zeros((), dtype=torch.long)
        network.load_state_dict(tensors, assign=True)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"{info.name}: the weights file is damaged: {error}") from error
    gap = None if image_mean is None or text_mean is None else image_mean - text_mean
    words = metadata["vocabulary"].split()
    known = Vocabulary(words, config.buckets, config.groups, config.context)
    return EmbeddedEncoder(network, known, info, torch.device(device), PRECISIONS[precision], gap)


def file_info(name: str) -> EncoderInfo | None:
    """What is known of a weights file of this kind (`training.weights` writes them).

    None if it is not there or of another kind. Raises `EncoderError` if it is damaged.
    """
    path = user_path(name)
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with open_regular(path) as file:
            start = file.read(8)
            metadata = _metadata(start + file.read(min(_length(start), _LONGEST_HEADER)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not {"config", "vocabulary"} <= set(metadata):
        return None
    try:
        config = config_from_json(metadata["config"])
    except (ValueError, TypeError, RecursionError) as error:
        raise EncoderError(f"{name}: the weights file is damaged: {error}") from error
    checksum = f"sha256:{file_sha256(path)}"
    return EncoderInfo(name, config.size, config.width, config.context, ASKED, checksum)


def load_file(
    info: EncoderInfo, device: torch.device | str = "cpu", precision: str = "fp32"
) -> EmbeddedEncoder:
    """Load the weights file that `file_info` found; errors as in `load_embedded`.

    Raises `EncoderError`, too, if the file is another one by now.
    """
    try:
        with open_regular(user_path(info.name)) as file:
            data = file.read()
    except OSError as error:
        raise EncoderError(f"{info.name}: cannot be read: {error.strerror or error}") from error
    checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if checksum != info.checksum:
        raise EncoderError(f"{info.name}: the file has changed since it was looked at ({checksum})")
    return encoder_from_bytes(data, info, device, precision)


def config_from_json(text: str) -> NetworkConfig:
    """The network's shape from the JSON in the weights file.

    Raises `ValueError` or `TypeError` for one that no such network can have: a file
    may come from anywhere, and building takes time before shapes are compared.
    """
    entries: dict[str, Any] = json.loads(text)
    if not isinstance(entries, dict):
        raise TypeError("the configuration is no mapping")
    lists = {key: tuple(value) for key, value in entries.items() if isinstance(value, list)}
    config = NetworkConfig(**{**entries, **lists})
    for name, value in vars(config).items():
        least, most = (0, 64) if "depth" in name else (int(name != "words"), 1 << 20)
        numbers = value if isinstance(value, tuple) else (value,)
        if name == "activation":
            if value not in ACTIVATIONS:
                raise ValueError(f"{name} is {value!r}")
        elif len(numbers) > 16 or not all(
            isinstance(n, int) and least <= n <= most for n in numbers
        ):
            raise ValueError(f"{name} is {value!r}")
    return config


def _metadata(data: bytes) -> dict[str, str]:
    """The words in a safetensors header. Raises `ValueError`, `KeyError` or `TypeError`."""
    found: dict[str, str] = json.loads(data[8 : 8 + _length(data)])["__metadata__"]
    if not isinstance(found, dict):
        raise TypeError("the header's metadata is no mapping")
    return found


def _length(data: bytes) -> int:
    """Bytes of a safetensors header, as the file says."""
    return int.from_bytes(data[:8], "little")


def _index() -> dict[str, dict[str, Any]]:
    text = resources.files(__package__).joinpath("index.json").read_text("utf-8")
    index: dict[str, dict[str, Any]] = json.loads(text)
    return index
