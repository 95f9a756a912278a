"""Files on disk: names, and the only place that creates, locks or replaces a file."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

LONGEST_NAME = 80


def slug(text: str) -> str:
    """A file name made of a text: letters, digits, `-` and `_`, at most 80."""
    return re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-")[:LONGEST_NAME] or "picture"


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, but nothing that only looks like one.

    A FIFO would make the caller wait for ever, a device might never end.

    Args:
        path: An existing file, or a link to one.

    Returns:
        The open file.

    Raises:
        OSError: It cannot be opened, or it is a folder, FIFO, socket or device.
    """
    found = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(None, "not a regular file", str(path))
    return os.fdopen(found, "rb")


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns: a file with another stamp is another."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, computed once while its `stamp` stays the same.

    Args:
        path: A regular file.

    Returns:
        64 hex digits.

    Raises:
        OSError: As `open_regular`.
    """
    return _sha256(path.absolute(), stamp(path))


@lru_cache(maxsize=64)
def _sha256(path: Path, when: tuple[int, int]) -> str:
    del when  # part of the key only
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
