"""The timeline of an experiment: which steps share their shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clipig.config.parts import PostProc, Target
from clipig.config.schema import Experiment
from clipig.ops.base import Op, Value, numbers_of
from clipig.ops.kernels.sampling import Shape
from clipig.plan.clock import Active, Clock, clock_of, statics

Fields = tuple[tuple[str, Any], ...]
"""Static fields of a node by name."""


@dataclass(frozen=True)
class ConstraintShape:
    """An active constraint: its index in the target's list, and its static fields."""

    index: int
    fields: Fields


@dataclass(frozen=True)
class TargetShape:
    """What decides about the shapes of a target at one step.

    index           in the experiment's list of targets
    views           the target's own static fields, `batch_size` among them
    features        indices of the active features
    ops             static fields of each transform
    constraints     the active constraints
    acts            whether any of them has a weight other than 0, so that there is a loss
    """

    index: int
    views: Fields
    features: tuple[int, ...]
    ops: tuple[Fields, ...]
    constraints: tuple[ConstraintShape, ...]
    acts: bool = True


@dataclass(frozen=True)
class PostShape:
    """What decides about the shapes of an active edit: its index, static fields of its ops."""

    index: int
    ops: tuple[Fields, ...]


@dataclass(frozen=True)
class StepShape:
    """What decides about the shapes of one step; steps with equal shapes form a phase.

    size        height and width of the image
    targets     the active targets
    postproc    the active edits
    """

    size: Shape
    targets: tuple[TargetShape, ...]
    postproc: tuple[PostShape, ...]


@dataclass(frozen=True)
class Span:
    """Steps `first` to `last` (not included), which have the same shapes."""

    first: int
    last: int
    shape: StepShape


@dataclass(frozen=True)
class Timing:
    """What time does to one experiment: its clock, its timeline, static fields of `init`."""

    clock: Clock
    spans: tuple[Span, ...]
    init: Fields


def timing_of(experiment: Experiment) -> Timing:
    """The timing of an experiment; `clock.problems` holds the faults that were found."""
    clock = clock_of(experiment)
    init = _Statics([_Part("init", experiment.init)], clock).at(0)[0]
    return Timing(clock, tuple(timeline(experiment, clock)), init)


def timeline(experiment: Experiment, clock: Clock) -> Iterator[Span]:
    """The spans of an experiment, in order.

    Only steps at which something changes are looked at, so a run of many steps
    costs no more than a short one.
    """
    targets = [_Target(t, i, clock) for i, t in enumerate(experiment.targets) if t.active]
    posts = [_Post(p, i, clock) for i, p in enumerate(experiment.postproc) if p.active]
    sizes = _jumps(clock.sizes)
    changes = sorted({0, *sizes, *_all(t.changes() for t in targets),
                      *_all(p.changes() for p in posts)})

    def shape(step: int) -> StepShape:
        shown, edits = (t.at(step) for t in targets), (p.at(step) for p in posts)
        return StepShape(
            clock.size(step), tuple(t for t in shown if t is not None),
            tuple(p for p in edits if p is not None),
        )

    inside = [step for step in changes if step < len(clock)]
    shapes = [(step, shape(step)) for step in inside]
    groups = [(found, next(rows)[0]) for found, rows in itertools.groupby(
        shapes, lambda row: row[1])]
    ends = [first for _, first in groups[1:]] + [len(clock)]
    for (found, first), last in zip(groups, ends, strict=True):
        yield Span(first, last, found)


@dataclass(frozen=True)
class _Part:
    """A node with its key path."""

    key: str
    node: Any


class _Statics:
    """The static fields of some nodes at each step."""

    def __init__(self, parts: Iterable[_Part], clock: Clock):
        self._columns: list[Mapping[str, list[Any]]] = [
            statics(p.node, clock, p.key) for p in parts
        ]

    def at(self, step: int) -> tuple[Fields, ...]:
        """Fields of each node at a step."""
        return tuple(
            tuple((name, column[step % len(column)]) for name, column in columns.items())
            for columns in self._columns
        )

    def changes(self) -> set[int]:
        """Steps at which a field is another than before."""
        return _all(_jumps(column) for columns in self._columns for column in columns.values())


class _Weight:
    """Whether the weight of a target, feature or constraint is other than 0.

    A weight that is random or depends on the similarity counts as such.
    """

    def __init__(self, part: _Part, clock: Clock):
        weight: Value = part.node.weight
        self._acts = [True]
        if not weight.random and "similarity" not in weight.names:
            mark = numbers_of(part.node.__class__)["weight"]
            column = clock.numbers(weight, mark, f"{part.key}.weight")
            self._acts = [bool(row[0]) for row in column]

    def acts(self, step: int) -> bool:
        """Whether it is other than 0 at a step."""
        return self._acts[step % len(self._acts)]

    def changes(self) -> set[int]:
        """Steps at which that is another than before."""
        return _jumps(self._acts)


class _Target:
    """A target: its windows and static fields at each step."""

    def __init__(self, target: Target, index: int, clock: Clock):
        key = f"targets[{index}]"
        self._index = index
        self._active = clock.active(target.start, target.end, key)
        self._views = _Statics([_Part(key, target)], clock)
        self._ops = _Statics(_parts(target.transforms, f"{key}.transforms"), clock)
        constraints = _parts(target.constraints, f"{key}.constraints")
        self._constraints = _Statics(constraints, clock)
        features = [_Part(f"{key}.features[{i}]", f) for i, f in enumerate(target.features)]
        self._weight = _Weight(_Part(key, target), clock)
        self._weights = [[_Weight(p, clock) for p in parts] for parts in (features, constraints)]
        self._windows = [
            [clock.active(p.node.start, p.node.end, p.key) for p in parts]
            for parts in (features, constraints)
        ]

    def at(self, step: int) -> TargetShape | None:
        """Its shape at a step; None while there is nothing to do."""
        if step not in self._active:
            return None
        features, active = ([i for i, w in enumerate(ws) if step in w] for ws in self._windows)
        if not features and not active:
            return None
        constraints = self._constraints.at(step) if active else ()
        of_features, of_constraints = self._weights
        acts = self._weight.acts(step) and (
            any(of_features[i].acts(step) for i in features)
            or any(of_constraints[i].acts(step) for i in active)
        )
        return TargetShape(
            self._index, self._views.at(step)[0], tuple(features), self._ops.at(step),
            tuple(ConstraintShape(i, constraints[i]) for i in active), acts,
        )

    def changes(self) -> set[int]:
        """Steps at which its shape may be another than before."""
        windows = _all(_edges(w) for ws in self._windows for w in ws)
        statics = (self._views, self._ops, self._constraints)
        weights = _all(w.changes() for w in (self._weight, *itertools.chain(*self._weights)))
        return {*_edges(self._active), *windows, *weights, *_all(s.changes() for s in statics)}


class _Post:
    """An edit: its window and the static fields of its ops at each step."""

    def __init__(self, post: PostProc, index: int, clock: Clock):
        key = f"postproc[{index}]"
        self._index = index
        self._active = clock.active(post.start, post.end, key)
        self._ops = _Statics([_Part(f"{key}.{op.name}", op) for op in post.transforms], clock)

    def at(self, step: int) -> PostShape | None:
        """Its shape at a step; None while it is not active."""
        return PostShape(self._index, self._ops.at(step)) if step in self._active else None

    def changes(self) -> set[int]:
        """Steps at which its shape may be another than before."""
        return {*_edges(self._active), *self._ops.changes()}


def _parts(ops: Iterable[Op], key: str) -> list[_Part]:
    return [_Part(f"{key}[{i}].{op.name}", op) for i, op in enumerate(ops)]


def _all(sets: Iterable[Iterable[int]]) -> set[int]:
    return set(itertools.chain.from_iterable(sets))


def _edges(active: Active) -> set[int]:
    """Steps at which a window opens or has closed."""
    if isinstance(active, range):
        return {active.start, active.stop}
    return {s for s in active if s - 1 not in active} | {
        s + 1 for s in active if s + 1 not in active
    }


def _jumps(column: list[Any]) -> set[int]:
    """Steps at which a column has another value than in the step before."""
    return {s for s in range(1, len(column)) if column[s] != column[s - 1]}
