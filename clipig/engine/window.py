"""What is known of views without their pixels, computed for some steps at once.

Angles, positions and colours of a step are dozens of operations on a few values;
done for thirty-two steps together they cost no more than for one. Measured in
November 2026 (embedded model, bf16, one thread, processor time): steps computed one by
one take 4 % longer for `method_1` and 16 % for `penguin_piano` with one run, 0 and 8 %
with eight. CUDA graphs need the windows, too: a captured step may not draw such values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from clipig.ops.transforms.chain import Part

STEPS = 32
"""at once"""
VIEWS = 1 << 16
"""and how many views these may be, for the sake of memory"""

Parts = tuple[Part, ...]
T = TypeVar("T")


class Window:
    """The parts of a chain (`Chain.prepare`) for a window of steps.

    `make(first, count)` prepares `count` steps from `first` on, ordered by step, then
    by run. The phase has the steps `first` to `last` (not included); `views` is N of one run.
    Steps that are tensors live on `device`.
    """

    def __init__(
        self, make: Callable[[int, int], Parts], first: int, last: int, runs: int, views: int,
        device: torch.device,
    ):
        self._make, self._runs, self._first, self._last = make, runs, first, last
        self._count = max(1, min(STEPS, VIEWS // max(runs * views, 1), last - first))
        self._begin = -1
        self._steps: list[Parts] = []
        self._held: Parts | None = None
        self._held_first = -1
        self._origin = torch.zeros((), dtype=torch.int64, device=device)
        self._rows = torch.arange(runs, device=device)

    def at(self, step: int) -> Parts:
        """The parts of a step."""
        begin = self._start(step)
        if begin != self._begin:
            self._steps = by_step(self._make(begin, self._count), self._runs, self._count)
            self._begin = begin
        return self._steps[step - begin]

    def hold(self, step: int) -> None:
        """Bring the window of a step to where `read` finds it; tensors stay where they are."""
        begin = self._start(step)
        if begin == self._held_first:
            return
        parts = self._make(begin, self._count)
        if self._held is None:
            self._held = parts
        else:
            for old, new in zip(tensors(self._held), tensors(parts), strict=True):
                old.copy_(new)
        self._origin.fill_(begin)
        self._held_first = begin

    def read(self, step: Tensor) -> Parts | None:
        """The parts of a step that is counted on the device; None if no window is held.

        Does the same work on the same tensors for every step, as a graph needs.
        """
        if self._held is None:
            return None
        return at_step(self._held, self._runs, (step - self._origin) * self._runs + self._rows)

    def _start(self, step: int) -> int:
        """Where the window of a step begins.

        Windows begin at multiples of their length, so that a resumed run computes the
        same ones; the last ends with the phase.
        """
        begin = step - (step - self._first) % self._count
        return min(begin, self._last - self._count)


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
    """Parts that were prepared for the runs of several steps, split by step.

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
