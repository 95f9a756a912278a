"""The typed experiment: what was asked for, independent of how it was written."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from clipig.config.entries import Entry, EntryList, Rate
from clipig.config.presets import PRESETS, QUALITIES, with_quality
from clipig.config.semantics import misfits
from clipig.ops.base import (
    LIVE,
    SHAPE,
    TIME,
    Color,
    FrameTime,
    Node,
    Numbers,
    Size,
    Value,
    Weight,
    Windowed,
    at,
    constant,
    fault,
    fixed,
    found,
    wrong,
)
from clipig.ops.canvases import CANVASES, CanvasSpec
from clipig.ops.canvases.pixels import Pixels
from clipig.ops.constraints import CONSTRAINTS, Constraint
from clipig.ops.optimizers import OPTIMIZERS, Adam, OptimizerSpec
from clipig.ops.transforms import RESIZING, TRANSFORMS, Transform

Seed = Annotated[int, fixed(integer=True, minimum=0, maximum=2**63 - 1)]


def _lower(raw: object) -> object:
    return raw.lower() if isinstance(raw, str) else raw


def _tensor(raw: object) -> list[Any]:
    """Nested numbers [3][height][width]; raises a pydantic error."""
    expected = "3 lists (red, green, blue) of rows of numbers, all rows of one length"
    if not isinstance(raw, list) or len(raw) != 3:
        raise wrong(raw, expected)
    if not all(isinstance(channel, list) and channel for channel in raw):
        raise fault(f"found a colour that is no list of rows, expected {expected}")
    rows = [row for channel in raw for row in channel]
    if not all(isinstance(row, list) and row for row in rows):
        raise fault(f"found a row that is no list of numbers, expected {expected}")
    heights, widths = {len(channel) for channel in raw}, {len(row) for row in rows}
    if len(heights) > 1 or len(widths) > 1:
        raise fault(f"found rows or columns of different number, expected {expected}")
    for number in (number for row in rows for number in row):
        if type(number) not in (int, float) or not math.isfinite(number):
            raise wrong(number, "a number")
    return raw


class Init(Node):
    """The picture at the start: normal noise, or an image."""

    mean: Color = constant(0.5, 0.5, 0.5)
    """mean of the noise; an image becomes `pixel * std + mean`"""
    std: Color = constant(0.1, 0.1, 0.1)
    """standard deviation of the noise, factor of an image"""
    resolution: Size | None = None
    """width and height of the noise or image before it is resized to the canvas"""
    image: str | None = None
    """path or http(s) address; use `mean: 0, std: 1` to keep its colours"""
    image_tensor: Annotated[list[Any], PlainValidator(_tensor)] | None = None
    """nested numbers `[3][height][width]`, used as they are"""


def _without_nothing(raw: object, *keys: str) -> object:
    """`targets:` with nothing after it is as good as left out."""
    if not isinstance(raw, dict):
        return raw
    return {k: v for k, v in raw.items() if v is not None or k not in keys}


class Feature(Windowed):
    """What the views should (or, with a negative weight, should not) be like."""

    text: str | None = None
    """a prompt"""
    texts: list[str] | None = None
    """several captions of one picture; their embeddings are averaged"""
    image: str | None = None
    """path or http(s) address of a picture, used if there is no text"""
    weight: Weight = constant(1.0)
    """factor of the loss; negative pushes away"""
    scale: Weight = constant(1.0)
    """factor of the similarity that `select` and `sim` see, not of the loss"""
    loss: Annotated[
        Literal["cosine", "l1", "mae", "l2", "mse"], BeforeValidator(_lower)
    ] = "cosine"
    """`cosine`: 1 - cos; `l1`/`mae`: 100 * mean abs; `l2`/`mse`: 100 * mean square"""
    preset: Literal["no-text"] | None = None
    """`no-text`: written out as `texts` for writing and watermarks with a weight of -0.3"""
    bridge: Annotated[float, fixed(minimum=0, maximum=1)] = 0.0
    """how far a text is moved to where pictures lie: 0 not at all, 1 by all of it. Needs
    statistics of the model: the embedded one has its own, `clipig bridge` makes others"""
    bridge_by: Literal["shift", "procrustes", "whiten"] = "shift"
    """how it is moved: `shift` by the difference of the means, `procrustes` by the rotation that
    brings captions closest to their images, `whiten` from the spread of texts to that of images"""
    truncate: bool = False
    """cut a text that is longer than the model's context instead of refusing it"""
    target_similarity: Annotated[Value, Numbers(minimum=-100, maximum=100)] | None = None
    """stop caring once the similarity (x 100) is above this"""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, raw: object) -> object:
        """`{preset: no-text}` -> `{texts: [...], weight: -0.3}`."""
        if not isinstance(raw, dict) or raw.get("preset") not in list(PRESETS):
            return raw
        if both := [key for key in ("text", "texts", "image") if raw.get(key)]:
            raise at(("preset",), f"found a preset beside `{both[0]}`, expected one of them")
        rest = {k: v for k, v in raw.items() if k != "preset"}
        return {**PRESETS[raw["preset"]], **rest}

    @model_validator(mode="after")
    def _one_source(self) -> Feature:
        if not self.image and not (self.text or "").strip() and not self.texts:
            for key in ("text", "texts"):
                if key in self.model_fields_set:
                    raise at((key,), f"found {found(getattr(self, key))}, expected a prompt")
            raise fault("found neither `text` nor `image`, expected one of them")
        return self


class Target(Windowed):
    """Something the picture is looked at for: views, what they should be, and penalties."""

    active: bool = True
    """false drops the target"""
    name: str = "target"
    """shown in tables"""
    weight: Weight = constant(1.0)
    """factor of all losses of the target"""
    batch_size: Annotated[Value, Numbers(integer=True, minimum=1, maximum=4096, static=True)] = (
        constant(1, integer=True)
    )
    """number of views per step"""
    select: Literal["all", "best", "worst", "mix"] = "all"
    """which features count for a view: all, the most or least similar one, or their mean"""
    feature_scale: Literal["equal", "fair"] = "equal"
    """`fair` scales similarities so that all features start equal"""
    look_at: Literal["picture", "texture", "silhouette"] = "picture"
    """what of the canvas the views show; other than `picture` needs `canvas: layers`"""
    clamp: bool = True
    """limit the views to 0..1 after the transforms, as the original does"""
    features: list[Feature] = Field(default=[])
    """texts and images"""
    transforms: Annotated[list[Transform], EntryList(TRANSFORMS)] = Field(default=[])
    """what is done to the picture, in this order, before the encoder sees it"""
    constraints: Annotated[list[Constraint], EntryList(CONSTRAINTS)] = Field(default=[])
    """penalties on the views"""

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, raw: object) -> object:
        return _without_nothing(raw, "features", "transforms", "constraints")


EDITS = {name: cls for name, cls in TRANSFORMS.items() if name not in RESIZING}
"""The transforms that can edit the canvas."""

RESIZES = {
    name: "which changes the size of the picture; expected an edit that does not, such as `blur`"
    for name in sorted(RESIZING)
}


class PostProc(Windowed):
    """An edit of the canvas after each optimizer step, without gradient."""

    active: bool = True
    """false drops the edit"""
    transforms: Annotated[list[Transform], EntryList(EDITS, RESIZES)]
    """written as keys of the entry itself: `- blur: {...}`"""

    RESERVED: ClassVar[tuple[str, ...]] = ("active", "start", "end")

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, raw: object) -> object:
        """`{blur: {...}, end: 10%}` -> `{transforms: [{blur: {...}}], end: 10%}`."""
        if isinstance(raw, str):
            raw = {raw: None}
        if not isinstance(raw, dict) or "transforms" in raw:
            return raw
        rest = {k: v for k, v in raw.items() if k in cls.RESERVED}
        ops = [{k: v} for k, v in raw.items() if k not in cls.RESERVED]
        if not ops:
            raise wrong(raw, "an edit such as `blur: 3`")
        return {**rest, "transforms": ops}


class Model(Node):
    """One encoder of an ensemble."""

    name: str
    """`auto`, `embedded`, `ViT-B/32`, a file or folder, `hf-hub:ORG/NAME`,
    `open_clip:ARCH/PRETRAINED` ... (`clipig list models`)"""
    image: str | None = None
    """file of an image tower, as ComfyUI keeps them; with `text`, instead of `name`"""
    text: str | None = None
    """file of the text tower that belongs to `image`"""
    activation: Literal["quick_gelu", "gelu", "gelu_tanh"] | None = None
    """what the model was trained with, for a checkpoint that does not say it; without, both are
    tried (docs/encoders.md)"""
    weight: Annotated[Value, Numbers()] = constant(1.0)
    """factor of its losses"""
    views: Literal["shared", "fresh"] = "shared"
    """`fresh`: chance draws other views for it than for the encoders before it (formulas with
    `random` keep their numbers)"""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, raw: object) -> object:
        if isinstance(raw, str):
            return {"name": raw}
        if isinstance(raw, dict) and "name" not in raw and {"image", "text"} & set(raw):
            image, text = (raw.get(key) for key in ("image", "text"))
            if not isinstance(image, str) or not isinstance(text, str):
                missing = "text" if isinstance(image, str) else "image"
                raise at((missing,), "both towers are needed, `image` and `text`, each a file")
            rest = {k: v for k, v in raw.items() if k not in ("image", "text")}
            return {**rest, "name": f"{image}+{text}"}
        return raw

    @model_validator(mode="after")
    def _once(self) -> Model:
        if self.image is not None or self.text is not None:
            raise fault("either `name`, or `image` and `text`, expected")
        return self


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
    canvas: Annotated[CanvasSpec, Entry(CANVASES)] = Pixels()
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
    runs: Annotated[int, fixed(integer=True, minimum=1, maximum=100_000)] = 1
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
    optimizer: Annotated[OptimizerSpec, Entry(OPTIMIZERS, MISLABELLED)] = Adam()
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
    verbose: Annotated[int, fixed(integer=True, minimum=0, maximum=3)] = 2
    """0 silent, 1 progress bar, 2 statistics at the end, 3 during the run"""

    @model_validator(mode="before")
    @classmethod
    def _one_model(cls, raw: object) -> object:
        raw = _without_nothing(raw, "init", "targets", "postproc")
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
    "LIVE", "Experiment", "Feature", "FrameTime", "Init", "Model", "PostProc", "Target", "Weight",
]
