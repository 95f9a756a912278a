"""Downloads images and weights, with limits in bytes and time, and a cache.

A download of weights is written to `FILE.part`, resumed where the server allows it, checked
against its sha256, and then renamed to `FILE`, so a file under its final name is
complete. A lock file keeps two processes from writing the same file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from clipig.errors import EncoderError, ImageError
from clipig.files import file_sha256, user_path

T = TypeVar("T")
BytesDone = Callable[[int, int | None], None]
"""Called with the bytes received and the total; None if the server does not report it."""

CACHE_VARIABLE = "CLIPIG_CACHE"
OFFLINE_VARIABLE = "CLIPIG_OFFLINE"  # set by --offline
OFFLINE = "downloads are switched off (offline)"
AGENT = {"User-Agent": "clipig"}
TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 60.0  # seconds for an entire image, or for the headers of an answer
ATTEMPTS = 4  # maximum requests for one file
MIN_RATE = 16 << 10  # bytes per second, on average after `DEADLINE`
MAX_BYTES = 64 << 20  # maximum size of an image
MAX_WEIGHTS = 16 << 30  # maximum size of a weights file
_CHUNK = 1 << 16


def cache_dir(cache: Path | None = None) -> Path:
    """Cache folder: the argument, else $CLIPIG_CACHE, else the user's cache folder."""
    if cache is not None:
        return cache
    if os.environ.get(CACHE_VARIABLE):
        return user_path(os.environ[CACHE_VARIABLE])
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipig"))


def is_offline() -> bool:
    """Whether $CLIPIG_OFFLINE forbids downloads."""
    return is_set(OFFLINE_VARIABLE)


def is_set(variable: str) -> bool:
    """Whether an environment variable is set to anything but 0, no, off or false."""
    return os.environ.get(variable, "").lower() not in ("", "0", "no", "off", "false")


def describe_fault(fault: BaseException) -> str:
    """Describe a network fault in a few words."""
    if isinstance(fault, urllib.error.HTTPError):
        return f"the server says {fault.code} {fault.reason}"
    if isinstance(fault, urllib.error.URLError):
        inner = fault.reason
        return describe_fault(inner) if isinstance(inner, OSError) else str(inner)
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    return str(fault) or type(fault).__name__


def is_url(name: str) -> bool:
    """Whether a name is a URL (of any scheme) and not a path."""
    return "://" in name


def to_ascii_url(url: str) -> str:
    """Encode a URL for a request: host in punycode, the rest percent-encoded.

    Raises:
        ImageError: The URL is invalid, or its scheme is not http or https.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = f":{parts.port}" if parts.port else ""
    except ValueError as fault:  # includes UnicodeError
        raise ImageError(f"{url}: no valid address: {fault}") from fault
    if parts.scheme.lower() not in ("http", "https"):
        raise ImageError(f"{url}: only http and https addresses are fetched")
    if not host:
        raise ImageError(f"{url}: the address names no host")
    if ":" in host:
        host = f"[{host}]"
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urllib.parse.urlunsplit(
        (
            parts.scheme.lower(),
            urllib.parse.quote(user, safe=":@%") + host + port,
            urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~"),
            urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?"),
            "",
        )
    )


def cached_path(url: str, cache: Path | None = None) -> Path:
    """Path in the cache of the image behind a URL."""
    return cache_dir(cache) / "images" / hashlib.sha256(url.encode()).hexdigest()


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):  # type: ignore[no-untyped-def]
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError("the server points to something that is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def within(seconds: float, work: Callable[[], T]) -> T:
    """Run a function in a thread and wait for it at most `seconds`.

    Socket time-outs are not enough: they restart at every byte and ignore name lookups.

    Args:
        seconds: Maximum time to wait.
        work: The function; after a time-out its thread is left to end by itself.

    Returns:
        The result of `work`.

    Raises:
        TimeoutError: `work` took longer. Exceptions of `work` are passed on.
    """
    results: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as fault:  # raised again by the caller
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not results:
        raise TimeoutError(f"not complete after {seconds:g} s")
    return results[0]


def fetch_picture(
    url: str, *, timeout: float = TIMEOUT, limit: int = MAX_BYTES, deadline: float = DEADLINE
) -> bytes:
    """Fetch the image behind a URL, unless the server declares another content type.

    Args:
        url: An http or https URL.
        timeout: Maximum seconds without a byte.
        limit: Maximum size in bytes.
        deadline: Maximum seconds in total, including the lookup of the host name.

    Returns:
        The encoded image.

    Raises:
        ImageError: It cannot be fetched, is no image or too large; the message names the URL.
    """
    request = urllib.request.Request(to_ascii_url(url), headers={**AGENT, "Accept": "image/*"})
    if is_offline():
        raise ImageError(f"{url}: {OFFLINE}")
    try:
        return within(deadline, lambda: _receive_image(url, request, timeout, limit, deadline))
    except (OSError, http.client.HTTPException, ValueError) as fault:
        raise ImageError(f"{url}: cannot be fetched: {describe_fault(fault)}") from fault


def _receive_image(
    url: str, request: urllib.request.Request, timeout: float, limit: int, deadline: float
) -> bytes:
    end = time.monotonic() + deadline  # also ends a thread whose caller has timed out
    with urllib.request.build_opener(_WebOnly).open(request, timeout=timeout) as answer:
        kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else ""
        if answer.status != 200:
            raise ImageError(f"{url}: the server says {answer.status} {answer.reason}")
        if kind and not kind.startswith("image/") and kind not in _UNTOLD:
            raise ImageError(f"{url}: the server sent {kind}, no picture")
        length = answer.headers.get("Content-Length", "")
        whole = int(length) if length.isdigit() else None
        if whole is not None and whole > limit:
            raise ImageError(_too_large(url, limit))
        data = bytearray()
        while chunk := answer.read1(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise ImageError(_too_large(url, limit))
            if time.monotonic() > end:
                raise ImageError(f"{url}: not complete after {deadline:g} s")
    if whole is not None and len(data) < whole:
        raise ImageError(f"{url}: the connection was cut at {len(data)} of {whole} bytes")
    return bytes(data)


_UNTOLD = ("application/octet-stream", "binary/octet-stream")


def _too_large(url: str, limit: int) -> str:
    return f"{url}: larger than {limit >> 20} MB, the limit for pictures"


class _Unfit(Exception):
    """An unusable answer. `again`: whether another request may help."""

    def __init__(self, message: str, again: bool = True):
        super().__init__(message)
        self.again = again


def download(
    url: str, target: Path, sha256: str, *, progress: BytesDone | None = None,
    timeout: float = TIMEOUT, attempts: int = ATTEMPTS, backoff: float = 1.0,
    limit: int = MAX_WEIGHTS,
) -> Path:
    """Download a file and check its sha256.

    A cut connection is resumed; received bytes stay in `target.part` for the next call.

    Args:
        url: An http or https URL.
        target: Path of the file; its folder is created.
        sha256: Expected checksum in hex.
        progress: Called after every chunk.
        timeout: Maximum seconds without a byte.
        attempts: Maximum number of requests, `backoff * 2**k` seconds apart.
        backoff: Seconds before the second request.
        limit: Maximum size in bytes.

    Returns:
        `target`.

    Raises:
        EncoderError: The file cannot be downloaded or written, or its checksum is wrong.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise EncoderError(f"{url}: only http and https addresses are fetched")
    if is_offline():
        raise EncoderError(f"{url}: {OFFLINE}")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target.with_name(target.name + ".lock")):
            if _fits(target, sha256):
                return target  # downloaded before, or meanwhile by another process
            _attempt(url, part, sha256, progress, timeout, attempts, backoff, limit)
            os.replace(part, target)
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            free = shutil.disk_usage(target.parent).free >> 20
            raise EncoderError(
                f"the disk is full ({free} MB left in {target.parent}); "
                f"make room or set {CACHE_VARIABLE} to another folder"
            ) from fault
        raise EncoderError(
            f"{fault.filename or target} cannot be written: {fault.strerror or fault}; "
            f"{CACHE_VARIABLE} names another folder"
        ) from fault
    return target


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for it; on file systems without locks, do nothing."""
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _fits(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _attempt(
    url: str, part: Path, sha256: str, progress: BytesDone | None, timeout: float, attempts: int,
    backoff: float, limit: int,
) -> None:
    """Send requests until `part` is complete and its checksum is right."""
    resumed = part.exists() and part.stat().st_size > 0  # perhaps of another version of the file
    last = "no attempt was made"
    for attempt in range(attempts):
        if attempt:
            time.sleep(backoff * 2 ** (attempt - 1))
        try:
            _receive(url, part, progress, timeout, limit)
        except _Unfit as fault:
            last = str(fault)
            if not fault.again:
                raise EncoderError(f"{url}: {last}") from fault
            continue
        if _fits(part, sha256):
            return
        part.unlink()
        if not resumed:
            raise EncoderError(f"{url}: the checksum of what came is wrong; it was removed")
        resumed, last = False, "the checksum of what came is wrong"
    raise EncoderError(f"{url}: {last} (after {attempts} attempts)")


def _receive(
    url: str, part: Path, progress: BytesDone | None, timeout: float, limit: int
) -> None:
    """Send one request and append the missing bytes to `part`. Raises `_Unfit`."""
    have = part.stat().st_size if part.exists() else 0
    try:
        answer = within(DEADLINE, lambda: _ask(url, have, timeout))
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416:  # the server has no more bytes: complete, or another file
            if _content_range(fault.headers.get("Content-Range"))[1] == have:
                return
            part.unlink()
            raise _Unfit("the server refused to resume") from fault
        again = fault.code in (408, 425, 429) or fault.code >= 500
        raise _Unfit(describe_fault(fault), again) from fault
    except (OSError, http.client.HTTPException) as fault:
        raise _Unfit(describe_fault(fault)) from fault
    except ValueError as fault:
        raise _Unfit(f"no valid address: {fault}", again=False) from fault
    with answer:
        length = answer.headers.get("Content-Length")
        coming = int(length) if length and length.isdigit() else None
        start = _content_range(answer.headers.get("Content-Range"))[0]
        if not (answer.status == 206 and start == have):
            have = 0  # the server sends the entire file
            if answer.status == 206 and start not in (None, 0):
                raise _Unfit("the server sends another part than asked for", again=False)
        total = None if coming is None else have + coming
        if total is not None and total > limit:
            raise _Unfit(_too_long(total, limit), again=False)
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            have = _append(answer, file, have, total, limit, progress)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise _Unfit(f"the connection was cut at {have} of {total} bytes")


def _ask(url: str, have: int, timeout: float) -> Any:
    headers = {**AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.build_opener(_WebOnly).open(request, timeout=timeout)


def _append(
    answer: http.client.HTTPResponse, file: BinaryIO, have: int, total: int | None, limit: int,
    progress: BytesDone | None,
) -> int:
    """Write an answer; returns the new size of the file. Raises `_Unfit` if slow or too long."""
    begun, first = time.monotonic(), have
    while chunk := _read(answer):
        if have + len(chunk) > limit:
            raise _Unfit(_too_long(have + len(chunk), limit), again=False)
        file.write(chunk)
        have += len(chunk)
        if progress is not None:
            progress(have, total)
        seconds = time.monotonic() - begun
        if seconds > DEADLINE and have - first < MIN_RATE * seconds:
            raise _Unfit(f"slower than {MIN_RATE >> 10} KB/s")
    return have


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(_CHUNK)
    except http.client.IncompleteRead as fault:
        return fault.partial
    except (OSError, http.client.HTTPException) as fault:
        raise _Unfit(f"the connection was cut: {describe_fault(fault)}") from fault


def _too_long(size: int, limit: int) -> str:
    return f"{size >> 20} MB or more are sent, expected at most {limit >> 20} MB"


def _content_range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and total of a Content-Range header; None if missing or unknown."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", (text or "").strip())
    if not found:
        return None, None
    first, total = found.groups()
    return (
        int(first) if first else None,
        int(total) if total and total != "*" else None,
    )
