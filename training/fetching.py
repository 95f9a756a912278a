"""Fetches published packages of drawings through their registries' own clients."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fetch_npm(package: str, version: str, data: Path) -> Path:
    """The unpacked folder of an npm package, fetched once with `npm pack`."""
    folder = data / f"{package.split('/')[-1]}-{version}"
    if not folder.exists():
        with _scratch(data, "npm") as scratch:
            name = _run(["npm", "pack", "--silent", f"{package}@{version}"], scratch).split()[-1]
            with tarfile.open(scratch / name) as tar:
                tar.extractall(scratch, filter="data")
            (scratch / "package").rename(folder)
    return folder


def fetch_debian(package: str, version: str, data: Path) -> Path:
    """The unpacked files of a Debian package, fetched once with `apt-get download`."""
    folder = data / f"{package}-{version.split(':')[-1]}"
    if not folder.exists():
        with _scratch(data, "apt-get") as scratch:
            _run(["apt-get", "download", f"{package}={version}"], scratch)
            (archive,) = scratch.glob("*.deb")
            _run(["dpkg-deb", "-x", archive.name, "files"], scratch)
            (scratch / "files").rename(folder)
    return folder


@contextmanager
def _scratch(data: Path, program: str) -> Iterator[Path]:
    if shutil.which(program) is None:
        raise SystemExit(f"{program} is needed to fetch the drawings, and is not installed")
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data) as name:
        yield Path(name)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
