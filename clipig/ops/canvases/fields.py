"""Types of the canvases' fields: constant numbers, which may be written as `1/3`.

A canvas belongs to the structure of a run, so its fields cannot change over time.
"""

from __future__ import annotations

from typing import Annotated, Literal

from clipig.ops.base import fixed

Natural = Annotated[float, fixed(minimum=0)]
Share = Annotated[float, fixed(minimum=0, maximum=1)]
Power = Annotated[float, fixed(minimum=0, maximum=4)]
Ratio = Annotated[float, fixed(minimum=1.05, maximum=16)]
Count = Annotated[int, fixed(integer=True, minimum=1, maximum=1 << 14)]
Grid = Annotated[tuple[int, int], fixed(2, integer=True, minimum=1, maximum=1 << 14)]
"""width and height"""
StartEnd = Annotated[tuple[float, float], fixed(2, above=0)]
"""a value at the start and at the end"""
Rgb = Annotated[tuple[float, float, float], fixed(3, minimum=0, maximum=1)]
Enlargement = Literal["bilinear", "bicubic"]
