"""Fits the bridge of an encoder to images and their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from clipig.encoders.bridges import MIN_PAIRS, Bridge, fit_bridge
from clipig.encoders.protocol import Encoder
from clipig.errors import UsageError
from clipig.files import read_lines, user_path
from clipig.jobs.picture_features import FeatureCache, picture_features

_BATCH = 256
_MAX_PAIRS = 1_000_000


def read_pairs(path: str) -> list[tuple[str, str]]:
    """Read images and captions.

    Args:
        path: A text file. Each line has an image (a path relative to the file, or an
            address), a tab and the caption.

    Returns:
        Pairs (image, caption), without empty lines and lines that begin with #.

    Raises:
        UsageError: A line has no tab, or there are too few or too many lines.
    """
    folder = user_path(path).parent
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, tab, caption = line.partition("\t")
        if not tab or not name.strip() or not caption.strip():
            raise UsageError(f"{path}:{number}: expected IMAGE<tab>CAPTION, found {line[:60]!r}")
        own = name if "://" in name else str(folder / user_path(name.strip()))
        pairs.append((own, caption.strip()))
    if not MIN_PAIRS <= len(pairs) <= _MAX_PAIRS:
        raise UsageError(f"{path}: {len(pairs)} pairs, expected {MIN_PAIRS} to {_MAX_PAIRS}")
    return pairs


def measure_bridge(
    encoder: Encoder, pairs: Sequence[tuple[str, str]], cache: FeatureCache | None = None,
    tick: Callable[[int], None] | None = None,
) -> tuple[Bridge, list[tuple[str, str]]]:
    """Embed images and captions, and fit the bridge.

    Args:
        encoder: The encoder.
        pairs: Pairs (image, caption).
        cache: Cache of image features.
        tick: Called with the number of further images done.

    Returns:
        The bridge, and pairs (image, reason) for images that could not be read.

    Raises:
        EncoderError: Too few pairs are readable, or a caption has no words.
    """
    names = list(dict.fromkeys(name for name, _ in pairs))
    found = picture_features(encoder, names, cache, tick)
    rows = dict(zip(found.names, found.rows, strict=True))
    kept = [(name, caption) for name, caption in pairs if name in rows]
    texts = [
        encoder.encode_text([caption for _, caption in kept[i : i + _BATCH]], truncate=True).cpu()
        for i in range(0, len(kept), _BATCH)
    ]
    images = torch.stack([rows[name] for name, _ in kept]) if kept else torch.zeros(0, 1)
    return fit_bridge(images, torch.cat(texts) if texts else images), list(found.problems)
