"""The clock of an experiment: what formulas can see at each step, and values that follow it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from clipig.config.schema import Experiment
from clipig.errors import ExpressionError, Problem
from clipig.ops.base import FrameTime, Numbers, Value, numbers_of
from clipig.values.expressions import Expression, time_context

Context = Mapping[str, Any]


@dataclass
class Clock:
    """What expressions can see at each step: one context per step.

    `contexts[s]` belongs to epoch `start + s`; sizes and rates are added as the
    plan works them out. `problems` collects what goes wrong.
    """

    epochs: int
    start: int
    contexts: list[dict[str, Any]] = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    cache: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contexts = [dict(time_context(e, self.epochs)) for e in range(self.start, self.epochs)]

    def __len__(self) -> int:
        return len(self.contexts)

    def blame(self, key: str, message: str) -> None:
        """Note a fault of the user at a key path."""
        self.problems.append(Problem("", 0, 0, key, message))

    def numbers(self, value: Value, mark: Numbers, key: str) -> list[tuple[float, ...]]:
        """The numbers of a value without randomness, for each step (one entry if constant)."""
        if value.constant:
            return [value.numbers()]
        if value in self.cache:
            return self.cache[value]  # type: ignore[no-any-return]
        steps = self.contexts if value.names else self.contexts[:1]
        rows = []
        for context in steps:
            try:
                row = self._row(value, context)
                for number in row:
                    mark.check(number, f"{number:g} from {value.plain()!r}")
            except Exception as e:
                if not isinstance(e, ExpressionError) and type(e).__module__ != _PYDANTIC:
                    raise
                where = f" at epoch {context['epoch']}" if value.names else ""
                told = str(e) if repr(value.plain()) in str(e) else f"{value.plain()!r}: {e}"
                self.blame(key, f"{told}{where}")
                rows = [(1.0,) * value.count] * len(steps)
                break
            rows.append(row)
        self.cache[value] = rows
        return rows

    def _row(self, value: Value, context: Context) -> tuple[float, ...]:
        out: list[float] = []
        for part in value.parts:
            if not isinstance(part, Expression):
                out.append(part)
                continue
            result = part.evaluate(context)
            out += result if isinstance(result, list | tuple) else [result]
        if len(out) == 1:
            out *= value.count
        if len(out) != value.count:
            raise ExpressionError(f"{value.plain()!r} gives {len(out)} numbers, not {value.count}")
        return tuple(int(n) if value.integer else float(n) for n in out)

    def active(self, start: FrameTime, end: FrameTime, key: str) -> list[bool]:
        """For each step whether it lies in a window, both ends included."""
        return [
            self._moment(start, c, f"{key}.start") <= 0 <= self._moment(end, c, f"{key}.end")
            for c in self.contexts
        ]

    def _moment(self, moment: FrameTime, context: Context, key: str) -> float:
        """How far the moment lies ahead of now."""
        at: Any = moment.at
        if isinstance(at, Expression):
            try:
                at = at.evaluate(context)
            except ExpressionError as e:
                self.blame(key, f"{e} at epoch {context['epoch']}")
                return 0.0
        now = context["epoch"] if isinstance(at, int) else context["time"]
        return float(at) - float(now)


_PYDANTIC = "pydantic_core._pydantic_core"


def statics(node: BaseModel, clock: Clock, key: str) -> dict[str, list[Any]]:
    """The static fields of a node for each step (one entry if they never change).

    Pixel sizes are turned from the YAML's `width height` to `(height, width)`.
    """
    out: dict[str, list[Any]] = {}
    for name, mark in numbers_of(type(node)).items():
        value = getattr(node, name)
        if not (mark.static or mark.size):
            continue
        if value is None:
            out[name] = [None]
            continue
        if value.random:
            clock.blame(f"{key}.{name}", "a random expression cannot decide about sizes")
            value = Value((1,) * value.count, value.count, value.integer)
        rows = clock.numbers(value, mark, f"{key}.{name}")
        out[name] = [row[::-1] if mark.size else row for row in rows]
    return out


def clock_of(experiment: Experiment) -> Clock:
    """The contexts of all steps, with sizes and learning rates filled in."""
    marks = numbers_of(Experiment)
    epochs = int(experiment.epochs.numbers()[0])
    start = int(experiment.start_epoch.numbers()[0])
    clock = Clock(epochs, start)
    if start >= epochs:
        clock.blame("start_epoch", f"found {start}, expected less than epochs={epochs}")
        clock = Clock(start + 1, start)
    sizes = clock.numbers(experiment.resolution, marks["resolution"], "resolution")
    for context, (width, height) in zip(clock.contexts, itertools.cycle(sizes), strict=False):
        context.update(width=width, height=height, resolution=[width, height])
    scales = clock.numbers(
        experiment.learnrate_scale, marks["learnrate_scale"], "learnrate_scale"
    )
    rates = clock.numbers(experiment.learnrate, marks["learnrate"], "learnrate")
    for s, context in enumerate(clock.contexts):
        scale, rate = scales[s % len(scales)][0], rates[s % len(rates)][0]
        context.update(
            learnrate_scale=scale, learnrate=experiment.optimizer.base * scale * rate
        )
    return clock
