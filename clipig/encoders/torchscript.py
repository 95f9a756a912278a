"""Reads the tensors of a TorchScript archive without running any of its code.

An archive is a zip: `NAME/data.pkl` is a pickle of the module tree, whose
classes live in `NAME/code/` and whose tensors lie in `NAME/data/N`. Here the
pickle is read by an unpickler that knows a handful of harmless names; every
class of the archive becomes a bare `_Node` that only holds attributes, and
the code is never opened. So only the values of tensors are taken from the file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
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
_MAX_PICKLE = 8 << 20  # bytes; OpenAI's largest is below one million
_MAX_DEPTH = 64
_MAX_VISITS = 100_000  # of nodes of the module tree, a shared one counted each time
_MAX_ENTRIES = 100_000
_MAX_MEMO = 1 << 22


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
    if math.prod(size) > storage.length or (math.prod(size) and last >= storage.length):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return _Reference(storage, offset, tuple(size), tuple(stride))


def _keep(value: Any, *_: Any) -> Any:
    return value


class _Unpickler(pickle.Unpickler):
    """Knows a handful of names; `classes` are those of the archive that it came across."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self.classes: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            self.classes.add(name)
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


def _check_memo(data: bytes) -> None:
    """Refuse memo indices beyond any archive's: the unpickler would reserve room up to them."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument) < _MAX_MEMO:  # type: ignore[arg-type]
            raise pickle.UnpicklingError("a memo index is too large")


def _references(tree: Any) -> dict[str, _Reference]:
    """The tensors of a module tree by their dotted names."""
    found: dict[str, _Reference] = {}
    waiting: list[tuple[Any, str, int]] = [(tree, "", 0)]
    visits = 0
    while waiting:
        value, prefix, depth = waiting.pop()
        visits += 1
        if visits > _MAX_VISITS or depth > _MAX_DEPTH:
            raise pickle.UnpicklingError("its modules are too many or nested too deep")
        if isinstance(value, _Reference):
            found[prefix] = value
        elif isinstance(value, _Node) and isinstance(value.state, dict):
            waiting += [
                (item, f"{prefix}.{name}" if prefix else str(name), depth + 1)
                for name, item in value.state.items()
            ]
    return found


class TorchScriptArchive:
    """The tensors of an open archive; use as a context manager.

    Raises `EncoderError` (without the file's name, which the caller adds) when
    the zip is damaged or its pickle asks for anything but tensors.
    """

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
            if len(self._zip.namelist()) > _MAX_ENTRIES:
                raise EncoderError("a damaged TorchScript archive: it has too many entries")
            self._root, self._references, classes = self._read_tree()
        except EncoderError:
            raise
        except Exception as fault:  # zipfile, zlib and pickle raise whatever damage makes them
            text = str(fault).strip() or type(fault).__name__
            raise EncoderError(f"a damaged TorchScript archive: {text[:160]}") from fault
        known = sorted(classes & {"QuickGELU", "GELU"})
        self.activation: str | None = known[0] if len(known) == 1 else None

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the file is a zip with code beside its tensors."""
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception:  # whatever zipfile makes of damage: torch.load says it better
            return False
        return any(name.endswith("/constants.pkl") for name in names)

    def __enter__(self) -> TorchScriptArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _read_tree(self) -> tuple[str, dict[str, _Reference], set[str]]:
        trees = [n for n in self._zip.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(trees) != 1:
            raise EncoderError("a damaged TorchScript archive: it has no data.pkl")
        if self._zip.getinfo(trees[0]).file_size > _MAX_PICKLE:
            raise EncoderError("a damaged TorchScript archive: its data.pkl is too large")
        data = self._zip.read(trees[0])
        _check_memo(data)
        unpickler = _Unpickler(data)
        found = _references(unpickler.load())
        return trees[0].removesuffix("data.pkl"), found, unpickler.classes

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
        except EncoderError:
            raise
        except Exception as fault:  # as above
            raise EncoderError(f"a damaged TorchScript archive: {key}: {fault}") from fault
        if not raw:
            return torch.empty(0, dtype=storage.dtype)
        return torch.frombuffer(raw, dtype=storage.dtype)
