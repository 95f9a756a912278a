"""What the engine asks of an image-text model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncoderInfo:
    """What is known of an encoder before its weights are loaded.

    name        as the user writes it (`embedded`, `ViT-B/32`, a path ...)
    size        side of the square input picture in pixels
    width       D, width of the embedding
    context     greatest number of text tokens, None if there is no limit
    reason      why this encoder was chosen, for the output and the metadata
    checksum    "sha256:<hex>" of the weights, "" where not known yet
    """

    name: str
    size: int
    width: int
    context: int | None = None
    reason: str = ""
    checksum: str = ""


@runtime_checkable
class Encoder(Protocol):
    """A frozen image-text model in eval mode.

    All weights have `requires_grad=False`; `encode_image` is differentiable to
    its input and nothing else. An encoder may also have `encode_with_features`,
    which gives what `encode_image` and `features` do in one pass.
    """

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def encode_image(self, views: Tensor) -> Tensor:
        """Embed pictures.

        `views`: `[B, 3, size, size]`, sRGB; nominally in [0, 1], values outside
        are allowed. The model's own mean/std normalisation happens inside.
        Returns `[B, D]` float32, each row of length one.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: `[P, D]` float32, rows of length one, no gradient.

        Raises `EncoderError` for a text that is empty or longer than the
        model's context (the message says by how much).
        """
        ...

    def features(self, views: Tensor) -> list[Tensor]:
        """Activations of the early layers, first layer first, for style losses.

        `views` as in `encode_image`. A list of `[B, C, h, w]` float32, differentiable;
        a transformer's tokens lie on their grid. Later layers are not run.
        """
        ...
