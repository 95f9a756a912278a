"""OpenAI's CLIP and everything of the same architecture, from a dict of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from clipig.encoders.architecture import Architecture, Traits, expected_shapes, infer_architecture
from clipig.encoders.base import TowerEncoder
from clipig.encoders.blank import blank
from clipig.encoders.clip_package import import_clip, import_clip_model
from clipig.encoders.protocol import EncoderInfo
from clipig.encoders.tensors import checked_tensors
from clipig.encoders.towers import ResNetTower, TextTower, TransformerTower

# Tensors that some checkpoints carry and an encoder does not need.
_IGNORED = frozenset({
    "input_resolution", "context_length", "vocab_size", "attn_mask", "logit_scale", "logit_bias",
})
_TEXTS_AT_ONCE = 64


class OpenAIEncoder(TowerEncoder):
    """An `Encoder` with the weights of an OpenAI-style CLIP.

    Arithmetic is float32, or bf16/fp16 inside the image tower only; text is always float32.

    Args of the constructor:
        state: Tensors by OpenAI's names, any float dtype.
        info: Name and reason; sizes and activation are taken from the weights and `traits`.
        device: Where the weights go.
        precision: `fp32`, `bf16` or `fp16`.
        traits: What a config says; the activation must be known by now (default: OpenAI's).

    Raises:
        EncoderError: Tensors are missing, too many, misshapen or not finite.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        info: EncoderInfo,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        traits: Traits | None = None,
    ):
        super().__init__(info, device, precision)
        traits = traits or Traits()
        traits = replace(traits, activation=traits.activation or "quick_gelu")
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        architecture = infer_architecture(shapes, traits)
        self._info = replace(
            info, size=architecture.size, width=architecture.embed, context=architecture.context,
            activation=traits.activation or "",
        )
        wanted = expected_shapes(architecture, shapes)
        if architecture.patch is None:
            wanted |= _resnet_shapes(architecture)
        tensors = checked_tensors(state, wanted, self._device, _IGNORED)
        self._tower: ResNetTower | TransformerTower
        if architecture.patch is None:
            self._tower = _resnet(architecture, tensors, self._dtype)
        else:
            self._tower = TransformerTower(tensors, architecture, self._dtype)
            self.patches = len(self._tower.positions)
        self._text = TextTower(tensors, architecture)
        for tower in (self._tower, self._text):
            tower.to(self._device).eval().requires_grad_(False)
        self._tokenizer = import_clip()._tokenizer

    @property
    def architecture(self) -> str:
        """`"ViT"` or `"ResNet"`."""
        return "ViT" if isinstance(self._tower, TransformerTower) else "ResNet"

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, start and end marks included."""
        return len(self._tokenizer.encode(text)) + 2

    def _embed(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        out: Tensor = self._tower(views) if keep is None else self._tower(views, keep)
        return out

    def _early(self, views: Tensor) -> list[Tensor]:
        return self._tower.features(views)

    def _embed_with_maps(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._tower.forward_features(views)

    def _tokenize(self, text: str) -> list[int]:
        begin, end = (self._tokenizer.encoder[f"<|{mark}oftext|>"] for mark in ("start", "end"))
        context = self._info.context or 0
        return [begin, *self._tokenizer.encode(text)[: context - 2], end]

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        rows = [self._tokenize(text) for text in texts]
        context = self._info.context or 0
        filled = [row + [0] * (context - len(row)) for row in rows]
        tokens = torch.tensor(filled, device=self._device).split(_TEXTS_AT_ONCE)
        ends = torch.tensor([len(row) - 1 for row in rows], device=self._device)
        parts = zip(tokens, ends.split(_TEXTS_AT_ONCE), strict=True)
        return torch.cat([self._text(*part) for part in parts])


def _empty_resnet(a: Architecture) -> nn.Module:
    """`clip.model`'s image tower on the meta device: shapes, no memory, no initialisation."""
    with blank():
        found: nn.Module = import_clip_model().ModifiedResNet(
            a.vision_layers, a.embed, a.vision_heads, a.size, a.vision_width
        )
    return found


def _resnet_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, Any] = _empty_resnet(a).state_dict()
    return {f"visual.{key}": tuple(value.shape) for key, value in tensors.items()}


def _resnet(a: Architecture, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> ResNetTower:
    model = _empty_resnet(a)
    own = {k.removeprefix("visual."): v for k, v in tensors.items() if k.startswith("visual.")}
    model.load_state_dict(own, assign=True)
    return ResNetTower(model.eval(), dtype, a.traits.mean, a.traits.std)
