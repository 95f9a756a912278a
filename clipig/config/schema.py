"""The typed experiment: what was asked for, independent of how it was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from clipig.config.entries import OpEntry, Rate
from clipig.config.parts import (
    Feature,
    Init,
    Model,
    PostProc,
    Target,
    without_anchors,
    without_nothing,
)
from clipig.config.presets import QUALITIES, with_quality
from clipig.ops.base import (
    LIVE,
    SHAPE,
    TIME,
    Moment,
    Node,
    Numbers,
    Value,
    Weight,
    at,
    constant,
    fault,
    fixed,
)
from clipig.ops.canvases import CANVASES, CanvasSpec
from clipig.ops.canvases.pixels import Pixels
from clipig.ops.optimizers import OPTIMIZERS, Adam, OptimizerSpec

Seed = Annotated[int, fixed(integer=True, minimum=0, maximum=2**63 - 1)]


MAX_RUNS = 10_000
MAX_TARGETS = 1000
MAX_FEATURES = 10_000
"""Features of all targets together."""

KeyPlace = tuple[str | int, ...]
Misfit = tuple[KeyPlace, str]


MISLABELLED = {
    "sparse_adam": "which was RMSprop under a wrong name in the original; for the same steps use "
    "`optimizer: {rmsprop: {centered: false, momentum: 0}}` and 10/3 of the learnrate"
}
"""Optimizers that the original knew and that are refused, with the reason."""


class Experiment(Node):
    """A whole run, or several that differ in their seeds."""

    quality: Literal["draft", "good", "best"] | None = None
    """one word for canvas, views, steps and size, where the config says nothing of them; it is
    written out when the config is read. With the embedded model on one core `draft` takes
    about 3 seconds, `good` 5 and `best` 13"""
    epochs: Annotated[
        Value, Numbers(integer=True, minimum=1, maximum=10**7, static=True, variables=frozenset())
    ] = constant(300, integer=True)
    """number of optimizer steps"""
    start_epoch: Annotated[
        Value, Numbers(integer=True, minimum=0, static=True, variables=frozenset())
    ] = constant(0, integer=True)
    """first epoch"""
    resolution: Annotated[
        Value,
        Numbers((2,), integer=True, minimum=1, maximum=1 << 14, size=True, variables=TIME),
    ] = constant(224, 224, integer=True)
    """width and height of the picture; may change over time"""
    interpolation: Literal["nearest", "linear", "bilinear", "cubic", "bicubic"] = "cubic"
    """how the picture is resized when the resolution changes"""
    canvas: Annotated[CanvasSpec, OpEntry(CANVASES)] = Pixels()
    """how the picture is stored"""
    margin: Annotated[float, fixed(minimum=0, maximum=1)] = 0.0
    """border on each side, as a fraction of the side, that is drawn and seen but not saved"""
    wrap: bool = False
    """seamless: opposite edges touch, in the views, in blurs and when resizing"""
    symmetry: Literal["none", "horizontal", "vertical", "both", "rotate4"] = "none"
    """mirrored left to right, top to bottom, both, or alike after each quarter turn"""
    mask: str | None = None
    """path or http(s) address of a picture: only where it is bright the picture is drawn, the
    rest stays as it was at the start"""
    model: list[Model] = Field(default=[Model(name="auto")])
    """the encoder, or several with weights"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """of the encoder; canvas and optimizer are always fp32"""
    seed: Seed | None = None
    """of all random numbers; chosen and reported if absent"""
    runs: Annotated[int, fixed(integer=True, minimum=1, maximum=MAX_RUNS)] = 1
    """how many pictures to make from seeds derived from `seed`"""
    seeds: Literal["each", "same"] = "each"
    """`same`: all runs start alike, to compare settings or to make a row with `row`"""
    row: Annotated[float, fixed(minimum=0, maximum=1)] | None = None
    """what `row` is in formulas; if absent it goes from 0 in the first run to 1 in the last"""
    learnrate: Annotated[Value, Rate(variables=SHAPE)] = constant(1.0)
    """factor of the optimizer's base learning rate; a schedule becomes a formula when it is
    read"""
    learnrate_scale: Annotated[Value, Rate(variables=SHAPE)] = constant(1.0)
    """a second factor, meant for schedules"""
    optimizer: Annotated[OptimizerSpec, OpEntry(OPTIMIZERS, MISLABELLED)] = Adam()
    """a name or a mapping with options: `{adam: {betas: [.9, .99]}}`"""
    optimizer_state: Literal["carry", "reset"] = "reset"
    """what happens to the moments when the resolution changes"""
    gradient: Literal["plain", "normalize", "clip"] = "plain"
    """`normalize`: each run's gradient to unit RMS; `clip`: RMS at most 1"""
    ema: Annotated[float, fixed(minimum=0, below=1)] = 0.0
    """decay of the running mean of pictures that is saved instead of the last one; 0 is off"""
    init: Init = Init()
    """the picture at the start"""
    let: dict[str, str] = Field(default={})
    """words that fill the blanks of the texts: `{animal: penguin}` fills `a {animal}`"""
    targets: list[Target] = Field(default=[])
    """what the picture is optimised for"""
    postproc: list[PostProc] = Field(default=[])
    """edits after each step"""
    output: str = "./"
    """file, or folder if it ends in /"""
    snapshot_interval: Annotated[float, fixed(minimum=0, keep=True)] = 20.0
    """epochs (whole number) or seconds (20.0) between snapshots; 0 for none"""
    verbose: Annotated[int, fixed(integer=True, minimum=0, maximum=3)] = 1
    """0 silent but for errors and the names of files, 1 progress bar, 2 also statistics at the end,
    3 also during the run"""

    @model_validator(mode="before")
    @classmethod
    def _one_model(cls, raw: object) -> object:
        raw = without_nothing(without_anchors(raw), "init", "targets", "postproc")
        _check_counts(raw)
        if isinstance(raw, dict) and raw.get("quality") in list(QUALITIES):
            raw = with_quality(raw)
        if isinstance(raw, dict) and "model" in raw and not isinstance(raw["model"], list):
            return {**raw, "model": [raw["model"]]}
        return raw

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        if problems := misfits(self):
            raise ValidationError.from_exception_data(
                "config",
                [InitErrorDetails(type=fault(text), loc=key, input=None) for key, text in problems],
            )
        return self


__all__ = [
    "LIVE", "Experiment", "Feature", "Moment", "Init", "Model", "PostProc", "Target", "Weight",
]


def _check_counts(raw: object) -> None:
    """Refuse a config that is too long to be read, before it is. Raises a pydantic error."""
    targets = raw.get("targets") if isinstance(raw, dict) else None
    if not isinstance(targets, list):
        return
    if len(targets) > MAX_TARGETS:
        raise at(("targets",), f"found {len(targets):,} targets, expected at most {MAX_TARGETS:,}")
    features = [t["features"] for t in targets if isinstance(t, dict) and "features" in t]
    count = sum(len(f) for f in features if isinstance(f, list))
    if count > MAX_FEATURES:
        message = f"found {count:,} features in all, expected at most {MAX_FEATURES:,}"
        raise at(("targets",), message)


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
    names = [model.name for model in experiment.model]
    for i, target in enumerate(experiment.targets):
        key = ("targets", i, "models")
        if target.models is not None and not target.models:
            yield key, "found an empty list, expected at least one model, or nothing"
        for name in target.models or ():
            if name not in names:
                listed = ", ".join(names)
                yield key, f"found {name!r}, expected names from `model`: {listed}"


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
