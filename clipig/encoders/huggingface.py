"""Folders as transformers and open_clip write them: which files, what their configs say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipig.encoders.architecture import MEAN, STD, Activation, Traits
from clipig.errors import EncoderError
from clipig.files import open_regular

CONFIG = "config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
)
SIGLIP = ("siglip", "siglip2")
CLIP_TYPES = ("clip", "metaclip")
_MAX_JSON = 8 << 20
_MAX_SHARDS = 512
_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
}
# What transformers leaves out of a file, since it is the default.
_DEFAULT_HEADS = {"vision_config": 12, "text_config": 8}
_DEFAULT_ACTIVATION = {"clip": "quick_gelu", "siglip": "gelu_pytorch_tanh"}
# open_clip's keys that change no value of a plain vision transformer in inference.
_PLAIN_VISION = {
    "image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout",
}
_PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_PLAIN_MODEL = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text"}


@dataclass(frozen=True)
class ModelFolder:
    """A folder with the weights of one model.

    Attributes:
        kind: `clip` (read here), `siglip` (read here), or `open_clip` (needs the package).
        files: The weights: one file, or all shards.
        traits: What the configs say.
        layout: What is shown: `Hugging Face` or `open_clip`.
        config: The model's config, for its sizes.
    """

    kind: str
    files: tuple[Path, ...]
    traits: Traits
    layout: str
    config: Mapping[str, Any]


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Args:
        path: The file.

    Returns:
        The mapping.

    Raises:
        EncoderError: It cannot be read, is too large or holds something else.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_JSON + 1)
        if len(data) > _MAX_JSON:
            raise EncoderError(f"{path}: larger than {_MAX_JSON >> 20} MB, no config")
        found = json.loads(data)
    except OSError as fault:
        raise EncoderError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    except (ValueError, RecursionError) as fault:
        raise EncoderError(f"{path}: damaged, or no JSON ({str(fault)[:80]})") from fault
    if not isinstance(found, dict):
        raise EncoderError(f"{path}: it holds a {type(found).__name__}, expected a mapping")
    return found


def read_folder(folder: Path) -> ModelFolder:
    """Find out what a folder holds, from its configs and the names of its files.

    Where it holds a model twice, transformers' files are taken: their config says more.

    Args:
        folder: Of transformers (`config.json`), of open_clip, or both.

    Returns:
        The weights and what is known of them.

    Raises:
        EncoderError: It holds no model, an unknown one or only parts of one.
    """
    transformers, open_clip = folder / CONFIG, folder / OPEN_CLIP_CONFIG
    if transformers.is_file():
        config = read_config(transformers)
        if files := _weights(folder, WEIGHTS):
            return ModelFolder(_kind(config, transformers), files, _traits(config, folder),
                               "Hugging Face", config)
    if open_clip.is_file():
        config = read_config(open_clip)
        files = _weights(folder, OPEN_CLIP_WEIGHTS + WEIGHTS)
        if not files:
            raise EncoderError(f"{folder}: a config, but no weights; the download is not complete")
        return _open_clip_folder(folder, config, files)
    if transformers.is_file():
        raise EncoderError(
            f"{folder}: a config, but none of {', '.join(WEIGHTS)}; the download is not complete"
        )
    raise EncoderError(f"{folder}: a folder without {CONFIG} or {OPEN_CLIP_CONFIG}, expected a "
                       "checkpoint file or the folder of a model")


def is_complete(folder: Path) -> bool:
    """Whether a folder has a config and all files of its weights."""
    configs = any((folder / name).is_file() for name in (CONFIG, OPEN_CLIP_CONFIG))
    try:
        return configs and bool(_weights(folder, WEIGHTS + OPEN_CLIP_WEIGHTS))
    except EncoderError:  # a shard is missing, or a link leads nowhere
        return False


def _kind(config: Mapping[str, Any], path: Path) -> str:
    kind = config.get("model_type")
    if kind in SIGLIP:
        return "siglip"
    if kind in ("clip_vision_model", "clip_text_model", "siglip_vision_model"):
        raise EncoderError(f"{path}: only one tower ({kind}); name both: IMAGE.safetensors+"
                           "TEXT.safetensors")
    if kind not in CLIP_TYPES:
        shown = ", ".join((*CLIP_TYPES, *SIGLIP))
        raise EncoderError(f"{path}: model_type {str(kind)[:40]!r}, expected one of {shown}")
    return "clip"


def _weights(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    for name in names:
        if (folder / name).is_file():
            return (folder / name,)
        if (index := folder / f"{name}.index.json").is_file():
            return _shards(index)
        if (folder / name).is_symlink():
            raise EncoderError(f"{folder / name}: a link to a file that does not exist; the "
                               "download is not complete")
    return ()


def _shards(index: Path) -> tuple[Path, ...]:
    weights = read_config(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise EncoderError(f"{index}: it has no weight_map")
    names = {str(name) for name in weights.values()}
    if len(names) > _MAX_SHARDS or any(Path(n).name != n or n in ("", "..") for n in names):
        raise EncoderError(f"{index}: its shards are no files of this folder")
    files = tuple(index.parent / name for name in sorted(names))
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        raise EncoderError(
            f"{index.parent}: {len(missing)} of {len(files)} shards are missing: {missing[0]}; "
            "the download is not complete"
        )
    return files


def _traits(config: Mapping[str, Any], folder: Path) -> Traits:
    """What transformers' configs say; defaults stand in no file."""
    family = "siglip" if config.get("model_type") in SIGLIP else "clip"
    towers = {key: config.get(key) for key in ("vision_config", "text_config")}
    said = {key: value if isinstance(value, dict) else {} for key, value in towers.items()}
    acts = {t.get("hidden_act", _DEFAULT_ACTIVATION[family]) for t in said.values()}
    if len(acts) > 1 or not acts <= set(_ACTIVATIONS):
        raise EncoderError(
            f"{folder / CONFIG}: hidden_act {', '.join(sorted(map(str, acts)))}, expected one of "
            f"{', '.join(_ACTIVATIONS)} for both towers"
        )
    heads = {}
    for key, tower in said.items():
        default = 12 if family == "siglip" else _DEFAULT_HEADS[key]
        heads[key] = _whole(tower.get("num_attention_heads", default), folder, key)
    epsilons = {t.get("layer_norm_eps", 1e-6 if family == "siglip" else 1e-5)
                for t in said.values()}
    epsilon = epsilons.pop()
    if epsilons or not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise EncoderError(f"{folder / CONFIG}: layer_norm_eps is no number for both towers")
    center = (0.5, 0.5, 0.5)
    mean, std = (center, center) if family == "siglip" else (MEAN, STD)
    if (folder / PREPROCESSOR).is_file():
        pixels = read_config(folder / PREPROCESSOR)
        mean = _three(pixels.get("image_mean", mean), folder / PREPROCESSOR, "image_mean")
        std = _three(pixels.get("image_std", std), folder / PREPROCESSOR, "image_std")
    return Traits(_ACTIVATIONS[acts.pop()], heads["vision_config"], heads["text_config"],
                  mean, std, epsilon, CONFIG)


def _whole(value: object, folder: Path, key: str) -> int:
    if type(value) is not int or not 1 <= value <= 256:
        raise EncoderError(f"{folder / CONFIG}: {key}.num_attention_heads is {value!r:.40}")
    return value


def _three(value: object, path: Path, key: str) -> tuple[float, float, float]:
    if isinstance(value, list | tuple) and len(value) == 3:
        r, g, b = value
        if all(isinstance(x, int | float) and 0 <= x <= 10 for x in (r, g, b)) and (
            key != "image_std" or min(r, g, b) > 0
        ):
            return float(r), float(g), float(b)
    raise EncoderError(f"{path}: {key} is {value!r:.60}, expected three numbers")


def _open_clip_folder(
    folder: Path, config: Mapping[str, Any], files: tuple[Path, ...]
) -> ModelFolder:
    model, pixels = config.get("model_cfg"), config.get("preprocess_cfg") or {}
    if not isinstance(model, dict) or not isinstance(pixels, dict):
        raise EncoderError(f"{folder / OPEN_CLIP_CONFIG}: it has no model_cfg")
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise EncoderError(f"{folder / OPEN_CLIP_CONFIG}: it describes no two towers")
    plain = (
        set(model) <= _PLAIN_MODEL and set(vision) <= _PLAIN_VISION
        and set(text) <= _PLAIN_TEXT and isinstance(vision.get("layers", 12), int)
    )
    if not plain:
        return ModelFolder("open_clip", files, Traits(), "open_clip", model)
    path = folder / OPEN_CLIP_CONFIG
    head = vision.get("head_width", 64)
    wide = vision.get("width", 768)
    if type(head) is not int or type(wide) is not int or head < 1:
        raise EncoderError(f"{path}: vision_cfg.head_width is {head!r:.40}")
    traits = Traits(
        "quick_gelu" if model.get("quick_gelu") is True else "gelu",
        max(1, wide // head),
        _whole(text.get("heads", 8), folder, "text_cfg"),
        _three(pixels.get("mean", MEAN), path, "mean"),
        _three(pixels.get("std", STD), path, "image_std"),
        1e-5,
        OPEN_CLIP_CONFIG,
    )
    return ModelFolder("clip", files, traits, "open_clip", model)
