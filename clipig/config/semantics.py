"""Faults that no single key can know: parts of an experiment that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipig.ops.base import Value

if TYPE_CHECKING:
    from clipig.config.schema import Experiment, Target

Place = tuple[str | int, ...]
Misfit = tuple[Place, str]


def misfits(experiment: Experiment) -> list[Misfit]:
    """Each fault with the key at which it is to be shown."""
    return [
        *_epochs(experiment), *_models(experiment), *_canvas(experiment), *_weights(experiment),
    ]


def _epochs(experiment: Experiment) -> Iterator[Misfit]:
    epochs, start = experiment.epochs, experiment.start_epoch
    for key, value in (("epochs", epochs), ("start_epoch", start)):
        if not value.constant and not value.random:
            yield (key,), f"found the formula {value.plain()!r}, expected a whole number"
    if epochs.constant and start.constant and start.numbers() >= epochs.numbers():
        yield ("start_epoch",), f"found {start.plain()}, expected less than epochs={epochs.plain()}"


def _models(experiment: Experiment) -> Iterator[Misfit]:
    if not experiment.model:
        yield ("model",), "found an empty list, expected at least one model"
    elif all(_zero(model.weight) for model in experiment.model):
        yield ("model",), "found only weights of 0, expected one that is not"


def _canvas(experiment: Experiment) -> Iterator[Misfit]:
    canvas = experiment.canvas
    if experiment.wrap and experiment.margin > 0:
        yield (
            ("margin",),
            f"found {experiment.margin:g} beside `wrap: true`, expected 0: "
            "a picture whose edges touch has no margin",
        )
    for number, target in enumerate(experiment.targets):
        if target.look_at not in canvas.shows:
            shown = " or ".join(map(repr, sorted(canvas.shows)))
            yield (
                ("targets", number, "look_at"),
                f"found {target.look_at!r}, expected {shown}: "
                f"that is what the canvas `{canvas.name}` shows",
            )
    if experiment.postproc and not canvas.editable:
        yield (
            ("postproc",),
            f"found edits, expected none: the canvas `{canvas.name}` cannot be edited",
        )


def _weights(experiment: Experiment) -> Iterator[Misfit]:
    asked = [t for t in experiment.targets if t.active and (t.features or t.constraints)]
    if asked and all(_idle(target) for target in asked):
        yield ("targets",), "found only weights of 0, expected one that is not"


def _idle(target: Target) -> bool:
    weights = [f.weight for f in target.features] + [c.weight for c in target.constraints]
    return _zero(target.weight) or all(map(_zero, weights))


def _zero(value: Value) -> bool:
    return value.constant and not any(value.numbers())
