"""Walking through the tensors of frozen dataclasses: taking apart what was prepared together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def mapped(part: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same with other tensors; looks into tuples, lists and dataclasses."""
    found: Any = part
    if isinstance(found, Tensor):
        return change(found)  # type: ignore[return-value]
    if isinstance(found, tuple | list):
        return type(found)(mapped(p, change) for p in found)  # type: ignore[return-value]
    if not is_dataclass(found):
        return part
    new = {}
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Tensor | tuple | list) or is_dataclass(value):
            new[field.name] = mapped(value, change)
    return replace(found, **new) if new else part  # type: ignore[type-var, return-value]


def tensors(part: object) -> Iterator[Tensor]:
    """All tensors of a part, in a fixed order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(part, note)
    yield from found


def by_step(part: T, runs: int, steps: int) -> list[T]:
    """What was prepared for the runs of several steps, as those of each step.

    Tensors with no more rows than `runs` are the same for all steps.
    """
    rows = {id(t): t.split(runs) for t in tensors(part) if t.shape[0] > runs}
    return [
        mapped(part, lambda t, k=k: rows[id(t)][k] if id(t) in rows else t)  # type: ignore[misc]
        for k in range(steps)
    ]


def at_step(part: T, runs: int, index: Tensor) -> T:
    """The rows `index` `[runs]` of what was prepared for several steps."""
    return mapped(part, lambda t: t if t.shape[0] <= runs else t.index_select(0, index))
