"""Opens files from outside safely, and writes files atomically and to free names."""

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
"""Maximum characters of a file name made from a text; its bytes are at most twice as many."""
MAX_TEXT = 16 << 20
"""Maximum bytes of a text file from outside."""
_TEMPORARY = ".clipig-"
_LITTER_AGE = 3600.0
"""Age in seconds from which a temporary file is regarded as left by a killed process."""
_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)


def reason(fault: BaseException) -> str:
    """Why an operation on a file failed, in lower case: `no space left on device`."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    return str(fault) or type(fault).__name__


def user_path(name: str | Path) -> Path:
    """The path that a user means by a name; `~nobody`, whose home is unknown, stays as it is.

    Ask `os.path` whether it exists: `Path.exists` and the like raise for a name that no file
    can have.
    """
    return Path(os.path.expanduser(name))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Others are refused: a pipe could block the caller forever, a device might never end.

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
    """Open an input file for reading, as `open_regular`, with errors for the user.

    Args:
        path: Config, image, list, checkpoint or cache entry; `~` stands for the home folder.
        limit: Maximum size in bytes; None: no limit.

    Raises:
        InputError: It does not exist, is no regular file, is too large or cannot be read.
    """
    place = user_path(path)
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
    """Read the bytes of an input file. Raises `InputError` as `open_input`."""
    with open_input(path, limit) as file:
        try:
            return file.read() if limit is None else file.read(limit)
        except OSError as fault:
            raise InputError(f"{path}: cannot be read: {reason(fault)}") from fault


def read_text(path: str | Path, limit: int = MAX_TEXT) -> str:
    """Read a UTF-8 input file, without its byte order mark. Raises `InputError`."""
    data = read_bytes(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise InputError(
            f"{path}:{line}: found the byte 0x{data[fault.start]:02x}, expected UTF-8"
        ) from None


def read_lines(path: str | Path) -> list[str]:
    """Read the non-blank lines of a text file, stripped. Raises `InputError`."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns; a changed stamp means a changed file."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, cached as long as its `stamp` stays the same.

    Raises:
        OSError: As `open_regular`.
    """
    return _sha256(path.absolute(), stamp(path))


@lru_cache(maxsize=64)
def _sha256(path: Path, when: tuple[int, int]) -> str:
    del when  # only part of the cache key
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def make_folder(folder: Path) -> Path:
    """Create a folder and its missing parents. Raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as fault:
        raise OutputError(f"{folder}: cannot be made: {reason(fault)}") from fault
    return folder


def atomic_write(
    path: Path, content: bytes | str | Callable[[BinaryIO], object], *, overwrite: bool = True
) -> Path:
    """Write a file atomically, in an existing folder.

    Args:
        path: The file.
        content: Bytes, text (encoded as UTF-8; unencodable characters are escaped), or a
            function that writes to an open file.
        overwrite: Replace an existing file; otherwise the first free name is used.

    Returns:
        The path of the written file.

    Raises:
        OutputError: The file cannot be written; no part of it remains.
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
    """Rename a temporary file to the first free name."""
    while True:
        free = free_path(path)
        try:
            os.link(temporary, free)
        except FileExistsError:
            continue
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.ENAMETOOLONG):
                raise
            free = reserve(path)  # the file system has no hard links
            os.replace(temporary, free)
        return free


def numbered(path: Path) -> Iterator[Path]:
    """`a.png`, `a-2.png`, `a-3.png` ..."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def free_path(path: str | Path) -> Path:
    """The first of `path`, `path-2` ... that does not exist.

    Another process may create it in the meantime; `reserve` excludes that.
    """
    return next(p for p in numbered(Path(path)) if not os.path.lexists(p))


def reserve(path: str | Path) -> Path:
    """Create an empty file at the first free path, which no other process can then get.

    Raises:
        OutputError: No file can be created there.
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
    """Create the first free or empty folder of `wanted`, `wanted-2` ... Raises `OutputError`."""
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
    """Hold a lock file inside a `with` block; it is released if the process dies.

    Args:
        path: The lock file, removed at the end where the system allows it.
        busy: Error message if another process holds the lock.
        wait: Maximum seconds to wait for the lock.

    Raises:
        OutputError: Another process holds the lock, or the file cannot be created.
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
    """Remove old temporary files that killed processes left in a folder."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_TEMPORARY}*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LITTER_AGE:
                    path.unlink()


def slug(text: str) -> str:
    """Make a file name from a text: letters and digits of any script, `-` and `_`."""
    name = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", text)).strip("-")
    name = name[:LONGEST_NAME]
    while len(name.encode("utf-8", errors="replace")) > 2 * LONGEST_NAME:
        name = name[:-1]
    return name.strip("-") or "picture"


def shell(*words: str) -> str:
    """Quote words as a command line for a shell."""
    return " ".join(shlex.quote(str(w)) for w in words)


def csv_cell(text: str) -> str:
    """Escape a text cell of a CSV file, so that no spreadsheet reads it as a formula.

    Cells that begin with `=`, `+`, `-`, `@`, tab or return are prefixed with an apostrophe.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
