"""The encoder of the tables: an embedding that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipig.encoders.protocol import EncoderInfo


class ColourEncoder:
    """Pictures become their mean colour times `matrix` `[3, D]`, texts the numbers in them."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, matrix: Sequence[Sequence[float]], size: int):
        self.matrix = torch.tensor(matrix)
        self.info = EncoderInfo("colour", size, self.matrix.shape[1], reason="a table's")

    def encode_image(self, views: Tensor) -> Tensor:
        return torch.nn.functional.normalize(views.mean((2, 3)) @ self.matrix, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        numbers = torch.tensor([[float(n) for n in text.split()] for text in texts])
        return torch.nn.functional.normalize(numbers, dim=-1)

    def features(self, views: Tensor) -> list[Tensor]:
        return [views]
