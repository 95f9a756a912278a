"""The models on this disk, in the caches of clip, open_clip and Hugging Face, and in ComfyUI."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clipig.encoders import comfyui
from clipig.encoders.architecture import infer_architecture
from clipig.encoders.checkpoint import read_tensors
from clipig.encoders.hub import all_snapshots
from clipig.encoders.huggingface import CLIP_TYPES, CONFIG, OPEN_CLIP_CONFIG, SIGLIP, read_config
from clipig.encoders.known import Family, family_of
from clipig.encoders.layouts import bare_names
from clipig.encoders.names import OPENAI, PAIR, SUFFIXES
from clipig.encoders.source import Source, locate
from clipig.encoders.weights import find_weights
from clipig.errors import EncoderError
from clipig.files import user_path
from clipig.web import cache_dir


@dataclass(frozen=True)
class FoundModel:
    """A model on this disk.

    Attributes:
        name: What `--model` takes.
        layout: How its files are laid out.
        folder: Where they are.
        bytes: Their size.
        size: Side of the input in pixels, 0 where unknown.
        activation: The activation, `""` where nothing says it.
        family: What is known of its training, or None.
        fault: Why it cannot be used, or `""`.
    """

    name: str
    layout: str
    folder: Path
    bytes: int
    size: int
    activation: str
    family: Family | None
    fault: str = ""

    def summary(self) -> str:
        """One line: layout, sizes, activation, family and licence, or what is wrong."""
        if self.fault:
            return f"cannot be used: {self.fault}"
        about = [self.layout, f"{max(1, self.bytes >> 20)} MB"]
        about += [f"input {self.size} px"] if self.size else []
        about += [self.activation or "activation unknown"]
        if self.family is not None:
            licence = f" ({self.family.licence})" if self.family.licence else ""
            about.append(f"{self.family.title}{licence}: {self.family.reason}")
        return ", ".join(about)


def discover(cache: Path | None = None) -> list[FoundModel]:
    """Find all models on this disk that clipig knows the layout of.

    No weights are read and nothing is downloaded. Single text towers, and folders of the hub
    that hold something else, are left out.

    Args:
        cache: Where clipig keeps downloads.

    Returns:
        One entry per model, OpenAI's nine first, then files, the hub and ComfyUI by name.
    """
    found: list[FoundModel] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found += _openai(cache)
        found += _files(cache)
        found += _hub()
        found += _comfyui()
    return found


def _openai(cache: Path | None) -> Iterator[FoundModel]:
    for name, entry in OPENAI.items():
        path = find_weights(name, cache)
        if path is not None:
            yield FoundModel(
                name, "OpenAI", path.parent, path.stat().st_size, entry.size, "quick_gelu",
                family_of(name),
            )


def _files(cache: Path | None) -> Iterator[FoundModel]:
    """Other files where `clip` and older versions of open_clip keep their downloads."""
    own = {entry.file for entry in OPENAI.values()}
    for folder in (cache_dir(cache) / "models", user_path("~/.cache/clip")):
        try:
            paths = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
        except OSError:
            continue
        for path in paths:
            if path.name not in own:
                yield _described(str(path))


def _hub() -> Iterator[FoundModel]:
    for snapshot in all_snapshots():
        kind = None
        try:
            if (snapshot.folder / CONFIG).is_file():
                kind = read_config(snapshot.folder / CONFIG).get("model_type")
        except EncoderError:
            continue
        if kind in CLIP_TYPES + SIGLIP or (snapshot.folder / OPEN_CLIP_CONFIG).is_file():
            yield _described(snapshot.repository)


def _comfyui() -> Iterator[FoundModel]:
    """Whole models in ComfyUI's folders, and the pairs that embed in the same width."""
    images, texts = [], []
    for path in comfyui.tower_files(comfyui.IMAGE_FOLDERS + comfyui.TEXT_FOLDERS):
        try:
            state = bare_names(read_tensors(path, shapes_only=True))
        except EncoderError:
            continue
        width = _projection(state)
        image = "visual_projection.weight" in state
        text = "text_projection.weight" in state and not any(k.startswith("visual.") for k in state)
        if (image and text) or "text_projection" in state:
            yield _described(str(path))
        elif image:
            images.append((path, width))
        elif text:
            texts.append((path, width))
    for image_file, width in images:
        for text_file, other in texts:
            if width == other:
                yield _described(f"{image_file}{PAIR}{text_file}")


def _projection(state: Mapping[str, Tensor]) -> int:
    for key in ("visual_projection.weight", "text_projection.weight"):
        if key in state:
            return state[key].shape[0]
    return 0


def _described(name: str) -> FoundModel:
    """A model as far as its configs and shapes tell, or what is wrong with it."""
    family = family_of(name)
    try:
        source = locate(name, allow_download=False)
        if source is None:
            raise EncoderError("not there any more")
        total = sum(file.stat().st_size for file in source.files)
        fault = _lacking(source)
        return FoundModel(
            name, source.layout, source.folder or source.files[0].parent, total,
            0 if fault else _size(source), source.traits.activation or "", family, fault,
        )
    except (EncoderError, OSError) as fault:
        where = Path(name).parent if Path(name).is_absolute() else Path()
        return FoundModel(name, "", where, 0, 0, "", family, str(fault))


def _lacking(source: Source) -> str:
    """The package that a model needs and that is not installed, as a sentence."""
    needs = {"open_clip": ("open_clip", "open_clip"), "siglip": ("tokenizers", "siglip")}
    package, extra = needs.get(source.kind, ("", ""))
    if not package or importlib.util.find_spec(package):
        return ""
    return f"needs {package}: pip install clipig[{extra}]"


def _size(source: Source) -> int:
    if source.kind == "clip":
        shapes = {k: tuple(v.shape) for k, v in source.tensors(shapes_only=True).items()}
        return infer_architecture(shapes, source.traits).size
    vision = source.config.get("vision_config" if source.kind == "siglip" else "vision_cfg")
    size = vision.get("image_size", 224) if isinstance(vision, dict) else 0
    return size if isinstance(size, int) else 0
