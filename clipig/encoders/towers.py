"""CLIP's towers, laid out for one job: the gradient to the input, weights frozen.

They compute the same function as the models they are named after (tests compare
them), but cheaper where nothing needs a weight's gradient:

- the std of the pixels is folded into the patch convolution, batch
  normalisation into the convolution before it;
- QuickGELU, x * sigmoid(1.702 x), becomes one fused kernel: silu(1.702 x) / 1.702,
  with both factors folded into the linear layers around it;
- attention is `scaled_dot_product_attention` on [B, heads, T, d] (one exception, below);
- only the class token of the last block is used, so only that is computed.

The weights are cast once to the dtype of the arithmetic, not in every call as
autocast would (it caches casts only of weights that need a gradient). The
residual stream and layer norms stay float32.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural
Language Supervision", arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipig.encoders.architecture import MEAN, STD, Activation, Architecture

Tensors = Mapping[str, Tensor]

_QUICK = 1.702  # the factor in QuickGELU
EARLY_BLOCKS = 4  # of a transformer whose maps are the early ones


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] to [B, heads, T, D / heads]."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Compute attention of `q` over `k` and `v`.

    On a CPU in half precision two matrix products take a sixth of the time of
    the fused kernel, whose backward is slow there (torch 2.15, 50 tokens).

    Args:
        q: `[B, Q, D]`.
        k: `[B, T, D]`.
        v: `[B, T, D]`.
        heads: Number of heads that share D.
        causal: Whether a token sees only those before it (Q = T, float32).

    Returns:
        `[B, Q, D]`.
    """
    q, k, v = (_split_heads(x, heads) for x in (q, k, v))
    if q.device.type == "cpu" and q.dtype != torch.float32:
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        out = weights.softmax(dim=-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    joined: Tensor = out.transpose(1, 2).flatten(2)
    return joined


def layer_norm(tensors: Tensors, key: str, epsilon: float) -> nn.LayerNorm:
    """Make a layer norm of `key.weight` and `key.bias`."""
    weight = tensors[f"{key}.weight"]
    norm = nn.LayerNorm(weight.shape, eps=epsilon, device="meta")
    norm.weight = nn.Parameter(weight, requires_grad=False)
    norm.bias = nn.Parameter(tensors[f"{key}.bias"], requires_grad=False)
    return norm


class TransformerBlock(nn.Module):
    """One residual attention block, by OpenAI's names below `prefix`."""

    def __init__(
        self, tensors: Tensors, prefix: str, heads: int, activation: Activation,
        epsilon: float, dtype: torch.dtype, causal: bool = False,
    ):
        super().__init__()
        self.heads, self.causal, self.activation = heads, causal, activation
        self.norm1 = layer_norm(tensors, f"{prefix}ln_1", epsilon)
        self.norm2 = layer_norm(tensors, f"{prefix}ln_2", epsilon)
        quick = _QUICK if activation == "quick_gelu" else 1.0
        for name, value in {
            "qkv_weight": tensors[f"{prefix}attn.in_proj_weight"],
            "qkv_bias": tensors[f"{prefix}attn.in_proj_bias"],
            "out_weight": tensors[f"{prefix}attn.out_proj.weight"],
            "out_bias": tensors[f"{prefix}attn.out_proj.bias"],
            "up_weight": tensors[f"{prefix}mlp.c_fc.weight"] * quick,
            "up_bias": tensors[f"{prefix}mlp.c_fc.bias"] * quick,
            "down_weight": tensors[f"{prefix}mlp.c_proj.weight"] / quick,
            "down_bias": tensors[f"{prefix}mlp.c_proj.bias"],
        }.items():
            self.register_buffer(name, value.detach().to(dtype), persistent=False)

    qkv_weight: Tensor
    qkv_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    down_weight: Tensor
    down_bias: Tensor

    def _mlp(self, x: Tensor) -> Tensor:
        y = F.linear(self.norm2(x).to(self.up_weight.dtype), self.up_weight, self.up_bias)
        return x + F.linear(activate(y, self.activation), self.down_weight, self.down_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] float32 to the same."""
        y = self.norm1(x).to(self.qkv_weight.dtype)
        q, k, v = F.linear(y, self.qkv_weight, self.qkv_bias).chunk(3, dim=-1)
        y = attend(q, k, v, self.heads, self.causal)
        return self._mlp(x + F.linear(y, self.out_weight, self.out_bias))

    def forward_first(self, x: Tensor) -> Tensor:
        """Token 0 of what `forward` returns: [B, T, D] to [B, 1, D]."""
        width = x.shape[-1]
        y = self.norm1(x).to(self.qkv_weight.dtype)
        q = F.linear(y[:, :1], self.qkv_weight[:width], self.qkv_bias[:width])
        k, v = F.linear(y, self.qkv_weight[width:], self.qkv_bias[width:]).chunk(2, dim=-1)
        y = attend(q, k, v, self.heads)
        return self._mlp(x[:, :1] + F.linear(y, self.out_weight, self.out_bias))


def activate(y: Tensor, activation: Activation) -> Tensor:
    """The nonlinearity of a block; QuickGELU's factors are folded into the weights."""
    if activation == "quick_gelu":
        return F.silu(y)
    return F.gelu(y, approximate="tanh" if activation == "gelu_tanh" else "none")


class PatchStem(nn.Module):
    """Pixels to patches: normalisation and the patch convolution as one matrix product.

    Args of the constructor: `weight` `[D, 3, p, p]`, `bias` `[D]` or None.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, mean: tuple[float, ...],
        std: tuple[float, ...], dtype: torch.dtype,
    ):
        super().__init__()
        self.patch: int = weight.shape[-1]
        center, spread = (weight.new_tensor(c).view(1, 3, 1, 1) for c in (mean, std))
        self.register_buffer("weight", (weight / spread).flatten(1).to(dtype), persistent=False)
        # The mean is taken off the pixels exactly; in half precision a folded bias would not be.
        self.register_buffer("mean", center, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(dtype), persistent=False)

    weight: Tensor
    mean: Tensor
    bias: Tensor | None

    def forward(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, 3, H, W] to [B, T, D] in the arithmetic's dtype; with `keep` [B, K] these of T."""
        p = self.patch
        batch, _, height, width = views.shape
        x = (views - self.mean).reshape(batch, 3, height // p, p, width // p, p)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def to_map(tokens: Tensor) -> Tensor:
    """Tokens of a square grid, `[B, g*g, C]`, as a map `[B, C, g, g]`."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


class TransformerTower(nn.Module):
    """CLIP's vision transformer. Takes pixels in [0, 1], gives unnormalised embeddings."""

    def __init__(self, tensors: Tensors, architecture: Architecture, dtype: torch.dtype):
        super().__init__()
        traits = architecture.traits
        assert traits.activation is not None
        self.stem = PatchStem(
            tensors["visual.conv1.weight"], None, traits.mean, traits.std, dtype
        )
        positions = tensors["visual.positional_embedding"]
        first = (tensors["visual.class_embedding"] + positions[0]).view(1, 1, -1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("positions", positions[1:], persistent=False)
        self.norm_pre = layer_norm(tensors, "visual.ln_pre", traits.epsilon)
        self.norm_post = layer_norm(tensors, "visual.ln_post", traits.epsilon)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                tensors, f"visual.transformer.resblocks.{i}.", architecture.vision_heads,
                traits.activation, traits.epsilon, dtype,
            )
            for i in range(int(architecture.vision_layers))  # type: ignore[arg-type]
        )
        self.register_buffer("proj", tensors["visual.proj"], persistent=False)

    first: Tensor
    positions: Tensor
    proj: Tensor

    def _tokens(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        places = self.positions if keep is None else self.positions[keep]
        x = patches.float() + places
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        out: Tensor = self.norm_pre(x)
        return out

    def forward(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        """`[B, 3, size, size]` float32 to `[B, D]` float32; `keep`: of these patches only."""
        return self._finished(self._tokens(self.stem(views, keep), keep), 0)

    def _finished(self, x: Tensor, done: int) -> Tensor:
        """Tokens after `done` blocks, not the last, to `[B, D]`."""
        for block in self.blocks[done:-1]:
            x = block(x)
        x = self.blocks[-1].forward_first(x)[:, 0]  # type: ignore[operator]
        out: Tensor = self.norm_post(x) @ self.proj
        return out

    def features(self, views: Tensor) -> list[Tensor]:
        """The patch grid and the outputs of the first four blocks, each `[B, C, g, g]`."""
        return self._early(views)[0]

    def forward_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` and `features` give, in one pass."""
        found, tokens = self._early(views)
        done = min(len(self.blocks) - 1, EARLY_BLOCKS)
        return self._finished(tokens[done], done), found

    def _early(self, views: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Early maps, and the tokens before each block and after the last early one."""
        patches = self.stem(views)
        tokens = [self._tokens(patches)]
        for block in self.blocks[:EARLY_BLOCKS]:
            tokens.append(block(tokens[-1]))
        return [to_map(f) for f in (patches.float(), *(x[:, 1:] for x in tokens[1:]))], tokens


class TextTower(nn.Module):
    """CLIP's causal text transformer, in float32. Gives unnormalised embeddings."""

    def __init__(self, tensors: Tensors, architecture: Architecture):
        super().__init__()
        traits = architecture.traits
        assert traits.activation is not None
        self.register_buffer("table", tensors["token_embedding.weight"], persistent=False)
        self.register_buffer("positions", tensors["positional_embedding"], persistent=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                tensors, f"transformer.resblocks.{i}.", architecture.text_heads,
                traits.activation, traits.epsilon, torch.float32, causal=True,
            )
            for i in range(architecture.text_layers)
        )
        self.norm = layer_norm(tensors, "ln_final", traits.epsilon)
        self.register_buffer("proj", tensors["text_projection"], persistent=False)

    table: Tensor
    positions: Tensor
    proj: Tensor

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Embed texts.

        Args:
            tokens: `[P, T]` token ids, filled up with any id after the end mark.
            ends: `[P]` position of the end mark, whose vector is the text's.

        Returns:
            `[P, D]`.
        """
        x = F.embedding(tokens, self.table) + self.positions
        for block in self.blocks:
            x = block(x)
        rows = torch.arange(len(x), device=x.device)
        out: Tensor = self.norm(x[rows, ends]) @ self.proj
        return out


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> nn.Conv2d:
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm.eval())
    # Channels last halves the time in bf16 on a CPU (RN50), and is no worse elsewhere.
    return fused.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Bottleneck(nn.Module):
    """One residual block of CLIP's ResNet, batch normalisation folded in."""

    def __init__(self, source: Any, dtype: torch.dtype):
        super().__init__()
        self.conv1 = _fused(source.conv1, source.bn1, dtype)
        self.conv2 = _fused(source.conv2, source.bn2, dtype)
        self.conv3 = _fused(source.conv3, source.bn3, dtype)
        self.stride: int = source.stride
        down = source.downsample
        self.down = None if down is None else _fused(down[1], down[2], dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        if self.stride > 1:
            y = F.avg_pool2d(y, self.stride)
        y = self.conv3(y)
        if self.down is not None:
            x = self.down(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.relu(y + x)


class ResNetTower(nn.Module):
    """CLIP's ResNet. Takes pixels in [0, 1], gives unnormalised embeddings."""

    def __init__(
        self, source: Any, dtype: torch.dtype, mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ):
        super().__init__()
        self.dtype = dtype
        self.stem = nn.ModuleList(
            _fused(getattr(source, f"conv{i}"), getattr(source, f"bn{i}"), dtype) for i in (1, 2, 3)
        )
        self.layers = nn.ModuleList(
            nn.Sequential(*(Bottleneck(b, dtype) for b in getattr(source, f"layer{i}")))
            for i in (1, 2, 3, 4)
        )
        pool = source.attnpool
        self.heads: int = pool.num_heads
        self.query, self.key, self.value = pool.q_proj, pool.k_proj, pool.v_proj
        self.out = pool.c_proj
        for name, value in {
            "positions": pool.positional_embedding.detach(),
            "mean": torch.tensor(mean, device=pool.positional_embedding.device).view(1, 3, 1, 1),
            "std": torch.tensor(std, device=pool.positional_embedding.device).view(1, 3, 1, 1),
        }.items():
            self.register_buffer(name, value, persistent=False)

    positions: Tensor
    mean: Tensor
    std: Tensor

    def _stem(self, views: Tensor) -> Tensor:
        x = ((views - self.mean) / self.std).to(self.dtype, memory_format=torch.channels_last)
        for conv in self.stem:
            x = F.relu(conv(x))
        return F.avg_pool2d(x, 2)

    def _pool(self, x: Tensor) -> Tensor:
        """Attention pooling, in float32: `[B, C, h, w]` to `[B, D]`."""
        x = x.float().flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions
        x = attend(self.query(x[:, :1]), self.key(x), self.value(x), self.heads)
        out: Tensor = self.out(x[:, 0])
        return out

    def forward(self, views: Tensor) -> Tensor:
        """`[B, 3, size, size]` float32 to `[B, D]` float32."""
        return self._finished(self._stem(views), 0)

    def _finished(self, x: Tensor, done: int) -> Tensor:
        """The output of `done` stages to `[B, D]`."""
        for layer in self.layers[done:]:
            x = layer(x)
        return self._pool(x)

    def features(self, views: Tensor) -> list[Tensor]:
        """The stem and the first two stages, each `[B, C, h, w]` float32."""
        return [f.float() for f in self._early(views)]

    def forward_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` and `features` give, in one pass."""
        found = self._early(views)
        return self._finished(found[-1], len(found) - 1), [f.float() for f in found]

    def _early(self, views: Tensor) -> list[Tensor]:
        found = [self._stem(views)]
        for layer in self.layers[:2]:
            found.append(layer(found[-1]))
        return found
