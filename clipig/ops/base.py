"""Base classes and field types of the ops.

An op is one class, a frozen pydantic model, that defines a YAML key, its documentation
and its test entry. Its fields are the YAML keys below its name, and its docstring is the
reference entry. The tests iterate over the tables of ops (`TRANSFORMS`, `CONSTRAINTS`,
`POSTPROC`, `CANVASES`, `OPTIMIZERS`). Numeric fields are `Value`s: constants or
expressions (see `clipig.values.numbers`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from clipig.values.faults import at, fault, found, nearest, wrong
from clipig.values.moment import Moment
from clipig.values.numbers import (
    LIVE,
    RATE,
    SHAPE,
    TIME,
    Fixed,
    Numbers,
    Value,
    constant,
    fixed,
    split_outside_brackets,
)

FULL_START, FULL_END = Moment(0.0), Moment(1.0)


class Node(BaseModel):
    """A part of an experiment, frozen and strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True,
        validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False,
    )


class Windowed(Node):
    """A part that acts from `start` to `end`, both included."""

    start: Moment = FULL_START
    """first moment: epoch (whole number), fraction or '10%'"""
    end: Moment = FULL_END
    """last moment, included; `1` is epoch 1, `1.0` the end of the run"""

    @model_validator(mode="after")
    def _forwards(self) -> Windowed:
        start, end = self.start.at, self.end.at
        if isinstance(start, float) and start > 1:
            raise at(("start",), f"found {start:g} times the run, expected at most 1.0 (the end); "
                     f"an epoch is a whole number, {start:.0f}")
        comparable = isinstance(start, int | float) and type(start) is type(end)
        if comparable and start > end:  # type: ignore[operator]
            raise at(("start",), f"found {start} after the end, {end}; expected a start before it")
        return self


class Op(Node):
    """One entry of a table. A subclass is either abstract or complete."""

    name: ClassVar[str]
    """the YAML key"""
    sole: ClassVar[str] = ""
    """name of the field that a bare value sets: `- mul: 1/2`, `- blur: 5`"""

    @model_validator(mode="before")
    @classmethod
    def _from_bare_value(cls, raw: object) -> object:
        if raw is None:
            return {}
        if isinstance(raw, dict | BaseModel):
            return raw
        if not cls.sole:
            keys = ", ".join(cls.model_fields) or "nothing"
            raise wrong(raw, f"a mapping with {keys}")
        return {cls.sole: raw}

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


Positive = Annotated[float, fixed(above=0)]
"""a constant number above 0, which may be written as `1/3`"""
Scalar = Annotated[Value, Numbers()]
Factor = Annotated[Value, Numbers(minimum=0, clamped=True)]
Color = Annotated[Value, Numbers((3,))]
Deviation = Annotated[Value, Numbers((3,), minimum=0, clamped=True)]
Pair = Annotated[Value, Numbers((2,))]
Offsets = Annotated[Value, Numbers((2, 4))]
Box = Annotated[Value, Numbers((4,), static=True)]
Size = Annotated[Value, Numbers((2,), integer=True, minimum=1, maximum=1 << 16, size=True)]
Margin = Annotated[
    Value, Numbers((2,), integer=True, minimum=0, maximum=1 << 14, size=True, clamped=True)
]
Kernel = Annotated[
    Value, Numbers((2,), integer=True, minimum=0, maximum=1 << 12, size=True, clamped=True)
]
Sigma = Annotated[Value, Numbers((2,), minimum=0, clamped=True)]
Weight = Annotated[Value, Numbers(variables=LIVE)]
LiveColor = Annotated[Value, Numbers((3,), variables=LIVE)]


@functools.cache
def numbers_of(cls: type[BaseModel]) -> Mapping[str, Numbers]:
    """Collect the `Numbers` of each `Value` field of a model, by field name."""
    return {
        name: mark
        for name, info in cls.model_fields.items()
        for mark in _marks(info.metadata, info.annotation)
    }


def _marks(metadata: Sequence[Any], annotation: Any) -> list[Numbers]:
    """Find the `Numbers` in a field's metadata, also inside `Annotated[...] | None`."""
    inner = [m for arg in getattr(annotation, "__args__", ()) for m in
             getattr(arg, "__metadata__", ())]
    return [m for m in [*metadata, *inner] if isinstance(m, Numbers)][:1]


__all__ = [
    "LIVE", "RATE", "SHAPE", "TIME", "Box", "Color", "Deviation", "Factor", "Fixed", "Moment",
    "Kernel", "LiveColor", "Margin", "Node", "Numbers", "Op", "Pair", "Scalar", "Sigma", "Size",
    "Offsets", "Positive", "Value", "Weight", "Windowed", "at", "constant", "fault", "fixed",
    "found", "nearest", "numbers_of", "split_outside_brackets", "wrong",
]
