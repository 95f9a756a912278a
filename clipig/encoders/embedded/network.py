"""The two towers of the embedded CLIP. Their shape comes from the weights file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class NetworkConfig:
    """All that is needed to build the network before its weights are read.

    size        side of the square input picture, pixels
    width       D, width of the joint embedding
    stem        (kernel, stride) of the first convolution
    channels    channels of each stage; every stage after the first halves the sides
    depths      residual blocks in each stage
    activation  "silu" or "gelu"
    maps        learned spatial maps of the read-out
    words       rows of the word table without padding and unknown
    buckets     rows of the table of hashed letter groups without padding
    groups      letter groups kept per word
    context     greatest number of words
    text_width  width of the text tower
    text_depth  transformer layers of the text tower
    """

    size: int = 64
    width: int = 256
    stem: tuple[int, int] = (5, 2)
    channels: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (0, 1, 1, 1)
    activation: str = "silu"
    maps: int = 4
    words: int = 0
    buckets: int = 8192
    groups: int = 10
    context: int = 24
    text_width: int = 128
    text_depth: int = 2

    @property
    def grid(self) -> int:
        """Side of the last feature map."""
        return self.size // self.stem[1] // 2 ** (len(self.channels) - 1)


class Block(nn.Module):
    """Pre-activation residual block, two 3x3 convolutions; starts as the identity."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = activation()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(_bias(self.conv2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x)))
        return x + self.conv2(self.activation(self.norm2(h)))

    def fold(self) -> None:
        self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm2)
        self.norm2 = nn.Identity()


class ImageTower(nn.Module):
    """Convolutions, then a read-out that knows where things are.

    Shape: `[B, 3, size, size]` in [0, 1] to `[B, D]`, rows of length one.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        self.stages = nn.ModuleList()
        before = 3
        for i, (channels, depth) in enumerate(zip(config.channels, config.depths, strict=True)):
            if i == 0:
                kernel, stride = config.stem
                padding = kernel // 2 if stride < kernel else 0
                entry: list[nn.Module] = [nn.Conv2d(3, channels, kernel, stride, padding)]
            else:
                entry = [
                    nn.BatchNorm2d(before),
                    activation(),
                    nn.Conv2d(before, channels, 3, 2, 1),
                ]
            blocks = [Block(channels, activation) for _ in range(depth)]
            self.stages.append(nn.Sequential(*entry, *blocks))
            before = channels
        self.norm = nn.BatchNorm2d(before)
        self.activation = activation()
        cells = config.grid**2
        self.maps = nn.Parameter(torch.randn(config.maps, before, cells) * 0.02 + 1 / cells)
        self.project = nn.Linear(config.maps * before, config.width)
        self.whiten = nn.BatchNorm1d(config.width, affine=False, momentum=0.02)

    def forward(self, views: Tensor) -> Tensor:
        x = self.stage_outputs(views)[-1]
        x = self.activation(self.norm(x))
        x = torch.einsum("ncp,kcp->nkc", x.flatten(2), self.maps.to(x.dtype)).flatten(1)
        return F.normalize(self.whiten(self.project(x).float()), dim=-1)

    def stage_outputs(self, views: Tensor) -> list[Tensor]:
        """Activations after every stage, `[B, C, h, w]` each."""
        x = (views - 0.5) * 4
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def fold(self) -> None:
        """Merge every batch norm that directly follows a convolution (eval mode only)."""
        for module in self.modules():
            if isinstance(module, Block):
                module.fold()


class TextTower(nn.Module):
    """Word vectors plus hashed letter groups, a small transformer, mean and bag of words.

    Shape: words `[P, T]` and letter groups `[P, T, G]` (0 is padding) to `[P, D]`,
    rows of length one.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.text_width
        self.words = nn.Embedding(config.words + 2, width, padding_idx=0)
        self.letters = nn.EmbeddingBag(config.buckets + 1, width, mode="mean", padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.letters.weight, std=0.5)
        with torch.no_grad():
            self.words.weight[0] = 0
            self.letters.weight[0] = 0
        self.position = nn.Parameter(torch.randn(config.context, width) * 0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.text_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(2 * width, config.width)
        self.whiten = nn.BatchNorm1d(config.width, affine=False, momentum=0.02)

    def forward(self, words: Tensor, letters: Tensor) -> Tensor:
        length = max(int((words > 0).sum(1).max()), 1)
        words, letters = words[:, :length], letters[:, :length]
        there = (words > 0)[..., None]
        count = there.sum(1).clamp(min=1)
        x = self.words(words) + self.letters(letters.flatten(0, 1)).view(*words.shape, -1)
        x = (x + self.position[:length]) * there
        bag = x.sum(1) / count
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=words == 0)
        mean = (self.norm(x) * there).sum(1) / count
        x = self.project(torch.cat([mean, bag], 1))
        return F.normalize(self.whiten(x.float()), dim=-1)


class EmbeddedNetwork(nn.Module):
    """Both towers. `state_dict` of this module is what the weights file holds."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
