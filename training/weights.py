"""Writes and reads weights files in the form that the package loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from clipig.encoders.embedded.encoder import config_from_json
from clipig.encoders.embedded.network import EmbeddedNetwork, NetworkConfig


def export_weights(
    network: EmbeddedNetwork,
    words: Sequence[str],
    path: Path,
    gap: tuple[Tensor, Tensor] | None = None,
    notes: dict[str, Any] | None = None,
) -> str:
    """Write fp16 weights to `path` and its entry to `index.json` beside it.

    `gap` is (mean image embedding, mean text embedding), `[D]` each.
    `notes` (images seen, hours ...) go to the metadata. Returns "sha256:<hex>".
    """
    tensors = {
        key: value.detach().cpu().half().contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    if gap is not None:
        tensors["gap.image"], tensors["gap.text"] = (mean.detach().cpu().half() for mean in gap)
    metadata = {
        "config": json.dumps(asdict(network.config)),
        "vocabulary": " ".join(words),
        "notes": json.dumps(notes or {}),
    }
    data = save(tensors, metadata)
    checksum = "sha256:" + hashlib.sha256(data).hexdigest()
    _replace(path, data)
    index_path = path.with_name("index.json")
    index = json.loads(index_path.read_text("utf-8")) if index_path.exists() else {}
    index[path.stem] = {
        "size": network.config.size,
        "width": network.config.width,
        "context": network.config.context,
        "checksum": checksum,
    }
    _replace(index_path, (json.dumps(index, indent=2, sort_keys=True) + "\n").encode())
    return checksum


def read_weights(path: Path) -> tuple[NetworkConfig, list[str], dict[str, Tensor]]:
    """Shape, vocabulary and float32 tensors of a weights file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    for key in ("gap.image", "gap.text"):
        tensors.pop(key, None)
    return config_from_json(metadata["config"]), metadata["vocabulary"].split(), tensors


def grow_network(
    config: NetworkConfig,
    words: Sequence[str],
    old: tuple[NetworkConfig, list[str], dict[str, Tensor]],
) -> EmbeddedNetwork:
    """A network of a new shape and vocabulary that starts where the old one stood.

    Known words keep their vectors, new words start at zero (their letter groups
    already carry a guess), new residual blocks start as the identity, new places in
    the text as the mean of the old ones.
    """
    _, old_words, tensors = old
    network = EmbeddedNetwork(config)
    state = network.state_dict()
    for key, value in tensors.items():
        if key == "text.words.weight":
            rows = {word: value[i + 2] for i, word in enumerate(old_words)}
            zero = torch.zeros(value.shape[1])
            table = torch.stack([rows.get(word, zero) for word in words])
            value = torch.cat([value[:2], table])
        elif key == "text.position" and len(value) < config.context:
            more = value.mean(0, keepdim=True).expand(config.context - len(value), -1)
            value = torch.cat([value, more])
        if key not in state or state[key].shape != value.shape:
            raise ValueError(f"{key}: {list(value.shape)} does not fit the new network")
        state[key] = value
    network.load_state_dict(state)
    return network


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)
