"""Which experiments can share a plan, and the timing of each, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from clipig.config.parts import Model
from clipig.config.schema import Experiment
from clipig.ops.base import Moment, Numbers, Op, Value, Windowed, numbers_of
from clipig.plan import limits
from clipig.plan.clock import epochs_of
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
    """Sort experiments into sets that can share a plan, in order of first appearance.

    A set has at most `limits.RUNS` runs. Raises `ConfigError` for experiments that are too
    large to be planned.
    """
    forms, known = _Forms(), timings(experiments)
    groups: dict[Any, list[int]] = {}
    shapes: dict[int, str] = {}
    for index, (experiment, timing) in enumerate(zip(experiments, known, strict=True)):
        if id(timing) not in shapes:
            clock = timing.clock
            shapes[id(timing)] = repr((timing.spans, timing.init, clock.start, clock.epochs))
        key = (forms.of(experiment).shared, shapes[id(timing)])
        groups.setdefault(key, []).append(index)
    pieces = [
        rows[i : i + limits.RUNS] for rows in groups.values()
        for i in range(0, len(rows), limits.RUNS)
    ]
    return [RunSet(tuple(rows), tuple(known[i] for i in rows)) for rows in pieces]


def split(experiments: Sequence[Experiment]) -> list[list[int]]:
    """Indices of experiments that can share a plan, in order of first appearance."""
    return [list(found.rows) for found in run_sets(experiments)]


def timings(experiments: Sequence[Experiment]) -> list[Timing]:
    """The timing of each experiment; experiments that time treats alike share one object.

    Raises `ConfigError` for experiments that are too large to be planned.
    """
    forms = _Forms()
    keys: list[Any] = []
    distinct: dict[Any, Experiment] = {}
    evaluations = longest = 0
    for experiment in experiments:
        form = forms.of(experiment)
        keys.append((form.whole, experiment.seed if form.drawn else None))
        if keys[-1] not in distinct:
            limits.check_parts(form.parts)
            distinct[keys[-1]] = experiment
            start, epochs = epochs_of(experiment)
            longest = max(longest, epochs - start)
            evaluations += form.formulas * max(epochs - start, 0)
    limits.check_evaluations(evaluations, longest)
    known = {key: timing_of(experiment) for key, experiment in distinct.items()}
    return [known[key] for key in keys]


@dataclass(frozen=True)
class _Form:
    """What is known of an experiment without computing any of its values.

    whole       decides about its timing
    shared      must agree between runs that share a plan
    drawn       whether random numbers decide about sizes, windows or learning rates
    formulas    how many values are computed for every step
    parts       targets, features, transforms, constraints and edits
    """

    whole: str
    shared: str
    drawn: bool
    formulas: int
    parts: int


class _Forms:
    """The forms of experiments; parts that several of them share are looked at once."""

    def __init__(self) -> None:
        self._known: dict[Any, _Form] = {}
        self._kept: list[object] = []  # so that no address is used twice

    def of(self, experiment: Experiment) -> _Form:
        """The form of an experiment; those that differ in `_OWN` fields share one."""
        fields = [(k, v) for k, v in vars(experiment).items() if k not in _OWN]
        key = tuple(id(v) for _, v in fields)
        if key not in self._known:
            parts = [self._part(name, value) for name, value in fields]
            self._known[key] = _Form(
                repr([p.whole for p in parts]), repr([p.shared for p in parts]),
                any(p.drawn for p in parts), sum(p.formulas for p in parts),
                sum(p.parts for p in parts),
            )
        return self._known[key]

    def _part(self, name: str, value: Any) -> _Form:
        key = (name, id(value))
        if key not in self._known:
            mark = numbers_of(Experiment).get(name)
            nodes = list(_nodes(value, mark))
            self._known[key] = _Form(
                repr(_form(value, whole=True)), repr(_form(value, whole=False)),
                any(_random(v) for v, m in nodes if m is None or m.static or m.size or
                    isinstance(value, Value)),
                sum(_over_time(v) for v, _ in nodes),
                sum(isinstance(v, Windowed | Op) for v, _ in nodes),
            )
            self._kept.append(value)
        return self._known[key]


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
    if isinstance(node, Moment) and not whole:
        return "moment"  # its effect is in the timeline
    return node


def _nodes(node: Any, mark: Numbers | None = None) -> Iterator[tuple[Any, Numbers | None]]:
    """A node and all below it; values with their ranges."""
    yield node, mark
    if isinstance(node, list | tuple):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, BaseModel):
        marks = numbers_of(type(node))
        for name, value in vars(node).items():
            yield from _nodes(value, marks.get(name))


def _random(node: Any) -> bool:
    if isinstance(node, Moment):
        return isinstance(node.at, Expression) and node.at.random
    return isinstance(node, Value) and node.random


def _over_time(node: Any) -> bool:
    """Whether a value is computed for every step before the first."""
    if isinstance(node, Moment):
        return isinstance(node.at, Expression)
    return isinstance(node, Value) and bool(node.names) and "similarity" not in node.names
