"""Names of models: what they look like and what is known without a file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from clipig.files import user_path

AUTO = "auto"
PREFERRED = "ViT-B/32"
FALLBACK = "embedded"
ASKED = "the model was asked for by name"
EMBEDDED = ("embedded", "embedded-judge")
OPEN_CLIP = "open_clip:"
LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
PAIR = "+"  # between the files of an image and of a text tower
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".sft")


@dataclass(frozen=True)
class OpenAIModel:
    """One of the nine models that OpenAI published.

    Attributes:
        size: Side of the square input in pixels.
        width: D, width of the embedding.
        file: Name of the file of weights.
        megabytes: Its size, rounded.
        sha256: Its checksum, 64 hex digits.
    """

    size: int
    width: int
    file: str
    megabytes: int
    sha256: str


# Sizes: the models' own state dicts. Checksums: the paths under which OpenAI publishes them.
OPENAI = {
    "RN50": OpenAIModel(
        224, 1024, "RN50.pt", 244,
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    ),
    "RN101": OpenAIModel(
        224, 512, "RN101.pt", 278,
        "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    ),
    "RN50x4": OpenAIModel(
        288, 640, "RN50x4.pt", 402,
        "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    ),
    "RN50x16": OpenAIModel(
        384, 768, "RN50x16.pt", 630,
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    ),
    "RN50x64": OpenAIModel(
        448, 1024, "RN50x64.pt", 1260,
        "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    ),
    "ViT-B/32": OpenAIModel(
        224, 512, "ViT-B-32.pt", 338,
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    "ViT-B/16": OpenAIModel(
        224, 512, "ViT-B-16.pt", 335,
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    ),
    "ViT-L/14": OpenAIModel(
        224, 768, "ViT-L-14.pt", 890,
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    "ViT-L/14@336px": OpenAIModel(
        336, 768, "ViT-L-14-336px.pt", 891,
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    ),
}


def model_names() -> tuple[str, ...]:
    """The names that need no file: `auto`, the embedded models, OpenAI's nine."""
    return (AUTO, *EMBEDDED, *OPENAI)


def summary(name: str) -> str:
    """One line about a name of `model_names()`."""
    if name == AUTO:
        return (
            "the best model that this machine has; else "
            f"{PREFERRED} if it can be downloaded, else {FALLBACK}"
        )
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


def looks_like_files(name: str) -> bool:
    """Whether a name that is in no table is meant as a file, a folder or a pair of files."""
    path = user_path(name)
    return (
        path.suffix.lower() in SUFFIXES
        or name.startswith((".", "~", "/", "\\", HUB, LOCAL_DIR))
        or path.is_absolute()
        or os.path.exists(path)
    )
