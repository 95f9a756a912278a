"""Things from the web, small enough for memory: where they are kept, how they are asked for."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from clipig.errors import ImageError

CACHE_VARIABLE = "CLIPIG_CACHE"
AGENT = {"User-Agent": "clipig"}
TIMEOUT = 20.0  # seconds without a byte
_DEADLINE = 120.0  # seconds for the whole
MAX_BYTES = 64 << 20
_CHUNK = 1 << 16


def cache_dir(cache: Path | None = None) -> Path:
    """Where downloads are kept: the argument, else $CLIPIG_CACHE, else the user's cache."""
    if cache is not None:
        return cache
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipig"))


def describe_fault(fault: BaseException) -> str:
    """A network fault in a few words."""
    if isinstance(fault, urllib.error.HTTPError):
        return f"the server says {fault.code} {fault.reason}"
    if isinstance(fault, urllib.error.URLError):
        inner = fault.reason
        return describe_fault(inner) if isinstance(inner, OSError) else str(inner)
    if isinstance(fault, TimeoutError):
        return "timed out"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    return str(fault) or type(fault).__name__


def is_url(name: str) -> bool:
    """Whether a name is an address (of any scheme) and not a file."""
    return "://" in name


def to_ascii_url(url: str) -> str:
    """The address as it goes over the wire: host in punycode, the rest percent-encoded.

    Raises `ImageError` for anything but http and https.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = f":{parts.port}" if parts.port else ""
    except ValueError as fault:  # UnicodeError is one
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
    """Where the picture of an address is kept."""
    return cache_dir(cache) / "images" / hashlib.sha256(url.encode()).hexdigest()


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):  # type: ignore[no-untyped-def]
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError("the server points to something that is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_picture(url: str, *, timeout: float = TIMEOUT, limit: int = MAX_BYTES) -> bytes:
    """The bytes behind an address, at most `limit`; `ImageError` naming the address.

    A server that says that it sends something else than a picture is believed.
    """
    request = urllib.request.Request(to_ascii_url(url), headers={**AGENT, "Accept": "image/*"})
    end = time.monotonic() + _DEADLINE
    try:
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
            while chunk := answer.read(_CHUNK):
                data += chunk
                if len(data) > limit:
                    raise ImageError(_too_large(url, limit))
                if time.monotonic() > end:
                    raise ImageError(f"{url}: not complete after {_DEADLINE:g} s")
    except (OSError, http.client.HTTPException, ValueError) as fault:
        raise ImageError(f"{url}: cannot be fetched: {describe_fault(fault)}") from fault
    if whole is not None and len(data) < whole:
        raise ImageError(f"{url}: the connection was cut at {len(data)} of {whole} bytes")
    return bytes(data)


_UNTOLD = ("application/octet-stream", "binary/octet-stream")


def _too_large(url: str, limit: int) -> str:
    return f"{url}: larger than {limit >> 20} MB, the limit for pictures"
