"""Texts stored in an image file, sufficient to reproduce the image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from clipig import __version__
from clipig.config.dump import dump
from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo
from clipig.files import file_sha256, user_path
from clipig.ops.constraints.style import Style
from clipig.web import cached_path, is_url

PREFIX = "clipig "
"""Prefix of clipig's own keywords in a PNG."""


@dataclass(frozen=True)
class InputImage:
    """An image that an experiment reads: init, mask, image prompt or style reference."""

    name: str
    """as written in the config: a path or an address"""
    path: str
    """absolute path, or the address itself for an image from the web"""
    sha256: str
    """checksum of the file in hex, empty if it is not on this disk"""


def image_names(experiment: Experiment) -> list[str]:
    """Paths and addresses of all images that an experiment reads, without duplicates."""
    return list(dict.fromkeys(name for name in _image_names(experiment) if name))


def _image_names(experiment: Experiment) -> Iterator[str | None]:
    yield experiment.init.image if experiment.init.image_tensor is None else None
    yield experiment.mask
    for target in experiment.targets:
        yield from (f.image for f in target.features if not f.text and not f.texts)
        yield from (c.image for c in target.constraints if isinstance(c, Style))


def input_image(name: str) -> InputImage:
    """Describe an image given by path or address. The checksum of a missing file is empty."""
    path = cached_path(name) if is_url(name) else user_path(name)
    checksum = ""
    with contextlib.suppress(OSError, ValueError):
        checksum = file_sha256(path)
    return InputImage(name, name if is_url(name) else str(path.absolute()), checksum)


def read_input_images(text: str) -> list[InputImage]:
    """Parse the list of images in a file's metadata; a damaged text gives an empty list."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        images = [InputImage(**entry) for entry in json.loads(text)]
        if all(isinstance(v, str) for image in images for v in asdict(image).values()):
            return images
    return []


def metadata(
    experiment: Experiment, encoders: Sequence[EncoderInfo], similarity: float, epochs: str,
    seconds: float | None = None,
) -> dict[str, str]:
    """Build the texts for the PNG of one run.

    Args:
        experiment: The settled experiment of this run alone.
        encoders: The encoders that guided it.
        similarity: 100 * cosine in the last step.
        epochs: Number of finished epochs: `200 of 200`.
        seconds: Time taken; None if unknown.

    Returns:
        Non-empty texts by PNG keyword.
    """
    prompts = [
        text for target in experiment.targets for f in target.features
        for text in ([f.text] if f.text else f.texts or [])
    ]
    images = [asdict(input_image(name)) for name in image_names(experiment)]
    texts = {
        "Software": f"clipig {__version__}",
        "Description": "; ".join(dict.fromkeys(prompts)),
        f"{PREFIX}version": __version__,
        f"{PREFIX}seed": str(experiment.seed),
        f"{PREFIX}model": ", ".join(e.name for e in encoders),
        f"{PREFIX}model reason": "; ".join(e.reason for e in encoders),
        f"{PREFIX}model checksum": ", ".join(e.checksum for e in encoders),
        f"{PREFIX}model activation": _listed([e.activation for e in encoders]),
        f"{PREFIX}model revision": _listed([e.revision for e in encoders]),
        f"{PREFIX}similarity": f"{similarity:.3f}",
        f"{PREFIX}epochs": epochs,
        f"{PREFIX}seconds": "" if seconds is None else f"{seconds:.1f}",
        f"{PREFIX}images": json.dumps(images, ensure_ascii=False) if images else "",
        f"{PREFIX}config": dump(experiment),
    }
    return {key: value for key, value in texts.items() if value}


def _listed(words: Sequence[str]) -> str:
    """Join one word per model, `-` for an empty word. Empty if all words are empty."""
    return ", ".join(word or "-" for word in words) if any(words) else ""
