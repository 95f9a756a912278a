"""The two towers of the embedded CLIP. Their shape comes from the weights file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ACTIVATIONS = {"silu": nn.SiLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class NetworkConfig:
    """All that is needed to build the network before its weights are read."""

    size: int = 64  # side of the square input picture, pixels
    width: int = 256  # D, width of the joint embedding
    stem: tuple[int, int] = (5, 2)  # kernel and stride of the first convolution
    channels: tuple[int, ...] = (32, 64, 128, 256)  # per stage; each one halves the sides
    depths: tuple[int, ...] = (0, 1, 1, 1)  # residual blocks per stage
    activation: str = "silu"  # or "gelu"
    maps: int = 4  # learned spatial maps of the read-out
    words: int = 0  # rows of the word table without padding and unknown
    buckets: int = 8192  # rows of the table of hashed letter groups without padding
    groups: int = 10  # letter groups kept per word
    context: int = 24  # greatest number of words
    text_width: int = 128
    text_depth: int = 2  # transformer layers of the text tower

    @property
    def grid(self) -> int:
        """Side of the last feature map."""
        return self.size // self.stem[1] >> (len(self.channels) - 1)


class Block(nn.Module):
    """Pre-activation residual block, two 3x3 convolutions."""

    def __init__(self, channels: int, activation: nn.Module):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x)))
        h = self.conv2(self.activation(self.norm2(h)))
        return torch.add(x, h)

    def fold(self) -> None:
        """Merge the batch norm that follows the first convolution (eval mode only)."""
        if isinstance(self.norm2, nn.BatchNorm2d):
            self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm2)
            self.norm2 = nn.Identity()


class ImageTower(nn.Module):
    """Convolutions, then a read-out by learned spatial maps, which knows where things are.

    Shape: `[B, 3, size, size]` in [0, 1] to `[B, D]`, rows of length one.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        act = ACTIVATIONS[config.activation]()
        kernel, stride = config.stem
        before = config.channels[0]
        self.stages = nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(config.channels, config.depths, strict=True)):
            if i == 0:
                entry: list[nn.Module] = [nn.Conv2d(3, channels, kernel, stride, kernel // 2)]
            else:
                down = nn.Conv2d(before, channels, 3, 2, 1)
                entry = [nn.BatchNorm2d(before), act, down]
            self.stages.append(nn.Sequential(*entry, *(Block(channels, act) for _ in range(depth))))
            before = channels
        self.norm, self.activation = nn.BatchNorm2d(before), act
        self.maps = nn.Parameter(torch.zeros(config.maps, before, config.grid**2))
        self.project = nn.Linear(config.maps * before, config.width)
        self.whiten = nn.BatchNorm1d(config.width, affine=False, momentum=0.02)

    def forward(self, views: Tensor) -> Tensor:
        return self.read_out(self.stage_outputs(views)[-1])

    def read_out(self, last: Tensor) -> Tensor:
        """The output of the last stage to `[B, D]`."""
        x = self.activation(self.norm(last))
        x = torch.einsum("ncp,kcp->nkc", x.flatten(2), self.maps.to(x.dtype)).flatten(1)
        return F.normalize(self.whiten(self.project(x).float()), dim=-1)

    def stage_outputs(self, views: Tensor, count: int | None = None) -> list[Tensor]:
        """Activations after every stage, or the first `count`, `[B, C, h, w]` each."""
        outputs = [(views - 0.5) * 4]
        for stage in self.stages[:count]:
            outputs.append(stage(outputs[-1]))
        return outputs[1:]


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
        self.position = nn.Parameter(torch.zeros(config.context, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 3 * width, 0.0, "gelu", 1e-5, True, True)
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
        return F.normalize(self.whiten(self.project(torch.cat([mean, bag], 1)).float()), dim=-1)


class EmbeddedNetwork(nn.Module):
    """Both towers. `state_dict` of this module is what the weights file holds."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)
