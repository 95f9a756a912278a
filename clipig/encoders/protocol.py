"""What the engine asks of an image-text model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_UNDECIDED = 25.0  # similarity at which CLIP's images begin to show their text


@dataclass(frozen=True)
class EncoderInfo:
    """What is known of an encoder before its weights are loaded.

    Attributes:
        name: As the user writes it (`embedded`, `ViT-B/32`, a path ...).
        size: Side of the square input in pixels.
        width: D, width of the embedding.
        context: Maximum number of text tokens, None if there is no limit.
        reason: Why this encoder was chosen, for the output and the metadata.
        checksum: `"sha256:<hex>"` of the weights, `""` where not known yet.
        activation: The nonlinearity of its transformers; `""` where it does not matter.
        revision: The commit of a repository of the Hugging Face hub, or `""`.
        scale: What a cosine is multiplied with to be reported as a similarity.
        zero: What is added then, so that 25 means for any model what it means for CLIP.
    """

    name: str
    size: int
    width: int
    context: int | None = None
    reason: str = ""
    checksum: str = ""
    activation: str = ""
    revision: str = ""
    scale: float = 100.0
    zero: float = 0.0


def sigmoid_calibration(scale: float, bias: float) -> tuple[float, float]:
    """How the similarities of a model with a sigmoid loss (SigLIP) are reported.

    Its cosines are small (0 to 0.15) and mean a match where `scale * cosine + bias > 0`.
    CLIP's similarities, 100 times the cosine, are logits as well, and images begin to show
    their text at about 25. So 25 is reported where SigLIP is undecided, and steps of one
    are steps of one logit for both.

    Args:
        scale: Factor of the cosine in the loss, about 110.
        bias: What the loss adds, about -13.

    Returns:
        `scale` and `zero` of `EncoderInfo`.

    Source:
        Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343.
    """
    return scale, bias + _UNDECIDED


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
        """Embed views.

        `views`: `[B, 3, size, size]`, sRGB; nominally in 0..1, values outside
        are allowed. The model's own mean/std normalisation happens inside.
        Returns `[B, D]` float32, each row of length one.
        """
        ...

    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """Embed texts: `[P, D]` float32, rows of length one, no gradient.

        Raises `EncoderError` for a text that is empty or, unless it is to be cut by
        `truncate`, longer than the model's context (the message says by how much).
        """
        ...

    def features(self, views: Tensor) -> list[Tensor]:
        """Activations of the early layers, first layer first, for style losses.

        `views` as in `encode_image`. A list of `[B, C, h, w]` float32, differentiable;
        a transformer's tokens lie on their grid. Later layers are not run.
        """
        ...
