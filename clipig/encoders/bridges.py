"""From where texts lie to where images lie: statistics of an encoder, and what they do to a text.

Texts and images are embedded in two separate cones, so a text itself is a goal that no image
reaches. A bridge moves it over. Three ways, all fitted to pairs of images and captions:

- `shift`: add the difference of the means (Liang et al. 2022, "Mind the Gap");
- `procrustes`: the rotation R = U V' of the singular value decomposition of T' I, which brings
  the texts T closest to their images I (orthogonal Procrustes; Schoenemann 1966; used for
  inversion by D'Orazio et al. 2026, "Implicit Inversion turns CLIP into a Decoder");
- `whiten`: remove mean and covariance of the texts, give those of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError
from clipig.files import atomic_write, make_folder, open_regular
from clipig.web import cache_dir

BridgeKind = Literal["shift", "procrustes", "whiten"]
BRIDGES: tuple[BridgeKind, ...] = get_args(BridgeKind)
MIN_PAIRS = 16
_FIELDS = ("image_mean", "text_mean", "rotation", "whitening")


@dataclass(frozen=True)
class Bridge:
    """What is known of the two cones of an encoder.

    Attributes:
        image_mean: Mean embedding of images, `[D]`.
        text_mean: Mean embedding of their captions, `[D]`.
        rotation: Of texts to their images, `[D, D]`, to be multiplied from the right.
        whitening: Of deviations of texts to deviations of images, `[D, D]`, likewise.
    """

    image_mean: Tensor
    text_mean: Tensor
    rotation: Tensor
    whitening: Tensor

    def moved(self, text: Tensor, kind: BridgeKind) -> Tensor:
        """Move a text to where images lie.

        Args:
            text: `[..., D]`, rows of length one.
            kind: The way.

        Returns:
            The same shape, rows of length one.
        """
        text = text.float()
        if kind == "shift":
            found = text + (self.image_mean - self.text_mean)
        elif kind == "procrustes":
            found = text @ self.rotation
        else:
            found = self.image_mean + (text - self.text_mean) @ self.whitening
        return F.normalize(found, dim=-1)

    def to(self, device: torch.device) -> Bridge:
        """The same on a device."""
        return Bridge(*(getattr(self, name).to(device) for name in _FIELDS))


def fit_bridge(images: Tensor, texts: Tensor) -> Bridge:
    """Fit the bridges to pairs.

    With fewer pairs than dimensions a rotation is not determined everywhere, and a
    covariance has no inverse: the rotation leaves what no pair shows as it is, the
    covariances are shrunk towards a multiple of the identity by D / (N + D).

    Args:
        images: `[N, D]`, rows of length one.
        texts: `[N, D]`, the embedded captions, rows of length one.

    Returns:
        The bridge, on the CPU, float32.

    Raises:
        EncoderError: There are fewer than `MIN_PAIRS` pairs.
    """
    count, width = images.shape
    if count < MIN_PAIRS:
        raise EncoderError(f"{count} pairs of images and captions, expected at least {MIN_PAIRS}")
    image, text = (x.detach().double().cpu() for x in (images, texts))
    image_mean, text_mean = image.mean(0), text.mean(0)
    left, values, right = torch.linalg.svd(text.T @ image)
    known = int((values > values[0] * 1e-6).sum())
    u, v = left[:, :known], right[:known].T
    rotation = u @ v.T
    if known < width:  # the rest of the space turns as little as it can
        rest_left, rest_right = left[:, known:], right[known:].T
        a, _, b = torch.linalg.svd(rest_left.T @ rest_right)
        rotation = rotation + rest_left @ a @ b @ rest_right.T
    down = _power(_covariance(text - text_mean), -0.5)
    up = _power(_covariance(image - image_mean), 0.5)
    return Bridge(
        image_mean.float(), text_mean.float(), rotation.float(), (down @ up).float()
    )


def _covariance(centered: Tensor) -> Tensor:
    count, width = centered.shape
    found = centered.T @ centered / count
    share = width / (count + width)
    level = found.diagonal().mean()
    return (1 - share) * found + share * level * torch.eye(width, dtype=found.dtype)


def _power(symmetric: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    found: Tensor = (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
    return found


def bridge_path(info: EncoderInfo) -> Path:
    """Where the statistics of an encoder are kept, by the checksum of its weights."""
    return cache_dir() / "bridges" / f"{info.checksum.removeprefix('sha256:')}.safetensors"


def save_bridge(info: EncoderInfo, bridge: Bridge, pairs: int) -> Path:
    """Keep the statistics of an encoder.

    Args:
        info: The encoder; its checksum must be known.
        bridge: From `fit_bridge`.
        pairs: Number of pairs that it was fitted to.

    Returns:
        The file.

    Raises:
        EncoderError: The encoder has no checksum.
        OutputError: The cache cannot be written.
    """
    from safetensors.torch import save

    if not info.checksum:
        raise EncoderError(f"{info.name}: no checksum of its weights, so nothing can be kept of it")
    path = bridge_path(info)
    make_folder(path.parent)
    tensors = {name: getattr(bridge, name).contiguous() for name in _FIELDS}
    return atomic_write(path, save(tensors, {"pairs": str(pairs), "model": info.name}))


def load_bridge(info: EncoderInfo) -> Bridge | None:
    """Return the statistics of an encoder, or None if none are kept (or they are damaged)."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not info.checksum:
        return None
    try:
        with open_regular(bridge_path(info)) as file:
            found: Mapping[str, Tensor] = load(file.read())
        bridge = Bridge(*(found[name].float() for name in _FIELDS))
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    square = (info.width, info.width)
    shapes = [(info.width,), (info.width,), square, square]
    fits = [tuple(getattr(bridge, name).shape) for name in _FIELDS] == shapes
    return bridge if fits else None


LoadBridge = Callable[[EncoderInfo], Bridge | None]
