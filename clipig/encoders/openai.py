"""OpenAI's CLIP and everything of the same architecture, from a dict of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipig.encoders.architecture import Architecture, infer_architecture
from clipig.encoders.blank import blank
from clipig.encoders.clip_package import import_clip, import_clip_model
from clipig.encoders.precision import to_dtype
from clipig.encoders.protocol import EncoderInfo
from clipig.encoders.scaling import GradientScale
from clipig.encoders.towers import ResNetTower, TransformerTower
from clipig.errors import EncoderError

# Tensors that some checkpoints carry and none of ours needs.
_IGNORED = {"input_resolution", "context_length", "vocab_size", "attn_mask", "logit_scale"}
_TEXTS_AT_ONCE = 64


def shorten(text: str, length: int = 60) -> str:
    """The text in quotes, cut for a message."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")


class OpenAIEncoder:
    """An `Encoder` with the weights of an OpenAI-style CLIP.

    `state`: tensors by OpenAI's names, any float dtype. Raises `EncoderError`
    for missing, unexpected, misshapen or non-finite tensors. Arithmetic is
    float32, or bf16/fp16 inside the image tower only; text is always float32.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        info: EncoderInfo,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ):
        self._dtype = to_dtype(precision)
        self._device = torch.device(device)
        model, architecture = _build(state, self._device)
        self._info = replace(
            info, size=architecture.size, width=architecture.embed, context=architecture.context
        )
        tower = TransformerTower if architecture.patch else ResNetTower
        self._tower = tower(model.visual, self._dtype).to(self._device).eval()
        self._tower.requires_grad_(False)
        model.visual = nn.Identity().eval()  # the tower holds what it needs
        self._text: Any = model
        self._context = architecture.context
        self._tokenizer = import_clip()._tokenizer

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

    @property
    def architecture(self) -> str:
        return "ViT" if isinstance(self._tower, TransformerTower) else "ResNet"

    def _checked(self, views: Tensor) -> Tensor:
        side = self._info.size
        if views.ndim != 4 or tuple(views.shape[1:]) != (3, side, side):
            raise EncoderError(
                f"{self._info.name} takes pictures [B, 3, {side}, {side}], got {list(views.shape)}"
            )
        return views.to(self._device, torch.float32)

    def encode_image(self, views: Tensor) -> Tensor:
        """`[B, 3, size, size]` in [0, 1] to `[B, D]` float32 of length one."""
        scale, views = self._scaled(views)
        return F.normalize(scale.enlarge(self._tower(views))[0], dim=-1)

    def features(self, views: Tensor) -> list[Tensor]:
        """Early activations `[B, C, h, w]`: ViT patch grid and 4 blocks; ResNet stem, 2 stages."""
        scale, views = self._scaled(views)
        return list(scale.enlarge(*self._tower.features(views)))

    def encode_with_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `encode_image` and `features` give, in one pass."""
        scale, views = self._scaled(views)
        embedded, maps = self._tower.forward_features(views)
        embedded, *maps = scale.enlarge(embedded, *maps)
        return F.normalize(embedded, dim=-1), maps

    def _scaled(self, views: Tensor) -> tuple[GradientScale, Tensor]:
        """Checked views, and what keeps gradients inside the range of the arithmetic."""
        scale = GradientScale(self._dtype == torch.float16)
        return scale, scale.restore(self._checked(views))

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, the start and end marks included."""
        return len(self._tokenizer.encode(text)) + 2

    def _tokenize(self, text: str, truncate: bool) -> list[int]:
        if not text.strip():
            raise EncoderError("the text is empty; a prompt needs at least one word")
        context = self._context
        begin, end = (self._tokenizer.encoder[f"<|{mark}oftext|>"] for mark in ("start", "end"))
        tokens = [begin, *self._tokenizer.encode(text), end]
        if len(tokens) > context:
            if not truncate:
                raise EncoderError(
                    f"the text {shorten(text)} has {len(tokens)} tokens, "
                    f"{len(tokens) - context} more than the {context} that {self._info.name} "
                    "takes; shorten it or ask for it to be cut with truncate: true"
                )
            tokens = [*tokens[: context - 1], end]
        return tokens + [0] * (context - len(tokens))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """`[P, D]` float32 of length one, no gradient.

        Raises `EncoderError` for an empty text and, unless `truncate`, for one
        with more tokens than the context.
        """
        if isinstance(texts, str):
            texts = [texts]
        rows = [self._tokenize(text, truncate) for text in texts]
        if not rows:
            return torch.empty(0, self._info.width, device=self._device)
        tokens = torch.tensor(rows, device=self._device)
        with torch.autocast(self._device.type, enabled=False):
            parts = [self._encode_tokens(part) for part in torch.split(tokens, _TEXTS_AT_ONCE)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """As `clip.model.CLIP.encode_text`, which asks the (removed) image tower its dtype."""
        model = self._text
        x = model.token_embedding(tokens) + model.positional_embedding
        x = model.transformer(x.transpose(0, 1)).transpose(0, 1)
        x = model.ln_final(x)
        ends = tokens.argmax(dim=-1)  # the end mark has the greatest number
        out: Tensor = x[torch.arange(x.shape[0], device=x.device), ends] @ model.text_projection
        return out


def _build(state: Mapping[str, Tensor], device: torch.device) -> tuple[Any, Architecture]:
    """A frozen float32 `clip.model.CLIP` that holds the tensors of `state`."""
    architecture = infer_architecture({key: tuple(value.shape) for key, value in state.items()})
    model = empty_model(architecture)
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    _compare(wanted, state)
    values = {}
    for key in wanted:
        if key in state:
            value = state[key].detach().to(torch.float32)
            if not torch.isfinite(value).all():  # asked where it is, not on the device
                raise EncoderError(f"the tensor {key} holds NaN or infinite numbers")
            values[key] = value.to(device)
        else:  # `num_batches_tracked`, `logit_scale`: not used in eval mode
            values[key] = torch.zeros(wanted[key], device=device)
    model.load_state_dict(values, assign=True)
    for block in model.transformer.resblocks:
        block.attn_mask = model.build_attention_mask().to(device)
    return model.eval().requires_grad_(False), architecture


def empty_model(a: Architecture) -> Any:
    """A `clip.model.CLIP` on the meta device: shapes, but no memory and no initialisation."""
    clip_model = import_clip_model()
    with blank():
        model = clip_model.CLIP(
            a.embed,
            a.size,
            a.vision_layers,
            a.vision_width,
            a.patch,
            a.context,
            a.vocabulary,
            a.text_width,
            a.text_heads,
            a.text_layers,
        )
    return model


def _compare(wanted: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> None:
    """Raise `EncoderError` unless `state` has what is wanted, in the right shapes."""
    optional = {key for key in wanted if key.endswith("num_batches_tracked")} | _IGNORED
    missing = sorted(set(wanted) - set(state) - optional)
    if missing:
        raise EncoderError(_listing(len(missing), "missing", missing))
    unknown = sorted(key for key in set(state) - set(wanted) - optional if "attn_mask" not in key)
    if unknown:
        raise EncoderError(_listing(len(unknown), "too many", unknown))
    for key, shape in wanted.items():
        if key in state and key not in optional and state[key].shape != shape:
            raise EncoderError(
                f"the tensor {key} has shape {list(state[key].shape)}, expected {list(shape)}"
            )


def _listing(count: int, what: str, keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3]) + (", ..." if count > 3 else "")
    return f"{count} tensor{'s' if count > 1 else ''} {what}: {shown}"
