"""What every encoder that is built on a torch tower shares: checks of shapes, fp16 gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.encoders.precision import GradientScale, to_dtype
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError


class TowerEncoder:
    """The common half of an `Encoder`: a subclass adds the two towers.

    A subclass implements `_embed`, `_early` and, where one pass can do both,
    `_embed_with_maps`; for texts `_encode_rows`, `_tokens_of` and `count_tokens`.
    """

    def __init__(self, info: EncoderInfo, device: str | torch.device, precision: str):
        self._info = info
        self._device = torch.device(device)
        self._dtype = to_dtype(precision)

    @property
    def info(self) -> EncoderInfo:
        """What is known of the encoder, its sizes as loaded."""
        return self._info

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image tower's arithmetic; inputs and outputs are float32."""
        return self._dtype

    patches: int = 0
    """how many patches a view is cut into, 0 where none can be left out"""

    def encode_image(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embed views.

        Args:
            views: `[B, 3, size, size]`, sRGB in 0..1 (values outside are allowed).
            keep: `[B, K]`, indices of the patches of each view that are looked at, each below
                `patches`; None: all. (Patch dropout: Liu et al. 2023, arXiv:2208.07220;
                Li et al. 2023, "FLIP", arXiv:2212.00794.)

        Returns:
            `[B, D]` float32, each row of length one; differentiable to `views`.

        Raises:
            EncoderError: The views have another shape.
        """
        scale, x = self._scaled(views)
        return F.normalize(scale.enlarge(self._embed(x, keep))[0], dim=-1)

    def features(self, views: Tensor) -> list[Tensor]:
        """Compute the maps of the early layers, for style losses.

        Args:
            views: As in `encode_image`.

        Returns:
            First layer first, each `[B, C, h, w]` float32, differentiable.

        Raises:
            EncoderError: The views have another shape, or the tower shows no early layers.
        """
        scale, x = self._scaled(views)
        return list(scale.enlarge(*self._early(x)))

    def encode_with_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what `encode_image` and `features` return, from one pass."""
        scale, x = self._scaled(views)
        embedded, maps = self._embed_with_maps(x)
        embedded, *maps = scale.enlarge(embedded, *maps)
        return F.normalize(embedded, dim=-1), maps

    def encode_text(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """Embed texts.

        Args:
            texts: P texts.
            truncate: Cut texts that are too long instead of refusing them.

        Returns:
            `[P, D]` float32 of length one, no gradient.

        Raises:
            EncoderError: A text is empty or longer than the context.
        """
        if isinstance(texts, str):
            texts = [texts]
        for text in texts:
            self._check_text(text, truncate)
        if not texts:
            return torch.empty(0, self._info.width, device=self._device)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            return F.normalize(self._embed_texts(texts).float(), dim=-1)

    def count_tokens(self, text: str) -> int | None:
        """Count the tokens of a text, start and end marks included; None if unknown."""
        raise NotImplementedError

    def _embed(self, views: Tensor, keep: Tensor | None = None) -> Tensor:
        """`[B, 3, size, size]` float32 to `[B, D]`, not normalised."""
        raise NotImplementedError

    def _early(self, views: Tensor) -> list[Tensor]:
        """The early maps `[B, C, h, w]` float32."""
        raise NotImplementedError

    def _embed_with_maps(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._embed(views), self._early(views)

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Checked texts, at least one, to `[P, D]`; those that are too long are cut."""
        raise NotImplementedError

    def _scaled(self, views: Tensor) -> tuple[GradientScale, Tensor]:
        """Checked views, and what keeps gradients inside the range of the arithmetic."""
        side = self._info.size
        if views.ndim != 4 or tuple(views.shape[1:]) != (3, side, side):
            raise EncoderError(
                f"{self._info.name} takes images [B, 3, {side}, {side}], got {list(views.shape)}"
            )
        scale = GradientScale(self._dtype == torch.float16)
        return scale, scale.restore(views.to(self._device, torch.float32))

    def _check_text(self, text: str, truncate: bool) -> None:
        if not text.strip():
            raise EncoderError("the text is empty; a prompt needs at least one word")
        limit, count = self._info.context, self.count_tokens(text)
        if limit is None or count is None or count <= limit or truncate:
            return
        raise EncoderError(
            f"the text {shorten(text)} has {count} tokens, {count - limit} more than the {limit} "
            f"that {self._info.name} takes; shorten it or ask for it to be cut with truncate: true"
        )


def shorten(text: str, length: int = 60) -> str:
    """Return the text in quotes, cut to `length` characters for a message."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")
