"""Names of tensors in the layouts that CLIPs are published in, as OpenAI's names.

- OpenAI's own, which open_clip's plain models share (`visual.transformer.resblocks.0.ln_1`);
- open_clip's models with a text tower of their own (`text.transformer.resblocks...`);
- Hugging Face transformers (`vision_model.encoder.layers.0.layer_norm1`), which the single
  towers of ComfyUI share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from clipig.errors import EncoderError

_PREFIXES = ("module.", "_orig_mod.", "clip.", "model.", "clip_model.", "transformer.")
_ANCHORS = (  # tensors that say where the names begin
    "text_projection", "text.text_projection", "visual_projection.weight",
    "vision_model.embeddings.patch_embedding.weight",
    "text_model.embeddings.token_embedding.weight", "visual.conv1.weight", "text_projection.weight",
)
_MAX_PREFIXES = 4  # "module._orig_mod.clip.model."

_FIXED = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "text_model.final_layer_norm": "ln_final",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # their spelling
    "vision_model.pre_layernorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}
_IN_BLOCK = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TURNED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that training and wrapping classes put before all names.

    Args:
        state: Tensors by the names in the file.

    Returns:
        The tensors of the model, by bare names.
    """
    for _ in range(_MAX_PREFIXES):
        if any(anchor in state for anchor in _ANCHORS):
            break
        found = (k for anchor in _ANCHORS for k in state if k.endswith("." + anchor))
        prefix = next((p for k in found for p in _PREFIXES if k.startswith(p)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return dict(state)


def is_huggingface(state: Mapping[str, Tensor]) -> bool:
    """Whether bare names are those of transformers."""
    return any(k.startswith(("text_model.", "vision_model.", "visual_projection.")) for k in state)


def openai_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of any of the layouts to OpenAI's names.

    Args:
        state: Bare names; values on any device, also meta.

    Returns:
        Tensors by OpenAI's names. What no layout knows keeps its name.

    Raises:
        EncoderError: Two layouts are mixed.
    """
    if is_huggingface(state):
        return _from_huggingface(state)
    if "text.token_embedding.weight" in state and "token_embedding.weight" not in state:
        state = {k.removeprefix("text."): v for k, v in state.items()}
        if "text_projection.weight" in state:  # a linear layer where it has a bias
            state["text_projection"] = state.pop("text_projection.weight").T
    return dict(state)


def _from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = [k for k in state if k.startswith(("visual.", "transformer.resblocks."))]
    if own:
        raise EncoderError(f"tensors of two layouts are mixed: {own[0]} and {next(iter(state))}")
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        block = _BLOCK.fullmatch(key)
        if key.endswith("position_ids"):  # an index, not a weight
            continue
        if key in _FIXED:
            found[_FIXED[key]] = value
        elif key in _TURNED:
            found[_TURNED[key]] = value.T
        elif stem in _NORMS:
            found[f"{_NORMS[stem]}.{kind}"] = value
        elif block is not None:
            tower, layer, name, kind = block.groups()
            start = f"{'visual.' * (tower == 'vision')}transformer.resblocks.{layer}."
            if name in _IN_BLOCK:
                found[f"{start}{_IN_BLOCK[name]}.{kind}"] = value
            elif name.startswith("self_attn.") and name.endswith("_proj"):
                parts.setdefault(f"{start}attn.in_proj_{kind}", {})[name[10]] = value
            else:
                found[key] = value
        else:
            found[key] = value
    return found | {key: _stacked(key, three) for key, three in parts.items()}


def _stacked(key: str, three: Mapping[str, Tensor]) -> Tensor:
    """Query, key and value projections as one, as `in_proj` holds them."""
    if set(three) != set("qkv"):
        raise EncoderError(f"of {key} only {', '.join(sorted(three))} of q, k, v are there")
    rows = [three[letter] for letter in "qkv"]
    if len({tuple(r.shape) for r in rows}) > 1:
        raise EncoderError(f"the parts q, k, v of {key} have different shapes")
    return torch.cat(rows)
