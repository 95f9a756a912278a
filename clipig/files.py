"""Files on disk: the one place that opens what comes from outside and that writes files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import secrets
import shlex
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from clipig.errors import InputError, OutputError

LONGEST_NAME = 80
"""Characters of a file name that is made of a text, and at most twice as many bytes."""
MAX_TEXT = 16 << 20
"""Bytes of a text file that is read from outside."""
_TEMPORARY = ".clipig-"
_LITTER_AGE = 3600.0
"""Seconds after which a temporary file is what a killed process left behind."""
_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)


def reason(fault: BaseException) -> str:
    """Why an operation on a file failed, in lower case: `no space left on device`."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    return str(fault) or type(fault).__name__


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, but nothing that only looks like one.

    A pipe would make the caller wait for ever, a device might never end.

    Raises:
        OSError: It cannot be opened, or it is a folder, pipe, socket or device.
    """
    found = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(None, f"found {kind}, expected a file", str(path))
    return os.fdopen(found, "rb")


def open_input(path: str | Path, limit: int | None = None) -> BinaryIO:
    """Open a user's file for reading as `open_regular` does, and say what is wrong with it.

    Args:
        path: Config, image, list, checkpoint, cache entry; `~` stands for the home folder.
        limit: Most bytes that it may have, None for any number.

    Raises:
        InputError: It does not exist, is no regular file, is too large or cannot be read.
    """
    place = Path(path).expanduser()
    try:
        file = open_regular(place)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as fault:
        if isinstance(fault, OSError) and fault.errno is None:
            raise InputError(f"{path}: {fault.strerror}") from None
        raise InputError(f"{path}: cannot be read: {reason(fault)}") from fault
    size = os.fstat(file.fileno()).st_size
    if limit is not None and size > limit:
        file.close()
        raise InputError(f"{path}: found {size:,} bytes, at most {limit:,} are read")
    return file


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The bytes of a file from outside. Raises `InputError` as `open_input`."""
    with open_input(path, limit) as file:
        try:
            return file.read() if limit is None else file.read(limit)
        except OSError as fault:
            raise InputError(f"{path}: cannot be read: {reason(fault)}") from fault


def read_text(path: str | Path, limit: int = MAX_TEXT) -> str:
    """The text of a UTF-8 file from outside, without a byte order mark. Raises `InputError`."""
    data = read_bytes(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise InputError(
            f"{path}:{line}: found the byte 0x{data[fault.start]:02x}, expected UTF-8"
        ) from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises `InputError`."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns: a file with another stamp is another."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, computed once while its `stamp` stays the same.

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


def make_folder(folder: Path) -> Path:
    """Make a folder with its parents where it is missing. Raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as fault:
        raise OutputError(f"{folder}: cannot be made: {reason(fault)}") from fault
    return folder


def atomic_write(
    path: Path, content: bytes | str | Callable[[BinaryIO], object], *, overwrite: bool = True
) -> Path:
    """Write a file whole or not at all, in a folder that exists.

    Args:
        path: The file's name.
        content: Its bytes, its text (written as UTF-8, what UTF-8 cannot hold is escaped),
            or a function that writes to an open file.
        overwrite: Replace an older file, or take the first free name.

    Returns:
        The name that was taken.

    Raises:
        OutputError: It cannot be written; nothing is left behind.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", errors="backslashreplace")
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        if not overwrite:
            return _link_free(temporary, path)
        os.replace(temporary, path)
        return path
    except (OSError, ValueError) as fault:
        raise OutputError(f"{path}: cannot be written: {reason(fault)}") from fault
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()


def _link_free(temporary: Path, path: Path) -> Path:
    """Give a written file the first free name."""
    while True:
        free = free_path(path)
        try:
            os.link(temporary, free)
        except FileExistsError:
            continue
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.ENAMETOOLONG):
                raise
            free = reserve(path)  # a file system without hard links
            os.replace(temporary, free)
        return free


def numbered(path: Path) -> Iterator[Path]:
    """`a.png`, `a-2.png`, `a-3.png` ..."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def free_path(path: str | Path) -> Path:
    """The first of `path`, `path-2` ... that does not exist.

    Another process may take it in the meantime; `reserve` is safe from that.
    """
    return next(p for p in numbered(Path(path)) if not os.path.lexists(p))


def reserve(path: str | Path) -> Path:
    """As `free_path`, and creates it as an empty file, which nobody else gets.

    Raises:
        OutputError: No file can be made there.
    """
    for free in numbered(Path(path)):
        try:
            os.close(os.open(free, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except (OSError, ValueError) as fault:
            raise OutputError(f"{free}: cannot be written: {reason(fault)}") from fault
        return free
    raise AssertionError("names never end")


def claim_folder(wanted: Path) -> Path:
    """Make `wanted`, or the first free one of `wanted-2`, `wanted-3` ... Raises `OutputError`."""
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            if path.is_dir() and not any(path.iterdir()):
                return path
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except (OSError, ValueError) as fault:
            raise OutputError(f"{path}: cannot be made: {reason(fault)}") from fault
        return path


@contextlib.contextmanager
def locked(path: Path, busy: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` while inside; a process that dies lets go of it.

    Args:
        path: The lock file, which stays behind empty and is removed at the end where the
            system allows.
        busy: What is said if somebody else holds it.
        wait: Seconds to wait for it.

    Raises:
        OutputError: Somebody else holds it, or it cannot be made.
    """
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(busy) from None
    except (OSError, ValueError, NotImplementedError) as fault:
        raise OutputError(f"{path}: cannot be locked: {reason(fault)}") from fault
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def remove_litter(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_TEMPORARY}*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LITTER_AGE:
                    path.unlink()


def slug(text: str) -> str:
    """A file name made of a text: letters and digits of any script, `-` and `_`."""
    name = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", text)).strip("-")
    name = name[:LONGEST_NAME]
    while len(name.encode("utf-8", errors="replace")) > 2 * LONGEST_NAME:
        name = name[:-1]
    return name.strip("-") or "picture"


def shell(*words: str) -> str:
    """A command line that can be copied."""
    return " ".join(shlex.quote(str(w)) for w in words)


def csv_cell(text: str) -> str:
    """A text cell of a CSV file that no spreadsheet takes for a formula.

    Cells that begin with `=`, `+`, `-`, `@`, tab or return get an apostrophe in front.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
