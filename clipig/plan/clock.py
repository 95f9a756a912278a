"""The clock of an experiment: what formulas can see at each step, and values that follow it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from clipig.config.schema import Experiment
from clipig.errors import ConfigError, ExpressionError, Problem
from clipig.ops.base import Moment, Numbers, Value, numbers_of
from clipig.rng import Draw, stream_id
from clipig.values.expressions import Expression, time_context

Context = Mapping[str, Any]
Row = tuple[float, ...]
Column = list[Row]
"""The numbers of a value at each step; a single row if they never change."""
Active = range | frozenset[int]
"""The steps at which something acts."""

_HELD = 20_000
"""What depends on time alone is kept for runs of at most so many steps."""


@dataclass
class Clock:
    """What formulas can see at each step of one experiment.

    `context(s)` belongs to epoch `start + s`. `sizes` (width, height), `scales` and
    `rates` are columns, filled in by `clock_of`. `problems` collects faults of the user.
    """

    epochs: int
    start: int
    seed: int = 0
    base: float = 1.0
    """learning rate of the optimizer, which `learnrate` multiplies"""
    problems: list[Problem] = field(default_factory=list)
    sizes: Column = field(default_factory=list)
    scales: Column = field(default_factory=list)
    rates: Column = field(default_factory=list)
    _columns: dict[Any, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.epochs - self.start

    def time(self, step: int) -> float:
        """Time of a step: 0 at epoch 0 and 1 at the last epoch."""
        return (self.start + step) / max(1, self.epochs - 1)

    def size(self, step: int) -> tuple[int, int]:
        """Height and width of the image at a step."""
        width, height = _at(self.sizes, step)
        return int(height), int(width)

    def learnrate(self, step: int) -> float:
        """Learning rate of a step, the optimizer's base included."""
        return self.base * _at(self.scales, step)[0] * _at(self.rates, step)[0]

    def context(self, step: int) -> dict[str, Any]:
        """The values of all variables at a step, as far as they are known."""
        found = dict(self._times(step))
        if self.sizes:
            width, height = _at(self.sizes, step)
            found.update(width=width, height=height, resolution=[width, height])
        if self.rates:
            found.update(
                learnrate_scale=_at(self.scales, step)[0], learnrate=self.learnrate(step)
            )
        return found

    @property
    def contexts(self) -> Iterator[Context]:
        """The contexts of all steps, in order."""
        return map(self.context, range(len(self)))

    def _times(self, step: int) -> Context:
        if len(self) > _HELD:
            return time_context(self.start + step, self.epochs)
        return _time_contexts(self.start, self.epochs)[step]

    def blame(self, key: str, message: str) -> None:
        """Note a fault of the user at a key path."""
        self.problems.append(Problem("", 0, 0, key, message))

    def numbers(self, value: Value, mark: Numbers, key: str) -> Column:
        """The numbers of a value at each step; one row if they never change.

        Args:
            value: Constants or formulas. Random numbers are drawn from the seed.
            mark: The range of the numbers.
            key: Key path of the value, for messages and random numbers.
        """
        if value.constant:
            return [value.numbers()]
        known = (value, key if value.random else "")
        if known not in self._columns:
            self._columns[known] = self._evaluated(value, mark, key)
        return self._columns[known]

    def _evaluated(self, value: Value, mark: Numbers, key: str) -> Column:
        steps = len(self) if value.names else 1
        draws = _Draws(self.seed, key, steps)
        column = []
        for step, context in enumerate(itertools.islice(self.contexts, steps)):
            try:
                row = self._row(value, context, draws.at(step))
                if mark.floor is not None:
                    row = tuple(mark.floor if n < mark.floor else n for n in row)
                for number in row:
                    mark.check(number, f"{number:g} from {value.plain()!r}")
            except (ExpressionError, PydanticCustomError) as e:
                where = f" at epoch {context['epoch']}" if value.names else ""
                reason = str(e) if repr(value.plain()) in str(e) else f"{value.plain()!r}: {e}"
                self.blame(key, f"{reason}{where}")
                return [(1.0,) * value.count] * steps
            column.append(row)
        return column

    def _row(self, value: Value, context: Context, draws: _Draws) -> Row:
        out: list[float] = []
        for part in value.parts:
            if not isinstance(part, Expression):
                out.append(part)
                continue
            result = part.evaluate(context, draws)
            out += result if isinstance(result, list | tuple) else [result]
        if len(out) == 1:
            out *= value.count
        if len(out) != value.count:
            raise ExpressionError(f"{value.plain()!r} gives {len(out)} numbers, not {value.count}")
        whole = value.integer and all(map(math.isfinite, out))  # the rest is refused by the range
        return tuple(int(n) if whole else float(n) for n in out)

    def active(self, start: Moment, end: Moment, key: str) -> Active:
        """The steps from `start` to `end`, both included."""
        if not isinstance(start.at, Expression) and not isinstance(end.at, Expression):
            first, last = self._first(start.at, False), self._first(end.at, True)
            return range(first, max(first, last))
        ahead = [self._ahead(start, f"{key}.start"), self._ahead(end, f"{key}.end")]
        return frozenset(
            step for step, (begin, finish) in enumerate(zip(*ahead, strict=True))
            if begin <= 0 <= finish
        )

    def _first(self, moment: float, after: bool) -> int:
        """The first step that is at a moment or after it; with `after` only the latter."""
        if isinstance(moment, int):
            step = moment + after - self.start
            return min(max(step, 0), len(self))
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            now = self.time(middle)
            if now > moment or (now == moment and not after):
                high = middle
            else:
                low = middle + 1
        return low

    def _ahead(self, moment: Moment, key: str) -> Iterable[float]:
        """For each step how far a moment lies ahead of it, in epochs or in time."""
        at, draws = moment.at, _Draws(self.seed, key, len(self))
        for step in range(len(self)):
            number: Any = at
            if isinstance(at, Expression):
                try:
                    number = at.evaluate(self.context(step), draws.at(step if at.names else 0))
                    if isinstance(number, list | tuple) or not math.isfinite(number):
                        raise ExpressionError(f"{at.text!r} gives {number}, no moment of the run")
                except ExpressionError as e:
                    self.blame(key, f"{e} at epoch {self.start + step}")
                    at = number = 0.0  # one fault is enough
            now = self.start + step if isinstance(number, int) else self.time(step)
            yield float(number) - float(now)


class _Draws:
    """Uniform random numbers for one value of one run: the same for the same seed and key."""

    def __init__(self, seed: int, key: str, steps: int):
        self._seed, self._key, self._steps = seed, key, steps
        self._known: list[list[float]] = []
        self._step, self._calls = 0, 0

    def at(self, step: int) -> _Draws:
        """Begin the draws of a step."""
        self._step, self._calls = step, 0
        return self

    def __call__(self) -> float:
        if self._calls == len(self._known):
            stream = stream_id(self._key, "drawn", self._calls)
            numbers = Draw([self._seed]).uniform(stream, 0, (self._steps,))
            self._known.append(numbers[0].tolist())
        self._calls += 1
        return self._known[self._calls - 1][self._step]


@functools.lru_cache(maxsize=4)
def _time_contexts(start: int, epochs: int) -> list[Context]:
    return [time_context(epoch, epochs) for epoch in range(start, epochs)]


def _at(column: Column, step: int) -> Row:
    return column[step % len(column)]


def statics(node: BaseModel, clock: Clock, key: str) -> dict[str, list[Any]]:
    """The static fields of a node at each step (one entry if they never change).

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
        column = clock.numbers(value, mark, f"{key}.{name}")
        out[name] = [row[::-1] if mark.size else row for row in column]
    return out


def epochs_of(experiment: Experiment) -> tuple[int, int]:
    """The first epoch of an experiment, and the number of epochs.

    Formulas without variables are drawn from the seed. Raises `ConfigError` for a
    value out of its range.
    """
    marks = numbers_of(Experiment)
    clock = Clock(1, 0, experiment.seed or 0)
    start, epochs = (
        int(clock.numbers(getattr(experiment, name), marks[name], name)[0][0])
        for name in ("start_epoch", "epochs")
    )
    if clock.problems:
        raise ConfigError(clock.problems)
    return start, epochs


def clock_of(experiment: Experiment) -> Clock:
    """The clock of an experiment, with sizes and learning rates filled in."""
    marks = numbers_of(Experiment)
    start, epochs = epochs_of(experiment)
    clock = Clock(epochs, start, experiment.seed or 0, experiment.optimizer.base)
    if start >= epochs:
        problem = f"found {start}, expected less than epochs={epochs}"
        clock = Clock(start + 1, start, clock.seed, clock.base)
        clock.blame("start_epoch", problem)

    def column(name: str) -> Column:
        return clock.numbers(getattr(experiment, name), marks[name], name)

    clock.sizes = column("resolution")
    scales, rates = column("learnrate_scale"), column("learnrate")
    clock.scales, clock.rates = scales, rates
    return clock
