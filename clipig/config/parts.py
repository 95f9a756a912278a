"""The parts of an experiment: init, features, targets, edits, models."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from clipig.config.entries import EntryList
from clipig.config.presets import PRESETS
from clipig.ops.base import (
    Color,
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
from clipig.ops.constraints import CONSTRAINTS, Constraint
from clipig.ops.transforms import RESIZING, TRANSFORMS, Transform


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


def without_nothing(raw: object, *keys: str) -> object:
    """`targets:` with nothing after it is as good as left out."""
    if not isinstance(raw, dict):
        return raw
    return {k: v for k, v in raw.items() if v is not None or k not in keys}


def without_anchors(raw: object) -> object:
    """A config without its `x-...` keys, which are a place for YAML anchors."""
    if not isinstance(raw, dict):
        return raw
    return {k: v for k, v in raw.items() if not str(k).startswith("x-")}


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
    models: list[str] | None = None
    """names from the list of `model` that look at this target; default: all. With `start` and
    `end` a cheap one can begin and a large one finish"""
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
        return without_nothing(raw, "features", "transforms", "constraints")


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
    patch_dropout: Annotated[float, fixed(minimum=0, maximum=0.9)] = 0.0
    """share of the patches of each view that it does not look at, drawn anew in each step:
    cheaper and noisier (vision transformers; not where a `style` needs their early layers)"""
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
