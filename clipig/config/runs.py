"""From an experiment to its runs: each gets its own seed and its place in the row.

    runs: 7
    seeds: same
    ... weight: 1 - row        # 1 in the first run, 0 in the last

`row` is settled here: its number takes the place of the word in every formula. A
run then depends on its own config only, and can be made again without the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from clipig.config.schema import Experiment
from clipig.errors import ConfigError, Problem
from clipig.ops.base import Moment, Numbers, Op, Value, numbers_of
from clipig.rng import derive_seed
from clipig.values.expressions import Expression

_WORD = re.compile(r"\brow\b")
Change = Callable[[Value | Moment, Numbers | None, str], Value | Moment]
"""What to make of a number or moment that depends on `row`, by its mark and key."""


def spread(experiment: Experiment) -> list[Experiment]:
    """One experiment per run, without `row` and `runs`. The seed must be there.

    Run k has the seed itself (k = 0, or `seeds: same`) or one derived from it, and
    the place k / (runs - 1) if the config names none. Raises `ConfigError` for
    numbers that leave their range in some run.
    """
    seed, count = experiment.seed or 0, experiment.runs
    problems: list[Problem] = []
    runs = []
    moving = bool(row_keys(experiment))
    for k in range(count):
        row = Fraction(k, max(1, count - 1)) if experiment.row is None else experiment.row
        same = k == 0 or experiment.seeds == "same"
        placed = _placed(experiment, row, problems) if moving else experiment
        runs.append(placed.model_copy(update={
            "runs": 1, "row": None, "seeds": "each", "seed": seed if same else derive_seed(seed, k),
        }))
    if problems:
        raise ConfigError(sorted(set(problems)))
    return runs


def row_keys(experiment: Experiment) -> list[str]:
    """The keys whose formulas see `row`: `targets[0].features[1].weight`."""
    keys: list[str] = []

    def note(value: Value | Moment, mark: Numbers | None, key: str) -> Value | Moment:
        keys.append(key)
        return value

    _changed(experiment, "", note)
    return keys


def _placed(experiment: Experiment, row: Fraction | float, problems: list[Problem]) -> Experiment:
    """The experiment with `row` replaced by a number wherever it stands."""

    def settle(value: Value | Moment, mark: Numbers | None, key: str) -> Value | Moment:
        try:
            if isinstance(value, Moment):
                return Moment.read(_written(value.at, row))
            assert mark is not None
            return mark.read([_written(part, row) for part in value.parts])
        except PydanticCustomError as e:
            where = f"; that is {value.plain()!r} at row {float(row):.4g}"
            problems.append(Problem("", 0, 0, key, e.message() + where))
            return value

    placed: Experiment = _changed(experiment, "", settle)
    return placed


def _written(part: float | Expression, row: Fraction | float) -> float | str:
    return _WORD.sub(f"({row})", part.text) if isinstance(part, Expression) else part


def _changed(node: Any, key: str, change: Change) -> Any:
    """A node with whatever depends on `row` below it changed; itself if nothing does."""
    if isinstance(node, list | tuple):
        items = [_changed(item, f"{key}[{i}]", change) for i, item in enumerate(node)]
        return node if all(a is b for a, b in zip(items, node, strict=True)) else items
    if not isinstance(node, BaseModel):
        return node
    key = f"{key}.{node.name}" if isinstance(node, Op) else key
    marks = numbers_of(type(node))
    update: dict[str, Any] = {}
    for name in type(node).model_fields:
        value = getattr(node, name)
        place = f"{key}.{name}" if key else name
        if isinstance(value, Value | Moment):
            new = change(value, marks.get(name), place) if "row" in _names(value) else value
        else:
            new = _changed(value, place, change)
        if new is not value:
            update[name] = new
    return node.model_copy(update=update) if update else node


def _names(value: Value | Moment) -> frozenset[str]:
    if isinstance(value, Value):
        return value.names
    return value.at.names if isinstance(value.at, Expression) else frozenset()
