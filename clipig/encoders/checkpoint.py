"""Checkpoint files to tensors. The files are not trusted: nothing in them is run.

- `.safetensors`: numbers only by design;
- `torch.save` files: `torch.load(weights_only=True)`;
- TorchScript archives (OpenAI's own files): see `torchscript`.

Layouts: a bare state dict; open_clip's and lightning's `{"state_dict": {...}}`;
names with `module.` (distributed training), `_orig_mod.` (torch.compile),
`clip.` or `model.` before them.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipig.encoders.architecture import Architecture, infer_architecture
from clipig.encoders.names import ASKED
from clipig.encoders.protocol import EncoderInfo
from clipig.encoders.torchscript import TorchScriptArchive
from clipig.errors import EncoderError

_PREFIXES = ("module.", "_orig_mod.", "clip.", "model.", "clip_model.")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_ANCHOR = "text_projection"  # a tensor that every CLIP has, under its bare name


def checkpoint_info(name: str) -> EncoderInfo:
    """Size, width, context and checksum of a checkpoint file; its tensors stay on the disk.

    Raises `EncoderError` naming the file when it is missing, damaged or no CLIP.
    """
    path = checked_path(name)
    architecture = _architecture(path, _stamp(path))
    return EncoderInfo(
        name,
        architecture.size,
        architecture.embed,
        architecture.context,
        ASKED,
        f"sha256:{file_sha256(path)}",
    )


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by OpenAI's names, on the CPU.

    Raises `EncoderError` naming the file.
    """
    path = checked_path(str(path))
    try:
        return _read(path, shapes_only=False)
    except EncoderError as fault:
        raise EncoderError(f"{path}: {fault}") from fault


def checked_path(name: str) -> Path:
    """The path of an existing, non-empty file, or `EncoderError`."""
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            raise EncoderError(f"{path}: a folder, expected a checkpoint file")
        if not path.exists():
            raise EncoderError(f"{path}: no such checkpoint file")
        with path.open("rb") as file:
            if not file.read(1):
                raise EncoderError(f"{path}: the file is empty")
    except OSError as fault:
        raise EncoderError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    return path


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, remembered for the process while size and time stay the same."""
    return _sha256(path.absolute(), _stamp(path))


@lru_cache(maxsize=64)
def _sha256(path: Path, stamp: tuple[int, int]) -> str:
    del stamp  # part of the key only
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _architecture(path: Path, stamp: tuple[int, int]) -> Architecture:
    del stamp  # part of the key only
    try:
        state = _read(path, shapes_only=True)
        return infer_architecture({k: tuple(v.shape) for k, v in state.items()})
    except EncoderError as fault:
        raise EncoderError(f"{path}: {fault}") from fault


def _read(path: Path, *, shapes_only: bool) -> dict[str, Tensor]:
    """`shapes_only`: tensors may be empty shells (meta device) or mapped, not read."""
    with path.open("rb") as file:
        head = file.read(512)
    if path.suffix.lower() == ".safetensors":
        found: Any = _read_safetensors(path, shapes_only)
    elif TorchScriptArchive.is_one(path):
        with TorchScriptArchive(path) as archive:
            if shapes_only:
                shapes = archive.shapes()
                found = {k: torch.empty(v, device="meta") for k, v in shapes.items()}
            else:
                found = archive.tensors()
    else:
        found = _read_pickle(path, head, shapes_only)
    return _bare_names(found)


def _read_safetensors(path: Path, shapes_only: bool) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        if not shapes_only:
            return load_file(path)
        with safe_open(path, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as fault:
        raise EncoderError(f"damaged, or no safetensors file ({_first_line(fault)})") from fault


def _read_pickle(path: Path, head: bytes, shapes_only: bool) -> Any:
    if head.lstrip()[:1] == b"<":
        raise EncoderError("a web page, no checkpoint; the download went wrong")
    if head.startswith(b"version https://git-lfs"):
        raise EncoderError("a Git LFS pointer, not the file itself: run `git lfs pull`")
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    if shapes_only and zipfile.is_zipfile(path):
        options["mmap"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, **options)
    except pickle.UnpicklingError as fault:
        alien = re.search(r"Unsupported (?:global|class):?(?: GLOBAL)? (\S+)", str(fault))
        if alien is None:
            raise EncoderError("damaged, or no checkpoint") from fault
        raise EncoderError(
            f"it holds more than tensors ({alien.group(1)[:80]}) and is refused, because "
            "loading it could run code; save its state_dict alone"
        ) from fault
    except Exception as fault:  # torch.load raises whatever a broken pickle makes it raise
        raise EncoderError(f"damaged, or no checkpoint ({_first_line(fault)})") from fault


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return lines[0][:160]


def _bare_names(found: Any) -> dict[str, Tensor]:
    """Unwrap the layouts named above to tensors by OpenAI's names."""
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise EncoderError(f"it holds a {type(found).__name__}, expected a state dict")
    state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not state:
        raise EncoderError("it holds no tensors, expected a state dict")
    for _ in range(4):  # "module._orig_mod.clip.model." at the most
        anchor = next((k for k in state if k.endswith("." + _ANCHOR)), None)
        if _ANCHOR in state or anchor is None:
            break
        prefix = next((p for p in _PREFIXES if anchor.startswith(p)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state
