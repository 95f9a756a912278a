"""Single towers as ComfyUI keeps them: one file for images, one for texts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from clipig.encoders.checkpoint import checked_path, read_tensors
from clipig.encoders.layouts import bare_names
from clipig.encoders.names import PAIR, nearest
from clipig.errors import EncoderError
from clipig.files import user_path

FOLDER_VARIABLE = "COMFYUI_PATH"
IMAGE_FOLDERS = ("clip_vision",)
TEXT_FOLDERS = ("text_encoders", "clip")
SUFFIXES = (".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt")
_MAX_FILES = 2000
_NO_PROJECTION = (
    "it has no text_projection.weight: this text encoder was made for diffusion models, which "
    "do without; CLIP compares images with the projected text. A full text encoder of the same "
    "model has it (for ViT-L/14 for instance the `..._TE_...` or `full` files)"
)


def models_folder() -> Path | None:
    """The `models` folder of $COMFYUI_PATH, or None if that is not set or not there."""
    base = os.environ.get(FOLDER_VARIABLE)
    if not base:
        return None
    folder = user_path(base)
    folder = folder if folder.name == "models" else folder / "models"
    return folder if folder.is_dir() else None


def tower_files(folders: tuple[str, ...]) -> Iterator[Path]:
    """The files of towers below these folders of ComfyUI's models, by path."""
    base = models_folder()
    for folder in folders if base is not None else ():
        found = sorted((base / folder).rglob("*")) if base is not None else []
        for path in found[:_MAX_FILES]:
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def find_pair(name: str) -> tuple[Path, Path]:
    """Find the two files of `IMAGE+TEXT`.

    Args:
        name: Two paths, or names of files in ComfyUI's folders, joined by a plus sign.

    Returns:
        The file of the image tower and that of the text tower.

    Raises:
        EncoderError: One is not there; the nearest in ComfyUI's folders are named.
    """
    parts = name.split(PAIR)
    for cut in range(1, len(parts)):  # a plus sign may stand in a name of a file, too
        image, text = PAIR.join(parts[:cut]), PAIR.join(parts[cut:])
        files = _find(image, IMAGE_FOLDERS), _find(text, TEXT_FOLDERS)
        if files[0] is not None and files[1] is not None:
            return checked_path(str(files[0])), checked_path(str(files[1]))
    image, text = parts[0], PAIR.join(parts[1:])
    missing, folders = (
        (image, IMAGE_FOLDERS) if _find(image, IMAGE_FOLDERS) is None else (text, TEXT_FOLDERS)
    )
    close = nearest(missing, [p.name for p in tower_files(folders)])
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    where = "" if models_folder() else f" (set {FOLDER_VARIABLE} to look in ComfyUI's folders)"
    raise EncoderError(f"{name}: no such file: {missing or 'nothing'}{hint}{where}")


def _find(name: str, folders: tuple[str, ...]) -> Path | None:
    path = user_path(name)
    if name and path.is_file():
        return path
    wanted = path.as_posix()
    for file in tower_files(folders):
        if wanted and (file.name == wanted or file.as_posix().endswith(f"/{wanted}")):
            return file
    return None


def tower_kind(state: Mapping[str, Tensor]) -> str:
    """Say what tower some bare names are: `image`, `text`, `siglip`, `bare text` or `other`."""
    if any(key.startswith("vision_model.head.") for key in state):
        return "siglip"
    if "vision_model.embeddings.patch_embedding.weight" in state:
        return "image" if "visual_projection.weight" in state else "other"
    if "text_model.embeddings.token_embedding.weight" in state:
        return "text" if "text_projection.weight" in state else "bare text"
    return "other"


def read_pair(image: Path, text: Path, *, shapes_only: bool = False) -> dict[str, Tensor]:
    """Read two towers as one model.

    Args:
        image: A file with `vision_model.*` and `visual_projection.weight`.
        text: A file with `text_model.*` and `text_projection.weight`.
        shapes_only: Whether shapes are enough.

    Returns:
        The tensors of both, by transformers' names.

    Raises:
        EncoderError: A file holds something else, or the towers do not fit together.
    """
    found: dict[str, Tensor] = {}
    projections = []
    for path, wanted, roots in (
        (image, "image", ("vision_model.", "visual_projection.")),
        (text, "text", ("text_model.", "text_projection.")),
    ):
        state = bare_names(read_tensors(path, shapes_only=shapes_only))
        kind = tower_kind(state)
        whole = {tower_kind({k: v for k, v in state.items() if k.startswith(roots)}), kind}
        if wanted not in whole:
            raise EncoderError(f"{path}: {_reason(kind, wanted)}")
        found |= {k: v for k, v in state.items() if k.startswith(roots)}
        key = "visual_projection.weight" if wanted == "image" else "text_projection.weight"
        projections.append(state[key].shape[0])
    if projections[0] != projections[1]:
        raise EncoderError(
            f"{image.name} embeds in {projections[0]} dimensions, {text.name} in "
            f"{projections[1]}: they are towers of different models"
        )
    return found


def _reason(kind: str, wanted: str) -> str:
    if kind == "bare text" and wanted == "text":
        return _NO_PROJECTION
    if kind == "siglip":
        return "the image tower of a SigLIP, which no text encoder of ComfyUI belongs to"
    found = {"image": "an image tower", "text": "a text tower", "bare text": "a text tower"}
    return f"found {found.get(kind, 'neither tower of a CLIP')}, expected the {wanted} tower"
