"""Model names to what is known of them, without loading weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipig.errors import EncoderError

if TYPE_CHECKING:
    from clipig.encoders.protocol import EncoderInfo

AUTO = "auto"
PREFERRED = "ViT-B/32"
FALLBACK = "embedded"
ASKED = "the model was asked for by name"
EMBEDDED = ("embedded", "embedded-judge")
OPEN_CLIP = "open_clip:"
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Entry:
    """One of OpenAI's models: input side, embedding width, file name, sha256 of the file."""

    size: int
    width: int
    file: str
    sha256: str


# Sizes: the models' own state dicts. Checksums: the paths under which OpenAI publishes them.
OPENAI = {
    "RN50": Entry(
        224, 1024, "RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
    ),
    "RN101": Entry(
        224, 512, "RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"
    ),
    "RN50x4": Entry(
        288, 640, "RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"
    ),
    "RN50x16": Entry(
        384, 768, "RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"
    ),
    "RN50x64": Entry(
        448, 1024, "RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"
    ),
    "ViT-B/32": Entry(
        224, 512, "ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    ),
    "ViT-B/16": Entry(
        224, 512, "ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    ),
    "ViT-L/14": Entry(
        224, 768, "ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
    ),
    "ViT-L/14@336px": Entry(
        336,
        768,
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    ),
}


def model_names() -> tuple[str, ...]:
    """The names that need no file: `auto`, the embedded models, OpenAI's nine."""
    return (AUTO, *EMBEDDED, *OPENAI)


def summary(name: str) -> str:
    """One line about a name of `model_names()`."""
    if name == AUTO:
        return f"{PREFERRED} if its weights are here or can be downloaded, else {FALLBACK}"
    if name in EMBEDDED:
        role = "the small CLIP" if name == FALLBACK else "a second small CLIP, for judging,"
        return f"{role} that comes with clipig; works offline"
    entry = OPENAI[name]
    return f"OpenAI's {name}: input {entry.size} px, embedding {entry.width}, downloaded once"


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `name`, best first, the case of letters ignored."""
    by_lower = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return [by_lower[n] for n in found]


def looks_like_path(name: str) -> bool:
    """Whether a name that is in no table is meant as a file."""
    path = Path(name).expanduser()
    return (
        path.suffix.lower() in SUFFIXES
        or name.startswith((".", "~", "/", "\\"))
        or path.is_absolute()
        or path.exists()
    )


def resolve(
    name: str,
    *,
    cache: Path | None = None,
    allow_download: bool = True,
    device: str = "cpu",
) -> EncoderInfo:
    """What is known of a model before its weights are loaded.

    `name`: `auto`, `embedded`, `embedded-judge`, one of OpenAI's nine, a
    checkpoint file, or `open_clip:ARCH/PRETRAINED`. `cache` is where downloads
    are kept (default: the user's cache directory), `allow_download` whether
    `auto` may count on a download. `device` is taken for symmetry with `load`;
    the choice does not depend on it yet.

    For a file the tensors' shapes are read (not the whole file in memory) and
    its checksum is made. Raises `EncoderError` with the nearest names for an
    unknown one.
    """
    from clipig.encoders.protocol import EncoderInfo

    if name == AUTO:
        return _choose(cache, allow_download)
    if name in EMBEDDED:
        from clipig.encoders.embedded import embedded_info

        return embedded_info(name)
    if name in OPENAI:
        entry = OPENAI[name]
        return EncoderInfo(name, entry.size, entry.width, 77, ASKED, f"sha256:{entry.sha256}")
    if name.startswith(OPEN_CLIP):
        from clipig.encoders.openclip import open_clip_info

        return open_clip_info(name)
    if looks_like_path(name):
        from clipig.encoders.checkpoint import checked_path, checkpoint_info
        from clipig.encoders.embedded import file_info

        checked_path(name)
        return file_info(name) or checkpoint_info(name)
    raise unknown_model(name)


def unknown_model(name: str) -> EncoderError:
    """The error for a name that means nothing, with the nearest ones."""
    close = nearest(name, model_names())
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return EncoderError(
        f"unknown model {name!r}; {hint}"
        f"Allowed: {', '.join(model_names())}, a checkpoint file, open_clip:ARCH/PRETRAINED"
    )


def _choose(cache: Path | None, allow_download: bool) -> EncoderInfo:
    """`auto`: the preferred model if its weights are or can be had, else the embedded one."""
    from dataclasses import replace

    from clipig.encoders.weights import find_weights, why_unreachable

    preferred = resolve(PREFERRED)
    found = find_weights(PREFERRED, cache)
    if found is not None:
        return replace(
            preferred, reason=f"auto: {PREFERRED}, since its weights are in {found.parent}"
        )
    if allow_download:
        fault = why_unreachable(PREFERRED)
        if fault is None:
            return replace(
                preferred, reason=f"auto: {PREFERRED}, since its weights can be downloaded"
            )
        why = f"its download is out of reach ({fault})"
    else:
        why = "downloads are not allowed"
    return replace(
        resolve(FALLBACK),
        reason=f"auto: {FALLBACK}, since the weights of {PREFERRED} are not in the cache and {why}",
    )
