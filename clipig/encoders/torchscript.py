"""Reads the tensors of a TorchScript archive without running any of its code.

An archive is a zip: `NAME/data.pkl` is a pickle of the module tree, whose
classes live in `NAME/code/` and whose tensors lie in `NAME/data/N`. Here the
pickle is read by an unpickler that knows a handful of harmless names; every
class of the archive becomes a bare `_Node` that only holds attributes, and
the code is never opened. So nothing of the file is trusted but numbers.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipig.errors import EncoderError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAX_PICKLE = 64 << 20  # bytes; OpenAI's largest is below one million
_MAX_DEPTH = 64


class _Node:
    """Any object of the archive: attributes, no behaviour."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Stored(NamedTuple):
    """A storage in the archive: its entry, dtype and length in elements."""

    key: str
    dtype: torch.dtype
    length: int


class _Reference(NamedTuple):
    """A tensor not read yet."""

    storage: _Stored
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _reference(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    whole = (offset, *size, *stride)
    if not isinstance(storage, _Stored) or any(type(n) is not int or n < 0 for n in whole):
        raise pickle.UnpicklingError("a tensor is badly described")
    if len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor's size and stride do not fit")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.length:
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return _Reference(storage, offset, tuple(size), tuple(stride))


def _keep(value: Any, *_: Any) -> Any:
    return value


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Node
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _reference
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _keep
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and (
            name.startswith("build_") or name == "restore_type_tag"
        ):
            return _keep
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise pickle.UnpicklingError("it holds a reference of an unknown kind")
        _, dtype, key, _, length = pid[:5]
        if not isinstance(dtype, torch.dtype) or not str(key).isalnum() or type(length) is not int:
            raise pickle.UnpicklingError("a storage is badly described")
        return _Stored(str(key), dtype, length)


def _collect(value: Any, prefix: str, found: dict[str, _Reference], depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise pickle.UnpicklingError("its modules are nested too deep")
    if isinstance(value, _Reference):
        found[prefix] = value
    elif isinstance(value, _Node) and isinstance(value.state, dict):
        for name, item in value.state.items():
            _collect(item, f"{prefix}.{name}" if prefix else str(name), found, depth + 1)


class TorchScriptArchive:
    """The tensors of an open archive; use as a context manager.

    Raises `EncoderError` (without the file's name, which the caller adds) when
    the zip is damaged or its pickle asks for anything but tensors.
    """

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
            self._root, self._references = self._read_tree()
        except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, OSError) as fault:
            raise EncoderError(f"a damaged TorchScript archive: {fault}") from fault
        except (AttributeError, IndexError, TypeError, ValueError, RecursionError) as fault:
            raise EncoderError(f"a damaged TorchScript archive: {fault}") from fault

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the file is a zip with code beside its tensors."""
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return False
        return any(name.endswith("/constants.pkl") for name in names)

    def __enter__(self) -> TorchScriptArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _read_tree(self) -> tuple[str, dict[str, _Reference]]:
        trees = [n for n in self._zip.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(trees) != 1:
            raise EncoderError("a damaged TorchScript archive: it has no data.pkl")
        if self._zip.getinfo(trees[0]).file_size > _MAX_PICKLE:
            raise EncoderError("a damaged TorchScript archive: its data.pkl is too large")
        tree = _Unpickler(io.BytesIO(self._zip.read(trees[0]))).load()
        found: dict[str, _Reference] = {}
        _collect(tree, "", found)
        return trees[0].removesuffix("data.pkl"), found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes; nothing but the tree has been read."""
        return {name: r.size for name, r in self._references.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Names and tensors, on the CPU, in the dtype they are stored in."""
        storages: dict[str, Tensor] = {}
        found = {}
        for name, r in self._references.items():
            if r.storage.key not in storages:
                storages[r.storage.key] = self._read(r.storage)
            flat = storages[r.storage.key]
            if flat.dtype != r.storage.dtype or flat.numel() < r.storage.length:
                raise EncoderError(f"a damaged TorchScript archive: {name} has two storages")
            found[name] = flat.as_strided(r.size, r.stride, r.offset)
        return found

    def _read(self, storage: _Stored) -> Tensor:
        key = f"{self._root}data/{storage.key}"
        size = storage.length * storage.dtype.itemsize
        try:
            entry = self._zip.getinfo(key)
            if entry.compress_type != zipfile.ZIP_STORED:  # torch never does; a zip bomb would
                raise EncoderError(f"a damaged TorchScript archive: {key} is compressed")
            if entry.file_size != size:
                raise EncoderError(f"a damaged TorchScript archive: {key} has the wrong size")
            raw = bytearray(self._zip.read(key))
        except (zipfile.BadZipFile, KeyError, OSError, EOFError, ValueError) as fault:
            raise EncoderError(f"a damaged TorchScript archive: {key}: {fault}") from fault
        if not raw:
            return torch.empty(0, dtype=storage.dtype)
        return torch.frombuffer(raw, dtype=storage.dtype)
