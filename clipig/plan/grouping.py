"""Which experiments can share a plan, and the timing of each, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from clipig.config.schema import Experiment, Model
from clipig.ops.base import FrameTime, Value, numbers_of
from clipig.plan.timeline import Timing, timing_of
from clipig.values.expressions import Expression

_OWN = frozenset({"seed", "runs", "output", "text", "texts", "image", "image_tensor"})
"""Fields in which the runs of a batch may differ freely, as long as all have them."""


@dataclass(frozen=True)
class RunSet:
    """Experiments that can share a plan: their indices in a list, and the timing of each."""

    rows: tuple[int, ...]
    timings: tuple[Timing, ...]


def run_sets(experiments: Sequence[Experiment]) -> list[RunSet]:
    """Sort experiments into sets that can share a plan, in order of first appearance."""
    forms, times = _Forms(), timings(experiments)
    groups: dict[Any, list[int]] = {}
    shapes: dict[int, str] = {}
    for index, (experiment, timing) in enumerate(zip(experiments, times, strict=True)):
        if id(timing) not in shapes:
            clock = timing.clock
            shapes[id(timing)] = repr((timing.spans, timing.init, clock.start, clock.epochs))
        key = (forms.of(experiment, whole=False), shapes[id(timing)])
        groups.setdefault(key, []).append(index)
    return [RunSet(tuple(rows), tuple(times[i] for i in rows)) for rows in groups.values()]


def split(experiments: Sequence[Experiment]) -> list[list[int]]:
    """Indices of experiments that can share a plan, in order of first appearance."""
    return [list(found.rows) for found in run_sets(experiments)]


def timings(experiments: Sequence[Experiment]) -> list[Timing]:
    """The timing of each experiment; experiments that time treats alike share one object."""
    forms = _Forms()
    known: dict[Any, Timing] = {}
    found = []
    for experiment in experiments:
        key = forms.of(experiment, whole=True)
        drawn = experiment.seed if forms.drawn(experiment) else None
        if (key, drawn) not in known:
            known[key, drawn] = timing_of(experiment)
        found.append(known[key, drawn])
    return found


class _Forms:
    """The forms of experiments; what several of them share is looked at once."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, bool], str] = {}
        self._drawn: dict[int, bool] = {}
        self._kept: list[object] = []  # so that no address is used twice

    def of(self, experiment: Experiment, whole: bool) -> tuple[str, ...]:
        """What must agree between runs that share a plan; `whole` keeps the numbers, too."""
        return tuple(
            str(getattr(experiment, name) is None) if name in _OWN
            else self._text(getattr(experiment, name), whole)
            for name in type(experiment).model_fields
        )

    def drawn(self, experiment: Experiment) -> bool:
        """Whether random numbers decide about sizes, windows or learning rates."""
        return any(
            self._is_drawn(getattr(experiment, name)) for name in type(experiment).model_fields
        )

    def _text(self, part: Any, whole: bool) -> str:
        key = (id(part), whole)
        if key not in self._texts:
            self._texts[key] = repr(_form(part, whole))
            self._kept.append(part)
        return self._texts[key]

    def _is_drawn(self, part: Any) -> bool:
        if isinstance(part, Value):
            return part.random
        if id(part) not in self._drawn:
            self._drawn[id(part)] = _decides(part)
            self._kept.append(part)
        return self._drawn[id(part)]


def _form(node: Any, whole: bool) -> Any:
    """What must agree between the runs of a batch; `whole` keeps the numbers, too."""
    if isinstance(node, BaseModel):
        whole = whole or isinstance(node, Model)  # all rows of a batch weigh an encoder alike
        return type(node).__name__, [
            (name, getattr(node, name) is None if name in _OWN else
             _form(getattr(node, name), whole))
            for name in type(node).model_fields
        ]
    if isinstance(node, list | tuple):
        return [_form(item, whole) for item in node]
    if isinstance(node, Value) and not whole:
        return node if node.random or "similarity" in node.names else "numbers"
    if isinstance(node, FrameTime) and not whole:
        return "moment"  # its effect is in the timeline
    return node


def _decides(node: Any) -> bool:
    """Whether a static field or a window below a node is random."""
    if isinstance(node, list | tuple):
        return any(map(_decides, node))
    if isinstance(node, FrameTime):
        return isinstance(node.at, Expression) and node.at.random
    if not isinstance(node, BaseModel):
        return False
    marks = numbers_of(type(node))
    for name in type(node).model_fields:
        value = getattr(node, name)
        if isinstance(value, Value):
            if value.random and (marks[name].static or marks[name].size):
                return True
        elif _decides(value):
            return True
    return False
