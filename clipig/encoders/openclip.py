"""open_clip's models, the extra `clipig[open_clip]`.

`open_clip:ARCH/PRETRAINED`, where PRETRAINED is a tag of open_clip's table or a
checkpoint file, and folders with an `open_clip_config.json` (`local-dir:FOLDER`, or a
repository in the cache of the Hugging Face hub) whose towers are not plain CLIPs:
SigLIP, MobileCLIP, PE-Core, EVA and others that timm builds.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipig.encoders.base import TowerEncoder
from clipig.encoders.checkpoint import checked_path
from clipig.encoders.hub import REPOSITORY, find_snapshot, hub_is_offline
from clipig.encoders.huggingface import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, read_config
from clipig.encoders.names import ASKED, LOCAL_DIR, OPEN_CLIP, nearest
from clipig.encoders.protocol import EncoderInfo, sigmoid_calibration
from clipig.encoders.towers import to_map
from clipig.errors import EncoderError
from clipig.files import file_sha256, user_path
from clipig.web import OFFLINE

_CONTEXT = 77
_EARLY = 4  # layers for `features`, three for ResNets


@dataclass(frozen=True)
class OpenClipModel:
    """What `open_clip.create_model` needs to know.

    Attributes:
        name: As the user wrote it.
        architecture: A name of open_clip's table, or `local-dir:FOLDER`.
        config: The `model_cfg` of it.
        tag: A tag of pretrained weights, or `""`.
        file: A checkpoint file, or None.
        options: Arguments of `create_model`: what tag or table say of the pixels' mean
            and standard deviation, and of the activation.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    tag: str = ""
    file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


def import_open_clip() -> Any:
    """The package `open_clip`, or `EncoderError` saying how to install it."""
    try:
        return importlib.import_module("open_clip")
    except ImportError as fault:
        raise EncoderError(
            f"open_clip is not installed ({fault}): pip install clipig[open_clip]"
        ) from fault


def open_clip_model(name: str) -> OpenClipModel:
    """Find the architecture and the weights of a name.

    Args:
        name: `open_clip:ARCH/PRETRAINED` or `local-dir:FOLDER`.

    Returns:
        What is needed to load it.

    Raises:
        EncoderError: open_clip is missing or knows no such model; the nearest are named.
    """
    package = import_open_clip()
    rest = name.removeprefix(OPEN_CLIP)
    if rest.startswith(LOCAL_DIR):
        return _from_folder(package, name, user_path(rest.removeprefix(LOCAL_DIR)))
    known = set(package.list_models())
    for cut in (i for i, letter in enumerate(rest) if letter == "/"):
        architecture, tag = rest[:cut].replace("/", "-"), rest[cut + 1 :]
        if architecture in known and tag:
            return _from_table(package, name, architecture, tag)
    if rest.replace("/", "-") in known:
        tags = package.list_pretrained_tags_by_model(rest.replace("/", "-"))
        raise EncoderError(
            f"{name}: say which weights, {OPEN_CLIP}{rest}/PRETRAINED with PRETRAINED one of "
            f"{', '.join(tags) or '(none published: a file)'}"
        )
    wrong = rest.split("/", 1)[0]
    close = nearest(wrong, known, 5)
    raise EncoderError(
        f"{name}: open_clip has no architecture {wrong!r}; the nearest are "
        f"{', '.join(close) or ', '.join(sorted(known)[:5]) + ', ...'}"
    )


def _from_table(package: Any, name: str, architecture: str, tag: str) -> OpenClipModel:
    tags = package.list_pretrained_tags_by_model(architecture)
    file = user_path(tag)
    if tag not in tags and not file.is_file():
        close = nearest(tag, tags, 5) or tags
        raise EncoderError(
            f"{name}: {architecture} has no pretrained weights {tag!r} and there is no such "
            f"file; it has {', '.join(close) or 'none'}"
        )
    config = package.get_model_config(architecture)
    if tag in tags:
        # The tag says what it was trained with; open_clip only warns where the table differs.
        about = package.get_pretrained_cfg(architecture, tag)
        options = {"force_quick_gelu": True} if about.get("quick_gelu") else {}
        return OpenClipModel(name, architecture, config, tag, None, options)
    return OpenClipModel(name, architecture, config, "", checked_path(tag),
                         _normalisation(package, architecture, tags))


def _normalisation(package: Any, architecture: str, tags: Sequence[str]) -> dict[str, Any]:
    """Mean and std of an architecture's published weights, where all agree.

    For a file open_clip takes those of OpenAI, which are wrong for SigLIP and others.
    """
    found = {
        (tuple(about["mean"]), tuple(about["std"]))
        for about in (package.get_pretrained_cfg(architecture, tag) for tag in tags)
        if about.get("mean") and about.get("std")
    }
    if len(found) != 1:
        return {}
    mean, std = found.pop()
    return {"image_mean": mean, "image_std": std}


def _from_folder(package: Any, name: str, folder: Path) -> OpenClipModel:
    config = read_config(folder / OPEN_CLIP_CONFIG).get("model_cfg")
    if not isinstance(config, dict):
        raise EncoderError(f"{folder / OPEN_CLIP_CONFIG}: it has no model_cfg")
    file = next((folder / f for f in OPEN_CLIP_WEIGHTS if (folder / f).is_file()), None)
    if file is None:
        raise EncoderError(f"{folder}: none of {', '.join(OPEN_CLIP_WEIGHTS)} is there")
    return OpenClipModel(
        name, f"{LOCAL_DIR}{folder.absolute()}", config, "", checked_path(str(file))
    )


def open_clip_info(name: str) -> EncoderInfo:
    """Sizes from open_clip's own table or the folder; a local file's checksum, else none yet."""
    found = open_clip_model(name)
    try:
        size = found.config["vision_cfg"]["image_size"]
        width, text = found.config["embed_dim"], found.config["text_cfg"]
        sides = [size] if isinstance(size, int) else list(size)
        context = text.get("context_length", _CONTEXT)
        if not all(isinstance(n, int) and n > 0 for n in (*sides, width, context)):
            raise TypeError("sizes are whole numbers")
    except (KeyError, TypeError, AttributeError) as fault:
        raise EncoderError(f"{name}: its config describes no model ({fault})") from fault
    if len(set(sides)) > 1:
        raise EncoderError(f"{name}: takes images of {size}, only square ones are supported")
    checksum = f"sha256:{file_sha256(found.file)}" if found.file else ""
    return EncoderInfo(name, sides[0], width, context, ASKED, checksum)


class OpenClipEncoder(TowerEncoder):
    """An `Encoder` around a model of open_clip's, its weights frozen."""

    def __init__(
        self,
        info: EncoderInfo,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        *,
        cache: Path | None = None,
    ):
        super().__init__(info, device, precision)
        found = open_clip_model(info.name)
        model, self._tokenizer = _create(found, self._device, cache)
        self._model = model.eval().requires_grad_(False)
        for key, value in self._model.state_dict().items():
            if value.is_floating_point() and not _finite(value):
                raise EncoderError(f"{info.name}: the tensor {key} holds NaN or infinite values")
        visual = model.visual
        self._mean, self._std = (
            torch.tensor(getattr(visual, f"image_{which}"), device=self._device).view(1, 3, 1, 1)
            for which in ("mean", "std")
        )
        size = getattr(visual, "image_size", info.size)
        context = getattr(self._tokenizer, "context_length", None) or info.context
        quick = "QuickGELU" in {type(m).__name__ for m in model.modules()}
        self._info = replace(
            info, size=size if isinstance(size, int) else size[0], context=context,
            activation="quick_gelu" if quick else "gelu",
        )
        if (calibration := _calibration(model)) is not None:
            self._info = replace(self._info, scale=calibration[0], zero=calibration[1])

    def renamed(self, name: str) -> OpenClipEncoder:
        """The same encoder under the name that the user wrote."""
        self._info = replace(self._info, name=name)
        return self

    def _normalised(self, views: Tensor) -> Tensor:
        return (views - self._mean) / self._std

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def _embed(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        assert keep is None  # patches is 0
        with self._autocast():
            return self._model.encode_image(self._normalised(views)).float()  # type: ignore[no-any-return]

    def _early(self, views: Tensor) -> list[Tensor]:
        visual = self._model.visual
        if not hasattr(visual, "forward_intermediates"):
            raise EncoderError(f"{self._info.name} gives no access to its early layers")
        with self._autocast():
            out = visual.forward_intermediates(
                self._normalised(views),
                indices=list(range(_early_count(visual))),
                stop_early=True,
                intermediates_only=True,
            )
        maps = [f.float() for f in out["image_intermediates"]]
        return [m if m.ndim == 4 else to_map(m) for m in maps]

    def _row(self, text: str) -> list[int] | None:
        """The tokens of a text with its marks, None where the tokenizer does not show them."""
        tokenizer = self._tokenizer
        if not (hasattr(tokenizer, "sot_token_id") and hasattr(tokenizer, "encode")):
            return None
        return [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]

    def count_tokens(self, text: str) -> int | None:
        """Count the tokens of a text, start and end marks included; None if unknown."""
        row = self._row(text)
        if row is not None:
            return len(row)
        inner = getattr(self._tokenizer, "tokenizer", None)
        clean = getattr(self._tokenizer, "clean_fn", str)
        return len(inner(clean(text))["input_ids"]) if callable(inner) else None

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts)).to(self._device)
        out: Tensor = self._model.encode_text(tokens)
        return out


def _create(found: OpenClipModel, device: torch.device, cache: Path | None) -> tuple[Any, Any]:
    """The model and its tokenizer. `EncoderError` in one line, whatever open_clip raises."""
    package = import_open_clip()
    found = _from_cache(package, found)
    local = found.file is not None
    # A folder names its own file; anything else is a tag or a file.
    folder = found.architecture.startswith(LOCAL_DIR)
    pretrained = None if folder else str(found.file) if local else found.tag
    where = str(cache) if cache else None
    tokens: dict[str, Any] = {"cache_dir": where}
    if hub_is_offline() and found.config["text_cfg"].get("hf_tokenizer_name"):
        tokens["local_files_only"] = True
    try:
        with _quiet():
            model = package.create_model(
                found.architecture, pretrained=pretrained, device=device, cache_dir=where,
                **found.options,
            )
            return model, package.get_tokenizer(found.architecture, **tokens)
    except Exception as fault:  # open_clip passes on whatever its many sources raise
        what = "cannot be loaded" if local else "cannot be downloaded or loaded"
        line = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise EncoderError(f"{found.name}: {what}: {line[:300]}") from fault


def _from_cache(package: Any, found: OpenClipModel) -> OpenClipModel:
    """A tag whose weights are in the cache of the hub as a file: the hub is not asked then.

    Raises `EncoderError` where they are not, and downloads are switched off.
    """
    if not found.tag:
        return found
    about = package.get_pretrained_cfg(found.architecture, found.tag)
    repository = (about.get("hf_hub") or "").strip("/")
    snapshot = find_snapshot(repository) if REPOSITORY.fullmatch(repository) else None
    for name in OPEN_CLIP_WEIGHTS if snapshot else ():
        if (file := snapshot.folder / name).is_file():  # type: ignore[union-attr]
            options = {**found.options, "image_mean": about["mean"], "image_std": about["std"]}
            return replace(found, file=checked_path(str(file)), options=options)
    if hub_is_offline():
        what = repository or "its file"
        raise EncoderError(f"{found.name}: {what} is not in the cache, and {OFFLINE}")
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Retries of downloads and notes on every tensor are not shown: the error says it once."""
    loggers = [logging.getLogger(n) for n in ("", "huggingface_hub", "httpx", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _finite(value: Tensor) -> bool:
    return value.device.type == "meta" or bool(torch.isfinite(value).all())


def _calibration(model: Any) -> tuple[float, float] | None:
    """How similarities are reported for a model that was trained with a bias (SigLIP)."""
    scale, bias = (getattr(model, f"logit_{name}", None) for name in ("scale", "bias"))
    if scale is None or bias is None or scale.device.type == "meta":
        return None
    return sigmoid_calibration(float(scale.exp()), float(bias))


def _early_count(visual: Any) -> int:
    """How many early layers to look at, no more than there are."""
    if hasattr(visual, "transformer"):
        return min(_EARLY, len(visual.transformer.resblocks))
    if hasattr(visual, "trunk"):
        return min(_EARLY, len(getattr(visual.trunk, "feature_info", ())) or _EARLY)
    return 3
