"""open_clip's models: `open_clip:ARCH/PRETRAINED`, the extra `clipig[open_clip]`.

PRETRAINED is a tag of open_clip's table or a checkpoint file. The file may be
of any of its architectures, so this is also the way to load a checkpoint whose
shapes alone do not tell (plain GELU, other head widths).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.encoders.checkpoint import checked_path, file_sha256
from clipig.encoders.names import ASKED, OPEN_CLIP, nearest
from clipig.encoders.precision import to_dtype
from clipig.encoders.protocol import EncoderInfo
from clipig.encoders.scaling import GradientScale
from clipig.errors import EncoderError

_CONTEXT = 77
_EARLY = 4  # layers for `features`, three for ResNets


def _import() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as fault:
        raise EncoderError(
            f"open_clip is not installed ({fault}): pip install clipig[open_clip]"
        ) from fault


def _parse(name: str) -> tuple[Any, str, str]:
    """The package, the architecture and the tag (or file) of a full name."""
    package = _import()
    rest = name.removeprefix(OPEN_CLIP)
    known = set(package.list_models())
    for cut in (i for i, letter in enumerate(rest) if letter == "/"):
        architecture, tag = rest[:cut].replace("/", "-"), rest[cut + 1 :]
        if architecture in known and tag:
            tags = package.list_pretrained_tags_by_model(architecture)
            if tag in tags or Path(tag).expanduser().is_file():
                return package, architecture, tag
            close = nearest(tag, tags, 5) or tags
            raise EncoderError(
                f"{name}: {architecture} has no pretrained weights {tag!r} and there is no such "
                f"file; it has {', '.join(close) or 'none'}"
            )
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


def open_clip_info(name: str) -> EncoderInfo:
    """Sizes from open_clip's own table; a local file's checksum, else none yet."""
    package, architecture, tag = _parse(name)
    config = package.get_model_config(architecture)
    size = config["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        if len(set(size)) > 1:
            raise EncoderError(f"{name}: takes pictures of {size}, only square ones are supported")
        size = size[0]
    file = Path(tag).expanduser()
    checksum = f"sha256:{file_sha256(file)}" if file.is_file() else ""
    context = config["text_cfg"].get("context_length", _CONTEXT)
    return EncoderInfo(name, size, config["embed_dim"], context, ASKED, checksum)


class OpenClipEncoder:
    """An `Encoder` around a model of open_clip's, its weights frozen."""

    def __init__(
        self,
        info: EncoderInfo,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        *,
        cache: Path | None = None,
    ):
        package, architecture, tag = _parse(info.name)
        self._dtype = to_dtype(precision)
        self._device = torch.device(device)
        local = Path(tag).expanduser().is_file()
        pretrained = str(checked_path(tag)) if local else tag
        try:
            model = package.create_model(
                architecture,
                pretrained=pretrained,
                device=self._device,
                cache_dir=str(cache) if cache else None,
            )
            self._tokenizer = package.get_tokenizer(architecture)
        except Exception as fault:  # open_clip passes on whatever its many sources raise
            what = "cannot be loaded" if local else "cannot be downloaded or loaded"
            line = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            raise EncoderError(f"{info.name}: {what}: {line}") from fault
        self._model = model.eval().requires_grad_(False)
        for key, value in self._model.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise EncoderError(f"{info.name}: the tensor {key} holds NaN or infinite numbers")
        visual = model.visual
        mean, std = (
            torch.tensor(getattr(visual, f"image_{which}"), device=self._device).view(1, 3, 1, 1)
            for which in ("mean", "std")
        )
        self._mean, self._std = mean, std
        size = getattr(visual, "image_size", info.size)
        side = size if isinstance(size, int) else size[0]
        context = getattr(self._tokenizer, "context_length", None) or info.context
        self._info = replace(info, size=side, context=context)

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image tower's arithmetic; inputs and outputs are float32."""
        return self._dtype

    def _normalised(self, views: Tensor) -> Tensor:
        side = self._info.size
        if views.ndim != 4 or tuple(views.shape[1:]) != (3, side, side):
            raise EncoderError(
                f"{self._info.name} takes pictures [B, 3, {side}, {side}], got {list(views.shape)}"
            )
        return (views.to(self._device, torch.float32) - self._mean) / self._std

    def _autocast(self) -> torch.autocast:
        half = self._dtype != torch.float32
        return torch.autocast(self._device.type, self._dtype if half else None, enabled=half)

    def encode_image(self, views: Tensor) -> Tensor:
        """`[B, 3, size, size]` in [0, 1] to `[B, D]` float32 of length one."""
        x = self._normalised(views)
        scale = GradientScale(self._dtype == torch.float16)
        with self._autocast():
            embedded = self._model.encode_image(scale.restore(x)).float()
        return F.normalize(scale.enlarge(embedded)[0], dim=-1)

    def features(self, views: Tensor) -> list[Tensor]:
        """Early activations, `[B, C, h, w]` each. `EncoderError` where the model has none."""
        visual = self._model.visual
        if not hasattr(visual, "forward_intermediates"):
            raise EncoderError(f"{self._info.name} gives no access to its early layers")
        x = self._normalised(views)
        scale = GradientScale(self._dtype == torch.float16)
        with self._autocast():
            out = visual.forward_intermediates(
                scale.restore(x),
                indices=list(range(_early_count(visual))),
                stop_early=True,
                intermediates_only=True,
            )
        return list(scale.enlarge(*(f.float() for f in out["image_intermediates"])))

    def _row(self, text: str) -> list[int] | None:
        """The tokens of a text with its marks, None where the tokeniser keeps its own counsel."""
        tokenizer = self._tokenizer
        if not (hasattr(tokenizer, "sot_token_id") and hasattr(tokenizer, "encode")):
            return None
        return [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a text, the start and end marks included; None where it cannot be known."""
        row = self._row(text)
        if row is not None:
            return len(row)
        inner = getattr(self._tokenizer, "tokenizer", None)
        return len(inner(text)["input_ids"]) if callable(inner) else None

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """`[P, D]` float32 of length one, no gradient; errors as in `OpenAIEncoder`."""
        from clipig.encoders.openai import shorten

        if isinstance(texts, str):
            texts = [texts]
        limit = self._info.context
        for text in texts:
            if not text.strip():
                raise EncoderError("the text is empty; a prompt needs at least one word")
            count = self.count_tokens(text)
            if count is not None and limit is not None and count > limit and not truncate:
                raise EncoderError(
                    f"the text {shorten(text)} has {count} tokens, {count - limit} more than the "
                    f"{limit} that {self._info.name} takes; shorten it or ask for it to be cut "
                    "with truncate: true"
                )
        if not texts:
            return torch.empty(0, self._info.width, device=self._device)
        tokens = self._tokenizer(list(texts)).to(self._device)
        return F.normalize(self._model.encode_text(tokens).float(), dim=-1)


def _early_count(visual: Any) -> int:
    """How many early layers to look at, no more than there are."""
    if hasattr(visual, "transformer"):
        return min(_EARLY, len(visual.transformer.resblocks))
    if hasattr(visual, "trunk"):
        return min(_EARLY, len(getattr(visual.trunk, "feature_info", ())) or _EARLY)
    return 3
