"""From a name to the files of a model, in whatever layout, and to its tensors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from clipig.encoders import comfyui, huggingface
from clipig.encoders.architecture import Activation, Traits
from clipig.encoders.checkpoint import checked_path, read_tensors, stated_activation
from clipig.encoders.hub import REPOSITORY, Snapshot, check_blob, fetch_snapshot, find_snapshot
from clipig.encoders.known import known_activation
from clipig.encoders.layouts import bare_names, openai_names
from clipig.encoders.names import HUB, LOCAL_DIR, PAIR
from clipig.errors import EncoderError
from clipig.files import file_sha256, user_path
from clipig.web import BytesDone

_SIGLIP_HEAD = "vision_model.head."
_WORDS: dict[str, Activation] = {"QuickGELU": "quick_gelu", "GELU": "gelu"}


@dataclass(frozen=True)
class Source:
    """The files of one model and what is said of them without reading tensors.

    Attributes:
        name: As the user wrote it.
        files: One file, all shards, or the image and the text tower.
        layout: What is shown: `checkpoint`, `Hugging Face`, `open_clip`, `ComfyUI`.
        kind: `clip`, `siglip` or `open_clip` (whose package loads it).
        traits: What configs and names say.
        folder: The folder of a model that has configs.
        config: Its config.
        revision: The commit of a repository of the hub.
        towers: Whether the files are two towers of one model.
    """

    name: str
    files: tuple[Path, ...]
    layout: str
    kind: str = "clip"
    traits: Traits = field(default_factory=Traits)
    folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    towers: bool = False

    def checksum(self) -> str:
        """`sha256:` and the checksum of the file, or of the checksums of all in order."""
        for file in self.files:
            check_blob(file)
        each = [file_sha256(file) for file in self.files]
        if len(each) == 1:
            return f"sha256:{each[0]}"
        return f"sha256:{hashlib.sha256(' '.join(each).encode()).hexdigest()}"

    def tensors(self, shapes_only: bool = False) -> dict[str, Tensor]:
        """Read all tensors.

        Args:
            shapes_only: Whether shapes are enough.

        Returns:
            By OpenAI's names, as far as OpenAI's models have them.

        Raises:
            EncoderError: A file is damaged, or the files do not make a model.
        """
        if self.towers:
            return openai_names(comfyui.read_pair(*self.files, shapes_only=shapes_only))
        found: dict[str, Tensor] = {}
        for file in self.files:
            part = read_tensors(file, shapes_only=shapes_only)
            if twice := sorted(set(found) & set(part)):
                raise EncoderError(f"{file}: {twice[0]} is in another shard, too")
            found |= part
        found = bare_names(found)
        if self.kind == "clip" and f"{_SIGLIP_HEAD}probe" in found:
            raise EncoderError(f"{self.files[0]}: a SigLIP: load its folder, with config.json "
                               "and tokenizer.json")
        return openai_names(found)


def locate(
    name: str, *, activation: Activation | None = None, allow_download: bool = True,
    progress: BytesDone | None = None,
) -> Source | None:
    """Find the files of a model.

    Args:
        name: A file, a folder, `IMAGE+TEXT`, `org/name`, `hf-hub:org/name[@revision]`
            or `local-dir:FOLDER`.
        activation: What the user says of it; stands above all else.
        allow_download: Whether `hf-hub:` may download.
        progress: Told how far a download is.

    Returns:
        The files, or None for an `org/name` that is in no cache.

    Raises:
        EncoderError: They are missing, incomplete or of an unknown kind.
    """
    found = _located(name, allow_download, progress)
    if found is None:
        return None
    traits = found.traits
    if activation is not None:
        traits = replace(traits, activation=activation, source="activation")
    elif traits.activation is None and found.kind == "clip" and not found.towers:
        traits = _stated(found)
    return replace(found, traits=traits)


def _stated(source: Source) -> Traits:
    """What a TorchScript archive, a known name or a known checksum says."""
    file = source.files[0]
    word = _WORDS.get(stated_activation(file) or "")
    if word is not None:
        return replace(source.traits, activation=word, source="its TorchScript classes")
    if (known := known_activation(file)) is not None:
        return replace(source.traits, activation=known, source="its name and checksum")
    return source.traits


def _located(name: str, allow_download: bool, progress: BytesDone | None) -> Source | None:
    if name.startswith(HUB):
        snapshot = fetch_snapshot(name, progress) if allow_download else find_snapshot(name)
        if snapshot is None:
            raise EncoderError(f"{name}: not in the cache, and downloads are not allowed")
        return _of_snapshot(name, snapshot)
    path = user_path(name.removeprefix(LOCAL_DIR))
    if os.path.isdir(path):
        return _of_folder(name, path)
    if PAIR in name and not os.path.exists(path):
        image, text = comfyui.find_pair(name)
        return Source(name, (image, text), "ComfyUI", towers=True)
    if REPOSITORY.fullmatch(name) and not os.path.exists(path):
        snapshot = find_snapshot(name)
        return None if snapshot is None else _of_snapshot(name, snapshot)
    return _of_file(name, checked_path(name))


def _of_snapshot(name: str, snapshot: Snapshot) -> Source:
    return replace(_of_folder(name, snapshot.folder), revision=snapshot.revision)


def _of_folder(name: str, folder: Path) -> Source:
    found = huggingface.read_folder(folder)
    return Source(name, found.files, found.layout, found.kind, found.traits, folder, found.config)


def _of_file(name: str, path: Path) -> Source:
    """A file, and what the folder that it is the model of says."""
    folder = path.parent
    if path.name in huggingface.WEIGHTS + huggingface.OPEN_CLIP_WEIGHTS and any(
        (folder / config).is_file()
        for config in (huggingface.CONFIG, huggingface.OPEN_CLIP_CONFIG)
    ):
        found = _of_folder(name, folder)
        if found.files == (path,):
            return found
    return Source(name, (path,), "checkpoint")
