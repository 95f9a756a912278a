"""The two calls that most Python callers need."""

from __future__ import annotations

from pathlib import Path

import torch

from clipig.config.schema import Experiment
from clipig.errors import OutputError
from clipig.images import save_png
from clipig.session import Result, Session


def run(
    experiment: Experiment, model: str | None = None, device: str | None = None,
) -> Result:
    """Make all pictures of an experiment, without files or output.

    Ctrl-C ends it with the pictures so far (`result.interrupted`). Raises
    `ClipigError` for whatever the user can mend.
    """
    return Session(model, device).run(experiment)


def save(result: Result, folder: str | Path, stem: str = "picture") -> list[Path]:
    """Write the pictures of a result as PNG, seed and similarity inside; returns the paths.

    Files are never overwritten: a number is added. Raises `OutputError` or `ImageError`.
    """
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(f"{folder}: cannot be made: {fault.strerror}") from fault
    paths = []
    for i, (image, seed) in enumerate(zip(result.images, result.seeds, strict=True)):
        pixels = image if result.alpha is None else torch.cat([image, result.alpha[i]])
        texts = {"clipig seed": str(seed), "clipig similarity": f"{result.similarities[i]:.3f}"}
        paths.append(save_png(pixels, folder / f"{stem}-{seed}.png", texts))
    return paths
