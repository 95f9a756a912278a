"""The Hugging Face hub: its cache on this disk, which needs no package, and downloads.

The layout of the cache is documented for other programs to read:
`models--ORG--NAME/{refs/main, snapshots/COMMIT/FILE -> blobs/HASH}`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipig.encoders.huggingface import is_complete
from clipig.encoders.names import HUB
from clipig.errors import EncoderError
from clipig.files import file_sha256, user_path
from clipig.web import OFFLINE, BytesDone, is_offline, is_set

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w.-]{1,100}(/[\w.-]{1,100})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = "models--"
_INSTALL = "pip install clipig[hf]"
_CONFIGS = ("*.json", "merges.txt", "spiece.model", "tokenizer.model")
_KINDS = (  # of weights, best first; the first that a repository has is downloaded
    ("model.safetensors",), ("model.safetensors.index.json", "model-*.safetensors"),
    ("open_clip_model.safetensors",), ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*.bin"), ("open_clip_pytorch_model.bin",),
)


@dataclass(frozen=True)
class Snapshot:
    """A repository as it is on this disk.

    Attributes:
        repository: `org/name`.
        revision: The commit.
        folder: Its files.
    """

    repository: str
    revision: str
    folder: Path


def hub_cache() -> Path:
    """Where the hub's files are kept: $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if value := os.environ.get(variable):
            return user_path(value) / below
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base) / "huggingface" / "hub"


def hub_is_offline() -> bool:
    """Whether nothing of the hub may be downloaded: `--offline` or $HF_HUB_OFFLINE."""
    return is_offline() or is_set("HF_HUB_OFFLINE")


def split_revision(name: str) -> tuple[str, str]:
    """Split `hf-hub:org/name@revision` into repository and revision.

    Args:
        name: With or without the prefix; without a revision, `main` is meant.

    Returns:
        `org/name` and the branch, tag or commit.

    Raises:
        EncoderError: It is no name of a repository.
    """
    repository, _, revision = name.removeprefix(HUB).partition("@")
    revision = revision or "main"
    if not REPOSITORY.fullmatch(repository) or ".." in name or not _REVISION.fullmatch(revision):
        raise EncoderError(f"{name}: expected {HUB}ORG/NAME or {HUB}ORG/NAME@REVISION")
    return repository, revision


def find_snapshot(name: str) -> Snapshot | None:
    """Find a repository in the cache of the hub.

    Args:
        name: `org/name`, with or without `hf-hub:` before and `@revision` after it.

    Returns:
        Its files, or None if it is not there.

    Raises:
        EncoderError: The name is none of a repository.
    """
    repository, revision = split_revision(name)
    folder = hub_cache() / f"{_FOLDER}{repository.replace('/', '--')}"
    return _snapshot(folder, repository, revision)


def all_snapshots() -> Iterator[Snapshot]:
    """The repositories in the cache of the hub, each at its main revision, by name."""
    try:
        folders = sorted(p for p in hub_cache().iterdir() if p.name.startswith(_FOLDER))
    except OSError:
        return
    for folder in folders:
        repository = folder.name.removeprefix(_FOLDER).replace("--", "/", 1)
        if REPOSITORY.fullmatch(repository) and (found := _snapshot(folder, repository, "main")):
            yield found


def _snapshot(folder: Path, repository: str, revision: str) -> Snapshot | None:
    """A revision, and for `main` without a reference the newest that is there."""
    try:
        reference = folder / "refs" / revision
        if reference.is_file() and reference.stat().st_size < 200:
            commit = reference.read_text("utf-8").strip()
            if Path(commit).name == commit and (folder / "snapshots" / commit).is_dir():
                return Snapshot(repository, commit, folder / "snapshots" / commit)
        if "/" not in revision and (folder / "snapshots" / revision).is_dir():
            return Snapshot(repository, revision, folder / "snapshots" / revision)
        there = [p for p in (folder / "snapshots").iterdir() if p.is_dir()]
    except (OSError, ValueError):
        return None
    if revision != "main" or not there:
        return None
    newest = max(there, key=lambda p: p.stat().st_mtime)
    return Snapshot(repository, newest.name, newest)


def check_blob(path: Path) -> None:
    """Compare a file of the cache with the checksum that its blob is named after, if it is.

    Raises:
        EncoderError: They differ: the file is damaged.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        found = file_sha256(blob)
        if found != blob.name:
            raise EncoderError(f"{path}: damaged: its sha256 is {found}, expected {blob.name}")


def fetch_snapshot(name: str, progress: BytesDone | None = None) -> Snapshot:
    """Return a repository from the cache, or download what is needed of it.

    Downloads are resumed and pinned: the commit is asked for first, then its files. One that was
    interrupted is completed.

    Args:
        name: As in `find_snapshot`.
        progress: Told the bytes of the files together.

    Returns:
        Its files.

    Raises:
        EncoderError: It is not here and cannot be had; the message says why.
    """
    found = find_snapshot(name)
    if found is not None and (is_complete(found.folder) or hub_is_offline()):
        return found
    repository, revision = split_revision(name)
    if hub_is_offline():
        raise EncoderError(f"{name}: not in {hub_cache()}, and {OFFLINE}")
    try:
        package = importlib.import_module("huggingface_hub")
    except ImportError as fault:
        raise EncoderError(
            f"{name}: not in {hub_cache()}, and huggingface_hub is not installed: {_INSTALL}"
        ) from fault
    try:
        folder = _download(package, repository, revision, progress)
    except EncoderError:
        raise
    except Exception as fault:  # whatever the package and its HTTP client raise
        line = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise EncoderError(f"{name}: cannot be downloaded: {line[:200]}") from fault
    return Snapshot(repository, folder.name, folder)


def _download(
    package: Any, repository: str, revision: str, progress: BytesDone | None
) -> Path:
    about = package.HfApi().model_info(repository, revision=revision, files_metadata=True,
                                       timeout=20)
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
    wanted = _wanted(sizes)
    if not wanted:
        raise EncoderError(f"{HUB}{repository}: it has no weights that are known: "
                           f"{', '.join(kind[0] for kind in _KINDS)}")
    total, done = sum(sizes[name] for name in wanted), 0
    folder = None
    for name in sorted(wanted, key=lambda n: sizes[n]):
        path = Path(package.hf_hub_download(
            repository, name, revision=about.sha, cache_dir=str(hub_cache()),
            tqdm_class=_counter(done, total, progress),
        ))
        try:
            check_blob(path)
        except EncoderError:
            for file in {path.resolve(), path}:  # so that the next attempt begins anew
                file.unlink(missing_ok=True)
            raise
        done += sizes[name]
        folder = path.parent if "/" not in name else folder
    assert folder is not None
    reference = folder.parent.parent / "refs" / revision
    if revision != about.sha and not reference.exists():  # so that it is found offline
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(about.sha, "utf-8")
    return folder


def _wanted(sizes: dict[str, int]) -> set[str]:
    """The configs of a repository and its best weights."""
    from fnmatch import fnmatch

    top = [name for name in sizes if "/" not in name]
    for kind in _KINDS:
        if kind[0] in top:
            weights = {n for n in top if any(fnmatch(n, pattern) for pattern in kind)}
            return weights | {
                n for n in top if any(fnmatch(n, p) for p in _CONFIGS) and "index.json" not in n
            }
    return set()


def _counter(before: int, total: int, progress: BytesDone | None) -> Any:
    """A class with the face of tqdm that reports bytes and shows nothing."""
    from tqdm import tqdm

    class Counter(tqdm):  # type: ignore[misc,type-arg]
        def __init__(self, *args: Any, **options: Any):
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            self.here = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.here += int(n or 0)
            if progress is not None:
                progress(before + self.here, total)
            return None

    return Counter
