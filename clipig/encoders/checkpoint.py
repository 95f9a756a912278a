"""Checkpoint files to tensors by OpenAI's names. No code of a file is ever run.

- `.safetensors`, `.sft`: tensors only, by design;
- `torch.save` files: `torch.load(weights_only=True)`;
- TorchScript archives (OpenAI's own files): see `torchscript`.

Wrappings: a bare state dict; open_clip's and lightning's `{"state_dict": {...}}`;
prefixes of names are removed by `layouts`.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipig.encoders.torchscript import TorchScriptArchive
from clipig.errors import EncoderError
from clipig.files import open_regular, user_path

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MAX_TENSORS = 20_000
_SAFETENSORS = (".safetensors", ".sft")
_FLOAT8 = "float8"


def checked_path(name: str) -> Path:
    """Return the path of a regular file that is not empty, or raise `EncoderError`."""
    path = user_path(name)
    try:
        if path.is_dir():
            raise EncoderError(f"{path}: a folder, expected a checkpoint file")
        if not path.exists():
            raise EncoderError(f"{path}: no such checkpoint file")
        with open_regular(path) as file:
            if not file.read(1):
                raise EncoderError(f"{path}: the file is empty")
    except OSError as fault:
        raise EncoderError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    return path


def read_tensors(path: Path, *, shapes_only: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file, by the names that stand in it.

    Args:
        path: The file.
        shapes_only: Whether shapes are enough: tensors may be on the meta device or mapped.

    Returns:
        The tensors, on the CPU, in the dtype they are stored in.

    Raises:
        EncoderError: The file is missing, damaged, hostile or holds something else; the
            message names it.
    """
    path = checked_path(str(path))
    try:
        found = _unwrapped(_read(path, shapes_only))
        _check(found, shapes_only)
        return found
    except EncoderError as fault:
        raise EncoderError(f"{path}: {fault}") from fault


def stated_activation(path: Path) -> str | None:
    """Return the class name of the activation in a TorchScript archive, None for other files."""
    if path.suffix.lower() in _SAFETENSORS or not TorchScriptArchive.is_one(path):
        return None
    with TorchScriptArchive(path) as archive:
        return archive.activation


def _read(path: Path, shapes_only: bool) -> Any:
    with open_regular(path) as file:
        head = file.read(512)
    if path.suffix.lower() in _SAFETENSORS:
        return _read_safetensors(path, shapes_only)
    if not TorchScriptArchive.is_one(path):
        return _read_pickle(path, head, shapes_only)
    with TorchScriptArchive(path) as archive:
        if not shapes_only:
            return archive.tensors()
        return {k: torch.empty(v, device="meta") for k, v in archive.shapes().items()}


def _read_safetensors(path: Path, shapes_only: bool) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        if not shapes_only:
            return load_file(path)
        with safe_open(path, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as fault:
        raise EncoderError(f"damaged, or no safetensors file ({_first_line(fault)})") from fault


def _read_pickle(path: Path, head: bytes, shapes_only: bool) -> Any:
    if head.lstrip()[:1] == b"<":
        raise EncoderError("a web page, no checkpoint; the download went wrong")
    if head.startswith(b"version https://git-lfs"):
        raise EncoderError("a Git LFS pointer, not the file itself: run `git lfs pull`")
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        if shapes_only and zipfile.is_zipfile(path):
            options["mmap"] = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, **options)
    except pickle.UnpicklingError as fault:
        alien = re.search(r"(?:GLOBAL|Unsupported (?:global|class):?) ([\w.]+)", str(fault))
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


def _unwrapped(found: Any) -> dict[str, Tensor]:
    """The tensors in the wrappings named above."""
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise EncoderError(f"it holds a {type(found).__name__}, expected a state dict")
    state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not state:
        raise EncoderError("it holds no tensors, expected a state dict")
    return state


def _check(state: Mapping[str, Tensor], shapes_only: bool) -> None:
    """Refuse tensors whose use would fail or fill the memory: a file may come from anywhere."""
    if len(state) > _MAX_TENSORS:
        raise EncoderError(f"it holds {len(state)} tensors, expected at most {_MAX_TENSORS}")
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized:
            raise EncoderError(f"the tensor {key} is sparse or quantized, expected a plain one")
        if _FLOAT8 in str(value.dtype):
            raise EncoderError(
                f"the tensor {key} is stored in 8 bits ({value.dtype}): too coarse for gradients, "
                "take the fp16 or fp32 file of the same model"
            )
        if value.device.type == "meta":
            if not shapes_only:
                raise EncoderError(f"the tensor {key} has no values")
            continue
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise EncoderError(f"the tensor {key} is larger than its bytes in the file")
