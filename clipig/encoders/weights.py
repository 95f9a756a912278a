"""Where OpenAI's weights are kept, and their download."""

from __future__ import annotations

import http.client
import os
import urllib.request
from pathlib import Path

from clipig.encoders.names import OPENAI
from clipig.errors import EncoderError
from clipig.files import file_sha256, user_path
from clipig.web import AGENT, BytesDone, cache_dir, describe_fault, download, within

BASE_URL_VARIABLE = "CLIPIG_MODEL_URL"
PROBE_TIMEOUT = 3.0

_probes: dict[str, str | None] = {}


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
    entry = OPENAI[name]
    for folder in (cache_dir(cache) / "models", user_path("~/.cache/clip")):
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
        try:
            # The timeout of urllib does not cover looking up the name of the host.
            _probes[url] = within(timeout + 1, lambda: _probe(url, timeout))
        except TimeoutError:
            _probes[url] = f"no answer within {timeout:g} s"
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
    progress: BytesDone | None = None,
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
        return download(
            model_url(name), target, entry.sha256, progress=progress, backoff=backoff,
            limit=round(entry.megabytes * 1.1) << 20,
        )
    except EncoderError as fault:
        raise EncoderError(
            f"the weights of {name} cannot be downloaded: {fault}. "
            f"By hand: {model_url(name)} to {target}; without: --model embedded"
        ) from fault
