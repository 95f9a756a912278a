"""A fixed random encoder that costs next to nothing, for tests of the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError


class TinyEncoder:
    """Two smooth convolutions with weights from `seed`; texts are hashed into vectors.

    The same seed gives the same model everywhere. Rows do not influence each
    other. Texts of more than 77 words are refused like too many tokens.
    """

    def __init__(
        self, seed: int = 0, size: int = 16, width: int = 8, device: str | torch.device = "cpu"
    ):
        self._info = EncoderInfo(
            f"tiny-{seed}", size, width, 77, "a test asked for it", f"sha256:{seed:064x}"
        )
        self._device = torch.device(device)
        rng = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            fan_in = shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
            out: Tensor = torch.randn(shape, generator=rng) / fan_in**0.5
            return out.to(self._device)

        self._conv1, self._conv2 = draw(8, 3, 4, 4), draw(16, 8, 2, 2)
        self._grid = (size // 4) // 2
        self._out = draw(width, 16 * self._grid**2)

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def features(self, views: Tensor) -> list[Tensor]:
        first = torch.tanh(F.conv2d(views * 2 - 1, self._conv1, stride=4))
        return [first, torch.tanh(F.conv2d(first, self._conv2, stride=2))]

    def encode_image(self, views: Tensor) -> Tensor:
        side = self._info.size
        assert views.shape[1:] == (3, side, side), views.shape
        return F.normalize(self.features(views)[1].flatten(1) @ self._out.T, dim=-1)

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        rows = []
        for text in texts:
            if not text.strip():
                raise EncoderError("the text is empty")
            if self.count_tokens(text) > 77 and not truncate:
                raise EncoderError(f"the text has {self.count_tokens(text)} tokens, 77 are allowed")
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
            rng = torch.Generator().manual_seed(seed)
            rows.append(torch.randn(self._info.width, generator=rng))
        found = torch.stack(rows) if rows else torch.empty(0, self._info.width)
        return F.normalize(found, dim=-1).to(self._device)
