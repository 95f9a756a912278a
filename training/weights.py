"""Writes and reads weights files in the form that the package loads.

    python -m training.weights training/runs/main/embedded.safetensors

puts a trained file into the package.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from clipig.encoders import embedded
from clipig.encoders.embedded.encoder import config_from_json
from clipig.encoders.embedded.network import Block, EmbeddedNetwork, NetworkConfig

PACKAGE = Path(embedded.__file__).parent


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
    _enter(path, network.config, checksum)
    return checksum


def read_weights(path: Path) -> tuple[NetworkConfig, list[str], dict[str, Tensor]]:
    """Shape, vocabulary and float32 tensors of a weights file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    for key in ("gap.image", "gap.text"):
        tensors.pop(key, None)
    return config_from_json(metadata["config"]), metadata["vocabulary"].split(), tensors


@torch.no_grad()
def new_network(config: NetworkConfig) -> EmbeddedNetwork:
    """A network ready to be trained; residual blocks start as the identity."""
    network = EmbeddedNetwork(config)
    for block in network.modules():
        if isinstance(block, Block):
            block.conv2.weight.zero_()
            assert block.conv2.bias is not None
            block.conv2.bias.zero_()
    maps, text = network.image.maps, network.text
    maps.normal_(std=0.02).add_(1 / maps.shape[-1])
    text.words.weight.normal_(std=0.3)[0] = 0
    text.letters.weight.normal_(std=0.5)[0] = 0
    text.position.normal_(std=0.1)
    return network


def grow_network(
    network: EmbeddedNetwork,
    words: Sequence[str],
    old: tuple[NetworkConfig, list[str], dict[str, Tensor]],
    towers: str = "image text",
) -> EmbeddedNetwork:
    """Fill the named towers of a new network with what an old one has learned.

    Known words keep their vectors, new words start at zero (their letter groups
    already carry a guess), new residual blocks stay the identity, new places in the
    text start as the mean of the old ones.
    """
    _, old_words, tensors = old
    state = network.state_dict()
    for key, value in tensors.items():
        if key.split(".")[0] not in towers:
            continue
        if key == "text.words.weight":
            rows = {word: value[i + 2] for i, word in enumerate(old_words)}
            zero = torch.zeros(value.shape[1])
            table = torch.stack([rows.get(word, zero) for word in words])
            value = torch.cat([value[:2], table])
        elif key == "text.position" and len(value) < network.config.context:
            more = value.mean(0, keepdim=True).expand(network.config.context - len(value), -1)
            value = torch.cat([value, more])
        if key not in state or state[key].shape != value.shape:
            raise ValueError(f"{key}: {list(value.shape)} does not fit the new network")
        state[key] = value
    network.load_state_dict(state)
    return network


def install_weights(source: Path, package: Path = PACKAGE) -> str:
    """Copy a weights file into the package and enter it in its index."""
    data = source.read_bytes()
    target = package / source.name
    _replace(target, data)
    checksum = "sha256:" + hashlib.sha256(data).hexdigest()
    _enter(target, read_weights(target)[0], checksum)
    return checksum


def _enter(path: Path, config: NetworkConfig, checksum: str) -> None:
    index_path = path.with_name("index.json")
    index = json.loads(index_path.read_text("utf-8")) if index_path.exists() else {}
    index[path.stem] = {
        "size": config.size,
        "width": config.width,
        "context": config.context,
        "checksum": checksum,
    }
    _replace(index_path, (json.dumps(index, indent=2, sort_keys=True) + "\n").encode())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


if __name__ == "__main__":
    print(install_weights(Path(sys.argv[1])))
