"""From a model's name to `EncoderInfo` (no weights) and to an `Encoder` (weights)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipig.encoders.names import (
    ASKED,
    AUTO,
    EMBEDDED,
    LOCAL_DIR,
    OPEN_CLIP,
    OPENAI,
    looks_like_files,
    model_names,
    nearest,
)
from clipig.errors import EncoderError

if TYPE_CHECKING:
    import torch

    from clipig.encoders.architecture import Activation
    from clipig.encoders.protocol import Encoder, EncoderInfo
    from clipig.encoders.source import Source
    from clipig.web import BytesDone


def resolve(
    name: str,
    *,
    cache: Path | None = None,
    allow_download: bool = True,
    activation: Activation | None = None,
    progress: BytesDone | None = None,
) -> EncoderInfo:
    """Find out what a name means, before weights are loaded.

    For files the shapes of the tensors are read (not the whole file into memory) and the
    checksum is computed. Where nothing says the activation of a checkpoint, both are tried
    once, and the outcome is kept in the cache; see `activation`.

    Args:
        name: `auto`, `embedded`, `embedded-judge`, one of OpenAI's nine, a checkpoint file,
            the folder of a model, `IMAGE+TEXT` (two towers), `org/name` (in the cache of the
            Hugging Face hub), `hf-hub:org/name[@revision]` (downloaded if it is not there),
            `open_clip:ARCH/PRETRAINED` or `local-dir:FOLDER`.
        cache: Where downloads are kept (default: the user's cache directory).
        allow_download: Whether `auto` may count on a download, and `hf-hub:` make one.
        activation: The activation of the model, where the user knows it.
        progress: Told how far a download of the hub is.

    Returns:
        Sizes, checksum, activation and reason.

    Raises:
        EncoderError: The name means nothing (the nearest names are given), or its files
            are missing, damaged or no CLIP.
    """
    from clipig.encoders.protocol import EncoderInfo

    own = name in (AUTO, *EMBEDDED) or name.startswith(OPEN_CLIP)
    if activation and (own or (name in OPENAI and activation != "quick_gelu")):
        raise EncoderError(f"{name}: its activation is known; leave `activation` out")
    if name == AUTO:
        from clipig.encoders.auto import choose

        chosen, reason = choose(cache, allow_download)
        found = resolve(chosen, cache=cache)
        more = f"; {found.reason}" if found.activation and found.reason != ASKED else ""
        return replace(found, reason=f"auto: {chosen}, {reason}{more}")
    if name in EMBEDDED:
        from clipig.encoders.embedded import embedded_info

        return embedded_info(name)
    if name in OPENAI:
        entry = OPENAI[name]
        return EncoderInfo(
            name, entry.size, entry.width, 77, ASKED, f"sha256:{entry.sha256}", "quick_gelu"
        )
    if name.startswith(OPEN_CLIP):
        from clipig.encoders.openclip import open_clip_info

        return open_clip_info(name)
    return _of_files(name, activation, allow_download, progress)


def _of_files(
    name: str, activation: Activation | None, allow_download: bool, progress: BytesDone | None
) -> EncoderInfo:
    from clipig.encoders.embedded import file_info
    from clipig.encoders.source import locate

    if (own := file_info(name)) is not None:
        return own
    if not looks_like_files(name) and "/" not in name:
        raise unknown_model(name)
    source = locate(
        name, activation=activation, allow_download=allow_download, progress=progress
    )
    if source is None:
        raise unknown_model(name)
    if source.kind == "open_clip":
        from clipig.encoders.openclip import open_clip_info

        found = open_clip_info(f"{LOCAL_DIR}{source.folder}")
        return replace(found, name=name, revision=source.revision)
    if source.kind == "siglip":
        from clipig.encoders.siglip import siglip_info

        return siglip_info(source)
    return _clip_info(source)


def _clip_info(source: Source) -> EncoderInfo:
    from clipig.encoders.activation import remembered
    from clipig.encoders.architecture import infer_architecture
    from clipig.encoders.protocol import EncoderInfo

    shapes = {k: tuple(v.shape) for k, v in source.tensors(shapes_only=True).items()}
    try:
        found = infer_architecture(shapes, source.traits)
    except EncoderError as fault:
        raise EncoderError(f"{_place(source)}: {fault}") from fault
    checksum, reason = source.checksum(), ASKED
    activation = source.traits.activation
    if activation is None:
        verdict = remembered(checksum, lambda: source.tensors(), source.traits, _place(source))
        activation, reason = verdict.activation, verdict.sentence()
    return EncoderInfo(
        source.name, found.size, found.embed, found.context, reason, checksum, activation,
        source.revision,
    )


def _place(source: Source) -> str:
    return str(source.folder or "+".join(map(str, source.files)))


def unknown_model(name: str) -> EncoderError:
    """The error for a name that means nothing, with the nearest ones."""
    close = nearest(name, model_names())
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    hub = f"(hf-hub:{name} looks it up on the Hugging Face hub) " if name.count("/") == 1 else ""
    return EncoderError(
        f"unknown model {name!r}; {hint}{hub}"
        f"Allowed: {', '.join(model_names())}, a checkpoint file or the folder of a model, "
        "IMAGE+TEXT, hf-hub:ORG/NAME, open_clip:ARCH/PRETRAINED"
    )


def load(
    info: EncoderInfo | str,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    progress: BytesDone | None = None,
    *,
    cache: Path | None = None,
) -> Encoder:
    """Load a model's weights, downloading them where they are OpenAI's and not here yet.

    Nothing is kept: callers that load a model twice get two.

    Args:
        info: From `resolve`, or a name.
        device: Where the weights go.
        precision: `fp32`, `bf16`, `fp16` or `auto` (see `pick_precision`): the arithmetic
            of the image tower only.
        progress: Told how far a download is.
        cache: As in `resolve`.

    Returns:
        The encoder, frozen.

    Raises:
        EncoderError: The model is unknown, missing or damaged.
    """
    from clipig.encoders.precision import pick_precision, to_dtype

    if isinstance(info, str):
        info = resolve(info, cache=cache, progress=progress)
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
    if info.name in OPENAI:
        from clipig.encoders.weights import fetch_weights

        path = fetch_weights(info.name, cache=cache, progress=progress)
        return _load_files(replace(info, name=str(path)), info.name, device, precision)
    return _load_files(info, info.name, device, precision)


def _is_own_file(name: str) -> bool:
    """Whether it is a weights file of the embedded kind."""
    if name in OPENAI or name.startswith(OPEN_CLIP):
        return False
    from clipig.encoders.embedded import file_info

    return file_info(name) is not None


def _load_files(
    info: EncoderInfo, name: str, device: str | torch.device, precision: str
) -> Encoder:
    """Load what `locate` finds under `info.name`; `name` is what the user wrote."""
    from clipig.encoders.architecture import to_activation
    from clipig.encoders.openai import OpenAIEncoder
    from clipig.encoders.source import locate

    source = locate(info.name, activation=to_activation(info.activation) or None)
    if source is None:
        raise unknown_model(name)
    if source.kind == "open_clip":
        from clipig.encoders.openclip import OpenClipEncoder

        inner = OpenClipEncoder(
            replace(info, name=f"{LOCAL_DIR}{source.folder}"), device, precision
        )
        return inner.renamed(name)
    checksum = source.checksum()
    if info.checksum and checksum != info.checksum:
        raise EncoderError(
            f"{_place(source)}: the file has changed since it was looked at ({checksum})"
        )
    info = replace(info, name=name, checksum=checksum)
    if source.kind == "siglip":
        from clipig.encoders.siglip import SiglipEncoder

        return SiglipEncoder(source, info, device, precision)
    try:
        return OpenAIEncoder(source.tensors(), info, device, precision, source.traits)
    except EncoderError as fault:
        raise EncoderError(f"{_place(source)}: {fault}") from fault
