"""Computes image features of many images, each once.

The cache has one small file per image and model, named by the hash of the image's bytes and
the checksum of the weights. A renamed image is therefore found, a changed one is not, and
models are never confused.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder, EncoderInfo
from clipig.errors import ClipigError, InputError, OutputError
from clipig.files import atomic_write, file_sha256, make_folder, read_bytes, user_path
from clipig.images import load_image
from clipig.web import cache_dir, cached_path, is_url

SUFFIXES = frozenset((
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".tga",
))
"""Suffixes of images in a folder; a file that is named itself may have any suffix."""
BATCH = 64
_VERSION = 1  # of the computation from file to feature; a new number invalidates the cache


@dataclass(frozen=True)
class Features:
    """Names of readable images, with features `[N, D]` (unit rows, float32, on the CPU)."""

    names: tuple[str, ...]
    rows: Tensor
    problems: tuple[tuple[str, str], ...]
    hits: int = 0
    """number of features from the cache"""


def expand(sources: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Expand sources to single images.

    Args:
        sources: Files, folders (searched recursively), globs and addresses.

    Returns:
        Paths and addresses in order, without duplicates, and pairs (source, reason) for
        sources without images.
    """
    found: dict[str, None] = {}
    problems = []
    for source in sources:
        if is_url(source):
            found[source] = None
            continue
        path = user_path(source)
        with contextlib.suppress(OSError, ValueError):
            if path.is_dir():
                below = sorted(p for p in path.rglob("*") if _is_picture(p))
                found.update((str(p), None) for p in below)
                if not below:
                    problems.append((source, "no pictures in this folder"))
                continue
            if not path.exists() and any(c in source for c in "*?["):
                matches = sorted(glob.glob(os.path.expanduser(source), recursive=True))
                found.update((m, None) for m in matches if os.path.isfile(m))
                if not matches:
                    problems.append((source, "nothing matches"))
                continue
        found[source] = None
    return list(found), problems


def _is_picture(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts if part not in (".", ".."))
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


@dataclass(frozen=True)
class FeatureCache:
    """Image features on disk. If `root` is None, nothing is stored."""

    root: Path | None = field(default_factory=lambda: cache_dir() / "features")

    def path(self, info: EncoderInfo, digest: str) -> Path | None:
        """Path of a feature, existing or not; None for models without a checksum."""
        if self.root is None or not info.checksum:
            return None
        model = hashlib.sha256(
            f"{_VERSION} {info.checksum} {info.size} {info.width}".encode()
        ).hexdigest()[:16]
        return self.root / model / digest[:2] / f"{digest}.f32"

    def get(self, info: EncoderInfo, digest: str) -> Tensor | None:
        """Read the feature `[D]` of an image; None if it is missing or damaged."""
        path = self.path(info, digest)
        if path is None:
            return None
        try:
            data = read_bytes(path, limit=4 * info.width)
        except InputError:
            return None
        if len(data) != 4 * info.width:
            return None
        row = np.frombuffer(data, "<f4").astype(np.float32)
        return torch.from_numpy(row) if np.isfinite(row).all() else None

    def put(self, info: EncoderInfo, digest: str, row: Tensor) -> None:
        """Store a feature `[D]`. An unwritable cache is ignored."""
        path = self.path(info, digest)
        if path is None:
            return
        with contextlib.suppress(OutputError):
            make_folder(path.parent)
            atomic_write(path, row.numpy().astype("<f4").tobytes())


@dataclass(frozen=True)
class _Opened:
    """An opened image: its hash, and its cached feature, its pixels or a problem."""

    name: str
    digest: str = ""
    row: Tensor | None = None
    pixels: Tensor | None = None
    problem: str = ""


def picture_features(
    encoder: Encoder,
    names: Sequence[str],
    cache: FeatureCache | None = None,
    tick: Callable[[int], None] | None = None,
    threads: int = 0,
) -> Features:
    """Compute the features of images, of the middle square scaled to the encoder's size.

    Several threads decode images while the encoder runs. Unreadable images are omitted
    and listed in `problems`.

    Args:
        encoder: The encoder.
        names: Paths and addresses.
        cache: Where features are stored; None: the user's cache folder.
        tick: Called with the number of further images done.
        threads: Number of decoding threads; 0: chosen by the number of cores.
    """
    cache = cache if cache is not None else FeatureCache()
    kept: list[str] = []
    rows: list[Tensor] = []
    problems: list[tuple[str, str]] = []
    hits = 0
    with ThreadPoolExecutor(threads or min(8, (os.cpu_count() or 1) + 1)) as pool:
        for part in _ahead(pool, encoder.info, names, cache):
            new = [o for o in part if o.pixels is not None]
            made = _encode(encoder, [o.pixels for o in new if o.pixels is not None])
            by_name = dict(zip([o.name for o in new], made, strict=True))
            for o, row in zip(new, made, strict=True):
                if o.digest:
                    cache.put(encoder.info, o.digest, row)
            for o in part:
                found = by_name.get(o.name) if o.row is None else o.row
                if found is None:
                    problems.append((o.name, o.problem))
                    continue
                hits += o.row is not None
                kept.append(o.name)
                rows.append(found)
            if tick is not None:
                tick(len(part))
    stacked = torch.stack(rows) if rows else torch.zeros(0, encoder.info.width)
    return Features(tuple(kept), stacked, tuple(problems), hits)


def _ahead(
    pool: ThreadPoolExecutor, info: EncoderInfo, names: Sequence[str], cache: FeatureCache
) -> Iterator[list[_Opened]]:
    """Yield batches of opened images; the next batch is decoded while one is used."""
    def begin(i: int) -> list[object]:
        return [pool.submit(_open, n, info, cache) for n in names[i : i + BATCH]]

    waiting = begin(0)
    for i in range(BATCH, len(names) + BATCH, BATCH):
        now, waiting = waiting, begin(i)
        yield [future.result() for future in now]  # type: ignore[attr-defined]


def _open(name: str, info: EncoderInfo, cache: FeatureCache) -> _Opened:
    try:
        digest = "" if is_url(name) else _digest(user_path(name))
        row = cache.get(info, digest) if digest else None
        if row is not None:
            return _Opened(name, digest, row)
        pixels = load_image(name, size=(info.size, info.size))
        if is_url(name) and cached_path(name).is_file():
            digest = _digest(cached_path(name))
        return _Opened(name, digest, None, pixels)
    except (ClipigError, OSError, ValueError) as fault:
        return _Opened(name, problem=str(fault).removeprefix(f"{name}: "))


def _digest(path: Path) -> str:
    """SHA-256 of an image file, "" if it is no file (`load_image` then reports the fault)."""
    return file_sha256(path) if path.is_file() else ""


def _encode(encoder: Encoder, pixels: Sequence[Tensor]) -> list[Tensor]:
    if not pixels:
        return []
    with torch.no_grad():
        rows = encoder.encode_image(torch.stack(list(pixels)).to(encoder.device))
    return list(rows.float().cpu())
