"""Fetches OpenAI's weights into the cache directory.

A download is written to `FILE.part`, resumed where the server allows it,
checked against size and sha256, and only then renamed to `FILE`: what carries
the final name is whole. A lock file keeps two processes from writing at once.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from clipig.encoders.filelock import FileLock
from clipig.encoders.names import OPENAI
from clipig.errors import EncoderError
from clipig.web import AGENT, CACHE_VARIABLE, cache_dir, describe_fault

Progress = Callable[[int, int | None], None]

BASE_URL_VARIABLE = "CLIPIG_MODEL_URL"
TIMEOUT = 30.0  # seconds without a byte
PROBE_TIMEOUT = 3.0
ATTEMPTS = 4
_CHUNK = 1 << 20

_probes: dict[str, str | None] = {}


class _Unfit(Exception):
    """What the server sent cannot be used; `again` says whether another try makes sense."""

    def __init__(self, message: str, again: bool = True):
        self.again = again
        super().__init__(message)


def model_url(name: str) -> str:
    """Where a model of OpenAI's is published, or below $CLIPIG_MODEL_URL/SHA256/FILE."""
    entry = OPENAI[name]
    base = os.environ.get(BASE_URL_VARIABLE)
    if base:
        return f"{base.rstrip('/')}/{entry.sha256}/{entry.file}"
    from clipig.encoders.clip_package import import_clip

    url: str = import_clip()._MODELS[name]
    return url


def find_weights(name: str, cache: Path | None = None) -> Path | None:
    """The file with the weights of a model of OpenAI's, if it is here and its checksum fits.

    Looks in our cache and where the `clip` package keeps its downloads.
    """
    from clipig.encoders.checkpoint import file_sha256

    entry = OPENAI[name]
    for folder in (cache_dir(cache) / "models", Path("~/.cache/clip").expanduser()):
        path = folder / entry.file
        try:
            if path.is_file() and file_sha256(path) == entry.sha256:
                return path
        except OSError:
            continue
    return None


def why_unreachable(name: str, timeout: float = PROBE_TIMEOUT) -> str | None:
    """None if the server answers for this model's file, else why not, in a few words.

    One byte is asked for. The answer is remembered for the process.
    """
    url = model_url(name)
    if url not in _probes:
        answer: list[str | None] = []
        # The timeout of urllib does not cover looking up the host's name, hence a thread.
        probe = threading.Thread(target=lambda: answer.append(_probe(url, timeout)), daemon=True)
        probe.start()
        probe.join(timeout + 1)
        _probes[url] = answer[0] if answer else f"no answer within {timeout:g} s"
    return _probes[url]


def _probe(url: str, timeout: float) -> str | None:
    request = urllib.request.Request(url, headers={**AGENT, "Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return None
    except (OSError, ValueError, http.client.HTTPException) as fault:
        return describe_fault(fault)


def fetch_weights(
    name: str,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    backoff: float = 1.0,
) -> Path:
    """The file with the weights of a model of OpenAI's, downloaded if it is not here yet.

    Raises `EncoderError` saying what went wrong and where to put the file by hand.
    """
    found = find_weights(name, cache)
    if found is not None:
        return found
    entry = OPENAI[name]
    target = cache_dir(cache) / "models" / entry.file
    try:
        return download(model_url(name), target, entry.sha256, progress=progress, backoff=backoff)
    except EncoderError as fault:
        raise EncoderError(
            f"the weights of {name} cannot be downloaded: {fault}. "
            f"By hand: {model_url(name)} to {target}; without: --model embedded"
        ) from fault


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    backoff: float = 1.0,
) -> Path:
    """Download `url` to `target` (returned) and check its sha256.

    A cut connection is resumed, at most `attempts` requests are made, with
    `backoff * 2**k` seconds between them; what has come so far stays in
    `target.part` for the next call. Raises `EncoderError`.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise EncoderError(f"{url}: only http and https addresses are fetched")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if _fits(target, sha256):
                return target  # another process was faster
            _attempt(url, part, sha256, progress, timeout, attempts, backoff)
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


def _fits(path: Path, sha256: str) -> bool:
    from clipig.encoders.checkpoint import file_sha256

    return path.is_file() and file_sha256(path) == sha256


def _attempt(
    url: str,
    part: Path,
    sha256: str,
    progress: Progress | None,
    timeout: float,
    attempts: int,
    backoff: float,
) -> None:
    """Requests until `part` is whole and its checksum fits."""
    resumed = part.exists() and part.stat().st_size > 0  # maybe from another file's time
    last = "no attempt was made"
    for attempt in range(attempts):
        if attempt:
            time.sleep(backoff * 2 ** (attempt - 1))
        try:
            _receive(url, part, progress, timeout)
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


def _receive(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """One request: append to `part` what it lacks. `_Unfit` for a fault of the network."""
    have = part.stat().st_size if part.exists() else 0
    headers = {**AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416:  # nothing beyond what we have: whole, or not this file
            total = _content_range(fault.headers.get("Content-Range"))[1]
            if total == have:
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
            have = 0  # the server sends the whole file
            if answer.status == 206 and start not in (None, 0):
                raise _Unfit("the server sends another part than asked for", again=False)
        total = None if coming is None else have + coming
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while chunk := _read(answer):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise _Unfit(f"the connection was cut at {have} of {total} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except http.client.IncompleteRead as fault:
        return fault.partial
    except (OSError, http.client.HTTPException) as fault:
        raise _Unfit(f"the connection was cut: {describe_fault(fault)}") from fault


def _content_range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and total of a Content-Range header, each None if not told."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", (text or "").strip())
    if not found:
        return None, None
    first, total = found.groups()
    return (
        int(first) if first else None,
        int(total) if total and total != "*" else None,
    )
