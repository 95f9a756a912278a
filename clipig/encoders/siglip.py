"""SigLIP and SigLIP 2 (fixed resolution) from transformers' folders; the extra `clipig[siglip]`.

They differ from CLIP in the loss (a sigmoid with a bias, see `sigmoid_calibration`), in the
pooling (attention of a learned probe; texts: the last token, padding included), and in their
texts, which are lower-cased and always padded to the whole context.

Source: Zhai et al. 2023, arXiv:2303.15343; Tschannen et al. 2025, arXiv:2502.14786.
"""

from __future__ import annotations

import importlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipig.encoders.architecture import (
    Activation,
    Traits,
    block_shapes,
    checked_shape,
    count_children,
    square_side,
)
from clipig.encoders.base import TowerEncoder
from clipig.encoders.huggingface import read_config
from clipig.encoders.names import ASKED
from clipig.encoders.protocol import EncoderInfo, sigmoid_calibration
from clipig.encoders.source import Source
from clipig.encoders.tensors import checked_tensors
from clipig.encoders.towers import (
    EARLY_BLOCKS,
    PatchStem,
    TransformerBlock,
    activate,
    attend,
    layer_norm,
    to_map,
)
from clipig.errors import EncoderError

_HEAD = "vision_model.head."
_TEXTS_AT_ONCE = 64
_IGNORED = frozenset({"logit_scale", "logit_bias"})
TOKENIZER = "tokenizer.json"
_MAX_TOKENIZER = 256 << 20


def siglip_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Every tensor that a SigLIP of these shapes needs.

    Args:
        shapes: By OpenAI's names where those exist, else by transformers'.

    Returns:
        Names and shapes.

    Raises:
        EncoderError: A tensor that decides the sizes is missing or misshapen.
    """
    width, _, patch, _ = checked_shape(shapes, "visual.conv1.weight", 4)
    positions = checked_shape(shapes, "visual.positional_embedding", 2)[0]
    square_side(positions, "visual.positional_embedding")
    embed, text = checked_shape(shapes, "text_model.head.weight", 2)
    vocabulary = checked_shape(shapes, "token_embedding.weight", 2)[0]
    context = checked_shape(shapes, "positional_embedding", 2)[0]
    pool = checked_shape(shapes, f"{_HEAD}mlp.fc1.weight", 2)[0]
    wanted: dict[str, tuple[int, ...]] = {
        "visual.conv1.weight": (width, 3, patch, patch),
        "vision_model.embeddings.patch_embedding.bias": (width,),
        "visual.positional_embedding": (positions, width),
        "visual.ln_post.weight": (width,), "visual.ln_post.bias": (width,),
        f"{_HEAD}probe": (1, 1, width),
        f"{_HEAD}attention.in_proj_weight": (3 * width, width),
        f"{_HEAD}attention.in_proj_bias": (3 * width,),
        f"{_HEAD}attention.out_proj.weight": (width, width),
        f"{_HEAD}attention.out_proj.bias": (width,),
        f"{_HEAD}layernorm.weight": (width,), f"{_HEAD}layernorm.bias": (width,),
        f"{_HEAD}mlp.fc1.weight": (pool, width), f"{_HEAD}mlp.fc1.bias": (pool,),
        f"{_HEAD}mlp.fc2.weight": (width, pool), f"{_HEAD}mlp.fc2.bias": (width,),
        "token_embedding.weight": (vocabulary, text), "positional_embedding": (context, text),
        "ln_final.weight": (text,), "ln_final.bias": (text,),
        "text_model.head.weight": (embed, text), "text_model.head.bias": (embed,),
    }
    blocks = "transformer.resblocks."
    for prefix, size in ((f"visual.{blocks}", width), (blocks, text)):
        mlp = checked_shape(shapes, f"{prefix}0.mlp.c_fc.weight", 2)[0]
        for layer in range(count_children(shapes, prefix)):
            wanted |= block_shapes(f"{prefix}{layer}.", size, mlp)
    return wanted


def siglip_info(source: Source) -> EncoderInfo:
    """What is known of a folder without its weights. Raises `EncoderError`."""
    shapes = {k: tuple(v.shape) for k, v in source.tensors(shapes_only=True).items()}
    try:
        wanted = siglip_shapes(shapes)
    except EncoderError as fault:
        raise EncoderError(f"{source.folder}: {fault}") from fault
    patch = wanted["visual.conv1.weight"][-1]
    side = square_side(wanted["visual.positional_embedding"][0], "positions")
    return EncoderInfo(
        source.name, patch * side, wanted["text_model.head.weight"][0],
        wanted["positional_embedding"][0], ASKED, source.checksum(),
        source.traits.activation or "", source.revision,
    )


class _ImageTower(nn.Module):
    """SigLIP's image tower. Takes pixels in 0..1, gives embeddings, not normalised."""

    def __init__(self, tensors: Mapping[str, Tensor], traits: Traits, dtype: torch.dtype):
        super().__init__()
        heads, activation = traits.vision_heads or 12, _activation(traits)
        self.heads, self.activation, self.dtype = heads, activation, dtype
        self.stem = PatchStem(
            tensors["visual.conv1.weight"],
            tensors["vision_model.embeddings.patch_embedding.bias"], traits.mean, traits.std, dtype,
        )
        self.blocks = _blocks(tensors, "visual.transformer.resblocks.", heads, traits, dtype)
        self.norm = layer_norm(tensors, "visual.ln_post", traits.epsilon)
        self.head_norm = layer_norm(tensors, f"{_HEAD}layernorm", traits.epsilon)
        self.register_buffer("positions", tensors["visual.positional_embedding"], persistent=False)
        for name in ("probe", "in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias",
                     "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
            part = "mlp." if name.startswith("fc") else "" if name == "probe" else "attention."
            self.register_buffer(
                name.replace(".", "_"), tensors[f"{_HEAD}{part}{name}"], persistent=False
            )

    positions: Tensor
    probe: Tensor
    in_proj_weight: Tensor
    in_proj_bias: Tensor
    out_proj_weight: Tensor
    out_proj_bias: Tensor
    fc1_weight: Tensor
    fc1_bias: Tensor
    fc2_weight: Tensor
    fc2_bias: Tensor

    def forward(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        """`[B, 3, size, size]` float32 to `[B, D]` float32; `keep`: of these patches only."""
        places = self.positions if keep is None else self.positions[keep]
        return self._finished(self.stem(views, keep).float() + places, 0)

    def features(self, views: Tensor) -> list[Tensor]:
        """The patch grid and the outputs of the first four blocks, each `[B, C, g, g]`."""
        return self._early(views)[0]

    def forward_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` and `features` give, in one pass."""
        maps, last = self._early(views)
        return self._finished(last, len(maps) - 1), maps

    def _early(self, views: Tensor) -> tuple[list[Tensor], Tensor]:
        patches = self.stem(views).float()
        x, maps = patches + self.positions, [to_map(patches)]
        for block in self.blocks[:EARLY_BLOCKS]:
            x = block(x)
            maps.append(to_map(x))
        return maps, x

    def _finished(self, x: Tensor, done: int) -> Tensor:
        for block in self.blocks[done:]:
            x = block(x)
        return self._pool(self.norm(x))

    def _pool(self, x: Tensor) -> Tensor:
        """Attention of the probe over all patches, in float32: `[B, T, D]` to `[B, D]`."""
        width = x.shape[-1]
        q = F.linear(self.probe, self.in_proj_weight[:width], self.in_proj_bias[:width])
        k, v = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, -1)
        y = attend(q.expand(len(x), -1, -1), k, v, self.heads)
        y = F.linear(y, self.out_proj_weight, self.out_proj_bias)
        z = activate(F.linear(self.head_norm(y), self.fc1_weight, self.fc1_bias), self.activation)
        out: Tensor = (y + F.linear(z, self.fc2_weight, self.fc2_bias))[:, 0]
        return out


class _TextTower(nn.Module):
    """SigLIP's text tower, in float32: every token sees all, the last one is the text's."""

    def __init__(self, tensors: Mapping[str, Tensor], traits: Traits):
        super().__init__()
        heads = traits.text_heads or 12
        self.blocks = _blocks(tensors, "transformer.resblocks.", heads, traits, torch.float32)
        self.norm = layer_norm(tensors, "ln_final", traits.epsilon)
        for name, key in (
            ("table", "token_embedding.weight"), ("positions", "positional_embedding"),
            ("weight", "text_model.head.weight"), ("bias", "text_model.head.bias"),
        ):
            self.register_buffer(name, tensors[key], persistent=False)

    table: Tensor
    positions: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        """`[P, T]` token ids, padded to the context, to `[P, D]`."""
        x = F.embedding(tokens, self.table) + self.positions
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x[:, -1]), self.weight, self.bias)


class SiglipEncoder(TowerEncoder):
    """An `Encoder` with the weights of a SigLIP."""

    def __init__(
        self, source: Source, info: EncoderInfo, device: str | torch.device = "cpu",
        precision: str = "fp32",
    ):
        super().__init__(info, device, precision)
        assert source.folder is not None
        state = source.tensors()
        try:
            wanted = siglip_shapes({key: tuple(value.shape) for key, value in state.items()})
            for what, key, heads in (
                ("image", "visual.ln_post.weight", source.traits.vision_heads),
                ("text", "ln_final.weight", source.traits.text_heads),
            ):
                wide = wanted[key][0]
                if wide % (heads or 12):
                    raise EncoderError(
                        f"its {what} tower is {wide} wide, which {heads} heads cannot share"
                    )
            tensors = checked_tensors(state, wanted, self._device, _IGNORED)
        except EncoderError as fault:
            raise EncoderError(f"{source.folder}: {fault}") from fault
        self._tower = _ImageTower(tensors, source.traits, self._dtype)
        self._text = _TextTower(tensors, source.traits)
        for tower in (self._tower, self._text):
            tower.to(self._device).eval().requires_grad_(False)
        self.patches = len(self._tower.positions)
        self._tokenizer, self._pad = load_tokenizer(source.folder)
        self._strict = source.config.get("model_type") != "siglip2"
        if self._tokenizer.get_vocab_size() > len(self._text.table):
            raise EncoderError(
                f"{source.folder / TOKENIZER}: {self._tokenizer.get_vocab_size()} tokens, the "
                f"model knows {len(self._text.table)}"
            )
        scale, bias = (state.get(f"logit_{name}") for name in ("scale", "bias"))
        if scale is not None and bias is not None and scale.numel() == bias.numel() == 1:
            factor, zero = sigmoid_calibration(float(scale.float().exp()), float(bias))
            self._info = replace(self._info, scale=factor, zero=zero)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, the end mark included."""
        return len(self._tokenizer.encode(canonical(text, self._strict)).ids)

    def _embed(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        out: Tensor = self._tower(views, keep)
        return out

    def _early(self, views: Tensor) -> list[Tensor]:
        return self._tower.features(views)

    def _embed_with_maps(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._tower.forward_features(views)

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        context = self._info.context or 64
        rows = []
        for text in texts:
            ids = self._tokenizer.encode(canonical(text, self._strict)).ids
            if len(ids) > context:  # the end mark stays
                ids = [*ids[: context - 1], ids[-1]]
            rows.append(ids + [self._pad] * (context - len(ids)))
        tokens = torch.tensor(rows, device=self._device)
        return torch.cat([self._text(part) for part in tokens.split(_TEXTS_AT_ONCE)])


def canonical(text: str, strict: bool = True) -> str:
    """Return a text as SigLIP was trained on it.

    Args:
        text: Any text.
        strict: SigLIP: punctuation is left out, too; SigLIP 2: only lower-cased.

    Returns:
        In lower case, single spaces.
    """
    if strict:
        text = text.translate(str.maketrans("", "", string.punctuation))
    return " ".join(text.lower().split())


def load_tokenizer(folder: Path) -> tuple[Any, int]:
    """Load the tokenizer of a folder.

    Args:
        folder: With `tokenizer.json`, and `tokenizer_config.json` for the padding.

    Returns:
        The tokenizer, without padding and cutting, and the id that texts are padded with.

    Raises:
        EncoderError: The package is missing, or the files are missing or damaged.
    """
    try:
        package = importlib.import_module("tokenizers")
    except ImportError as fault:
        raise EncoderError(
            f"{folder}: SigLIP needs tokenizers: pip install clipig[siglip]"
        ) from fault
    path = folder / TOKENIZER
    if not path.is_file() or path.stat().st_size > _MAX_TOKENIZER:
        raise EncoderError(f"{folder}: {TOKENIZER} is missing (or too large): the tokens of SigLIP")
    try:
        tokenizer = package.Tokenizer.from_file(str(path))
    except Exception as fault:  # the package raises plain exceptions
        raise EncoderError(f"{path}: damaged ({str(fault)[:120]})") from fault
    pad = (tokenizer.padding or {}).get("pad_id")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if (folder / "tokenizer_config.json").is_file():
        said = read_config(folder / "tokenizer_config.json").get("pad_token")
        said = said.get("content") if isinstance(said, dict) else said
        known = tokenizer.token_to_id(said) if isinstance(said, str) else None
        pad = pad if known is None else known
    return tokenizer, 1 if pad is None else int(pad)


def _activation(traits: Traits) -> Activation:
    if traits.activation == "quick_gelu":
        raise EncoderError("a SigLIP with QuickGELU, which no published one has")
    return traits.activation or "gelu_tanh"


def _blocks(
    tensors: Mapping[str, Tensor], prefix: str, heads: int, traits: Traits, dtype: torch.dtype
) -> nn.ModuleList:
    count = count_children({key: () for key in tensors}, prefix)
    return nn.ModuleList(
        TransformerBlock(
            tensors, f"{prefix}{i}.", heads, _activation(traits), traits.epsilon, dtype
        )
        for i in range(count)
    )
