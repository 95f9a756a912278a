"""What a picture's file says about it: enough to make it again."""

from __future__ import annotations

from collections.abc import Sequence

from clipig import __version__
from clipig.config.dump import dump
from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo

PREFIX = "clipig "
"""Begins the keywords of our own texts in a PNG."""


def metadata(
    experiment: Experiment, encoders: Sequence[EncoderInfo], similarity: float, epochs: str,
    seconds: float | None = None,
) -> dict[str, str]:
    """The texts in the PNG of one run.

    Args:
        experiment: The settled experiment of this run alone.
        encoders: The models that guided it.
        similarity: 100 * cosine in the last step.
        epochs: How far it came: `200 of 200`.
        seconds: What it took; None if that is not known.

    Returns:
        Texts by PNG keyword, those that are empty left out.
    """
    prompts = [
        text for target in experiment.targets for f in target.features
        for text in ([f.text] if f.text else f.texts or [])
    ]
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
        f"{PREFIX}config": dump(experiment),
    }
    return {key: value for key, value in texts.items() if value}


def _listed(words: Sequence[str]) -> str:
    """One word per model, `-` where a model has none; nothing if no model has one."""
    return ", ".join(word or "-" for word in words) if any(words) else ""
