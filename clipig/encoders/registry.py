"""Loads a model's weights: name or `EncoderInfo` in, `Encoder` out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipig.encoders.names import AUTO, EMBEDDED, OPEN_CLIP, OPENAI, resolve
from clipig.errors import EncoderError

if TYPE_CHECKING:
    import torch

    from clipig.encoders.protocol import Encoder, EncoderInfo

Progress = Callable[[int, int | None], None]


def load(
    info: EncoderInfo | str,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
) -> Encoder:
    """Load a model's weights, downloading them where they are OpenAI's and not here yet.

    `precision`: `fp32`, `bf16` or `fp16`, or `auto` (see `pick_precision`); the
    arithmetic of the image tower only. `progress(bytes, total)` is called while
    downloading, `total` is None where the server does not tell. `cache` as in
    `resolve`. Nothing is kept: callers that load a model twice get two.

    Raises `EncoderError` for a model that is unknown, missing or damaged.
    """
    from clipig.encoders.precision import pick_precision, to_dtype

    if isinstance(info, str):
        info = resolve(info, cache=cache)
    if info.name == AUTO:
        raise EncoderError("auto must be resolved before it is loaded")
    own = info.name in EMBEDDED or _is_own_file(info.name)
    if precision == "auto":
        precision = pick_precision(device)
        if precision == "fp16" and own:
            precision = "fp32"  # too small to need it, and never tried in fp16
    to_dtype(precision)  # raises for an unknown one
    if own:
        from clipig.encoders.embedded import load_embedded, load_file

        if info.name in EMBEDDED:
            return load_embedded(info.name, device, precision)
        return load_file(info, device, precision)
    if info.name.startswith(OPEN_CLIP):
        from clipig.encoders.openclip import OpenClipEncoder

        return OpenClipEncoder(info, device, precision, cache=cache)
    return _load_openai(info, device, precision, progress, cache)


def _is_own_file(name: str) -> bool:
    """Whether it is a weights file of the embedded kind."""
    if name in OPENAI or name.startswith(OPEN_CLIP):
        return False
    from clipig.encoders.embedded import file_info

    return file_info(name) is not None


def _load_openai(
    info: EncoderInfo,
    device: str | torch.device,
    precision: str,
    progress: Progress | None,
    cache: Path | None,
) -> Encoder:
    from clipig.encoders.checkpoint import file_sha256, read_state
    from clipig.encoders.openai import OpenAIEncoder
    from clipig.encoders.weights import fetch_weights

    if info.name in OPENAI:
        path = fetch_weights(info.name, cache=cache, progress=progress)
    else:
        path = Path(info.name).expanduser()
    state = read_state(path)
    checksum = f"sha256:{file_sha256(path)}"
    if info.checksum and checksum != info.checksum:
        raise EncoderError(f"{path}: the file has changed since it was looked at ({checksum})")
    try:
        return OpenAIEncoder(state, info, device, precision)
    except EncoderError as fault:
        raise EncoderError(f"{path}: {fault}") from fault
