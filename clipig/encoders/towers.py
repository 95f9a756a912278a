"""CLIP's image towers, laid out for one job: the gradient to the input, weights frozen.

Both hold the weights of a `clip.model` tower and compute the same function
(tests compare them), but cheaper where nothing needs a weight's gradient:

- the mean/std of the pixels is folded into the patch convolution, batch
  normalisation into the convolution before it;
- QuickGELU, x * sigmoid(1.702 x), becomes one fused kernel: silu(1.702 x) / 1.702,
  with both factors folded into the linear layers around it;
- attention is `scaled_dot_product_attention` on [B, heads, T, d] (one exception, below);
- only the class token of the last block is used, so only that is computed.

The weights are cast once to the dtype of the arithmetic, not in every call as
autocast would (it caches casts only of weights that need a gradient). The
residual stream and layer norms stay float32.

Models: Radford et al. 2021, "Learning Transferable Visual Models From Natural
Language Supervision", arXiv:2103.00020.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_GELU = 1.702
_EARLY_BLOCKS = 4  # of a transformer that `features` looks at


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] to [B, heads, T, D / heads]."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of q [B, Q, D] over k, v [B, T, D]; returns [B, Q, D].

    On a CPU in half precision two matrix products take a sixth of the time of
    the fused kernel, whose backward is slow there (torch 2.15, 50 tokens).
    """
    q, k, v = (_split_heads(x, heads) for x in (q, k, v))
    if q.device.type == "cpu" and q.dtype != torch.float32:
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        out = weights.softmax(dim=-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v)
    joined: Tensor = out.transpose(1, 2).flatten(2)
    return joined


class Block(nn.Module):
    """One residual attention block of the vision transformer."""

    def __init__(self, source: Any, dtype: torch.dtype):
        super().__init__()
        self.heads: int = source.attn.num_heads
        self.norm1, self.norm2 = _plain_norm(source.ln_1), _plain_norm(source.ln_2)
        fc, proj = source.mlp.c_fc, source.mlp.c_proj
        for name, value in {
            "qkv_weight": source.attn.in_proj_weight,
            "qkv_bias": source.attn.in_proj_bias,
            "out_weight": source.attn.out_proj.weight,
            "out_bias": source.attn.out_proj.bias,
            "up_weight": fc.weight * _GELU,
            "up_bias": fc.bias * _GELU,
            "down_weight": proj.weight / _GELU,
            "down_bias": proj.bias,
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
        return x + F.linear(F.silu(y), self.down_weight, self.down_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] float32 to the same."""
        y = self.norm1(x).to(self.qkv_weight.dtype)
        q, k, v = F.linear(y, self.qkv_weight, self.qkv_bias).chunk(3, dim=-1)
        y = _attend(q, k, v, self.heads)
        return self._mlp(x + F.linear(y, self.out_weight, self.out_bias))

    def forward_first(self, x: Tensor) -> Tensor:
        """Token 0 of what `forward` returns: [B, T, D] to [B, 1, D]."""
        width = x.shape[-1]
        y = self.norm1(x).to(self.qkv_weight.dtype)
        q = F.linear(y[:, :1], self.qkv_weight[:width], self.qkv_bias[:width])
        k, v = F.linear(y, self.qkv_weight[width:], self.qkv_bias[width:]).chunk(2, dim=-1)
        y = _attend(q, k, v, self.heads)
        return self._mlp(x[:, :1] + F.linear(y, self.out_weight, self.out_bias))


def _plain_norm(source: nn.LayerNorm) -> nn.LayerNorm:
    norm = nn.LayerNorm(source.normalized_shape, eps=source.eps)
    norm.weight, norm.bias = source.weight, source.bias
    return norm


class TransformerTower(nn.Module):
    """CLIP's vision transformer. Takes pixels in [0, 1], gives unnormalised embeddings."""

    def __init__(self, source: Any, dtype: torch.dtype):
        super().__init__()
        weight = source.conv1.weight.detach()
        self.patch: int = weight.shape[-1]
        mean, std = (weight.new_tensor(c).view(1, 3, 1, 1) for c in (MEAN, STD))
        weight = weight / std
        self.register_buffer("stem_weight", weight.flatten(1).to(dtype), persistent=False)
        # The mean is taken off the pixels exactly; in half precision a folded bias would not be.
        self.register_buffer("mean", mean, persistent=False)
        positions = source.positional_embedding.detach()
        first = (source.class_embedding.detach() + positions[0]).view(1, 1, -1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("positions", positions[1:], persistent=False)
        self.norm_pre, self.norm_post = _plain_norm(source.ln_pre), _plain_norm(source.ln_post)
        self.blocks = nn.ModuleList(Block(b, dtype) for b in source.transformer.resblocks)
        self.register_buffer("proj", source.proj.detach(), persistent=False)

    stem_weight: Tensor
    mean: Tensor
    first: Tensor
    positions: Tensor
    proj: Tensor

    def _patches(self, views: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, T, D]: the convolution as one matrix product."""
        p = self.patch
        batch, _, height, width = views.shape
        x = (views - self.mean).reshape(batch, 3, height // p, p, width // p, p)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(x.to(self.stem_weight.dtype), self.stem_weight)

    def _tokens(self, patches: Tensor) -> Tensor:
        x = patches.float() + self.positions
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        out: Tensor = self.norm_pre(x)
        return out

    def forward(self, views: Tensor) -> Tensor:
        """`[B, 3, size, size]` float32 to `[B, D]` float32."""
        return self._finished(self._tokens(self._patches(views)), 0)

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
        done = min(len(self.blocks) - 1, _EARLY_BLOCKS)
        return self._finished(tokens[done], done), found

    def _early(self, views: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Early maps, and the tokens before each block and after the last early one."""
        patches = self._patches(views)
        side = views.shape[-1] // self.patch
        tokens = [self._tokens(patches)]
        for block in self.blocks[:_EARLY_BLOCKS]:
            tokens.append(block(tokens[-1]))
        found = [patches.float(), *(x[:, 1:] for x in tokens[1:])]
        return [f.transpose(1, 2).reshape(f.shape[0], -1, side, side) for f in found], tokens


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

    def __init__(self, source: Any, dtype: torch.dtype):
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
            "mean": torch.tensor(MEAN, device=pool.positional_embedding.device).view(1, 3, 1, 1),
            "std": torch.tensor(STD, device=pool.positional_embedding.device).view(1, 3, 1, 1),
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
        x = _attend(self.query(x[:, :1]), self.key(x), self.value(x), self.heads)
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
