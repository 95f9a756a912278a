"""Types of the canvases' fields: plain numbers, which may be written as `1/3`.

A canvas belongs to the structure of a run, so its numbers do not change over time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clipig.ops import Numbers


def _reader(integer: bool) -> Callable[[object], Any]:
    mark = Numbers(integer=integer, variables=frozenset())

    def read(raw: object) -> Any:
        return mark.read(raw).numbers()[0]

    return read


def _read_pair(raw: object) -> Any:
    mark = Numbers((2,), integer=True, minimum=1, variables=frozenset())
    return tuple(int(n) for n in mark.read(raw).numbers())


_FLOAT, _WHOLE = BeforeValidator(_reader(False)), BeforeValidator(_reader(True))

Number = Annotated[float, _FLOAT]
Positive = Annotated[float, _FLOAT, Field(gt=0)]
Natural = Annotated[float, _FLOAT, Field(ge=0)]
Share = Annotated[float, _FLOAT, Field(ge=0, le=1)]
Power = Annotated[float, _FLOAT, Field(ge=0, le=4)]
Count = Annotated[int, _WHOLE, Field(ge=1, le=1 << 14)]
Grid = Annotated[tuple[int, int], BeforeValidator(_read_pair)]
"""width and height"""
Rgb = Annotated[
    tuple[Share, Share, Share],
    BeforeValidator(lambda raw: Numbers((3,), variables=frozenset()).read(raw).numbers()),
]
Kernel = Literal["bilinear", "bicubic"]
