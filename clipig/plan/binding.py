"""Values bound to the steps of a run.

Everything that depends on time alone is worked out once, before the first step:
a table `[S|1, R|1, N|1, k]` per field (S steps, R runs, N views, k numbers),
read by index while the engine runs. What decides about shapes stays a Python
number, and what depends on the similarity is worked out on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from clipig.errors import ExpressionError, Problem
from clipig.ops.base import FrameTime, Numbers, Value, numbers_of
from clipig.rng import Draw, stream_id
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


@dataclass(frozen=True)
class Table:
    """Numbers by step: `data` `[S|1, R|1, N|1, k]` float32."""

    data: Tensor

    def at(self, step: int | Tensor) -> Tensor:
        """`[R|1, N|1, k]`; `step` counts from the first step of the plan."""
        if self.data.shape[0] == 1:
            return self.data[0]
        if isinstance(step, Tensor):
            return self.data.index_select(0, step.view(1))[0]
        return self.data[step]

    def at_steps(self, first: int, count: int, runs: int) -> Tensor:
        """`[count * runs | 1, N|1, k]`: several steps, ordered by step, then by run."""
        data = self.data if self.data.shape[0] == 1 else self.data[first : first + count]
        if data.shape[:2] == (1, 1):
            return data[0]
        return data.expand(count, runs, -1, -1).flatten(0, 1)

    def to(self, device: torch.device | str) -> Table:
        return Table(self.data.to(device))


def join(tables: Sequence[Table]) -> Table:
    """Tables of one number each as one of several."""
    shape = torch.broadcast_shapes(*(t.data.shape for t in tables))
    return Table(torch.cat([t.data.expand(shape) for t in tables], -1))


@dataclass(frozen=True)
class Live:
    """A value that depends on the similarity of the moment."""

    value: Value
    context: Mapping[str, Table]
    """time, sizes and rates as tables"""

    def at(self, step: int | Tensor, similarity: Tensor) -> Tensor:
        """`[R, N, k]` for similarities `[R, N]`."""
        context: dict[str, Any] = {
            name: table.at(step)[..., 0] for name, table in self.context.items()
        }
        context["similarity"] = similarity
        context["resolution"] = [context.get("width"), context.get("height")]
        columns = []
        for part in self.value.parts:
            number = part.tensor(context) if isinstance(part, Expression) else part
            if not isinstance(number, Tensor):  # filled, not copied from the host
                number = similarity.new_full((), number)
            columns.append(number.float().expand(similarity.shape))
        if len(columns) == 1:
            columns *= self.value.count
        return torch.stack(columns, -1)

    def to(self, device: torch.device | str) -> Live:
        return Live(self.value, {k: t.to(device) for k, t in self.context.items()})


@dataclass(frozen=True)
class Bound:
    """A node of the experiment with its numbers: what an op's `Params` are made of."""

    node: BaseModel
    tables: Mapping[str, Table]
    live: Mapping[str, Live]
    fixed: Mapping[str, Any]
    """fields that are no numbers, and static numbers of a phase as tuples"""

    def at(self, step: int | Tensor, similarity: Tensor | None = None) -> SimpleNamespace:
        """All fields for one step; `similarity` `[R, N]` is needed if any is live."""
        params = SimpleNamespace(**self.fixed)
        for name, table in self.tables.items():
            setattr(params, name, table.at(step))
        for name, live in self.live.items():
            if similarity is None:
                raise ValueError(f"{name} depends on the similarity")
            setattr(params, name, live.at(step, similarity))
        return params

    def at_steps(self, first: int, count: int, runs: int) -> SimpleNamespace:
        """All fields for several steps, as `Table.at_steps` orders them; none may be live."""
        params = SimpleNamespace(**self.fixed)
        for name, table in self.tables.items():
            setattr(params, name, table.at_steps(first, count, runs))
        return params

    def to(self, device: torch.device | str) -> Bound:
        return Bound(
            self.node,
            {k: t.to(device) for k, t in self.tables.items()},
            {k: v.to(device) for k, v in self.live.items()},
            self.fixed,
        )


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


def bind(
    nodes: Sequence[BaseModel], clocks: Sequence[Clock], key: str, draw: Draw, stream: int,
    views: int, fixed: Mapping[str, Any],
) -> Bound:
    """Bind one node of each of R runs (equal in structure) to the steps.

    `fixed` holds the static fields of the phase. Random values are drawn from
    each run's own seed: once if they do not depend on time, else for every step
    and view.
    """
    first = nodes[0]
    marks = numbers_of(type(first))
    plain = {
        name: getattr(first, name) for name in type(first).model_fields if name not in marks
    }
    tables: dict[str, Table] = {}
    live: dict[str, Live] = {}
    for name, mark in marks.items():
        if name in fixed:
            continue
        values = [getattr(n, name) for n in nodes]
        place = f"{key}.{name}" if key else name
        if values[0] is None:
            plain[name] = None
        elif "similarity" in values[0].names:
            live[name] = Live(values[0], _context_tables(clocks))
        elif any(v.random for v in values):
            tables[name] = _random(values, clocks, draw, (stream, name), views, place)
        else:
            tables[name] = _stack(
                [c.numbers(v, mark, place) for c, v in zip(clocks, values, strict=True)]
            )
    return Bound(first, tables, live, {**plain, **fixed})


def _stack(rows: Sequence[list[tuple[float, ...]]]) -> Table:
    """Rows of R runs as one table, kept small where runs or steps agree."""
    if all(r is rows[0] or r == rows[0] for r in rows):
        return Table(torch.tensor(rows[0], dtype=torch.float32)[:, None, None])
    steps = max(map(len, rows))
    columns = [torch.tensor(r, dtype=torch.float32).expand(steps, -1) for r in rows]
    return Table(torch.stack(columns, 1)[:, :, None])


def _context_tables(clocks: Sequence[Clock]) -> dict[str, Table]:
    names = [k for k in clocks[0].contexts[0] if k not in ("resolution",)]
    return {n: _stack([[(float(c[n]),) for c in clock.contexts] for clock in clocks])
            for n in names if not callable(clocks[0].contexts[0][n])}


def _random(
    values: Sequence[Value], clocks: Sequence[Clock], draw: Draw, stream: tuple[int, str],
    views: int, key: str,
) -> Table:
    """A table of random values, `[S|1, R, N|1, k]`."""
    value = values[0]
    steps, wide = (len(clocks[0]), views) if value.names else (1, 1)
    context: dict[str, Any] = {
        name: table.data[:steps, :, :, 0] for name, table in _context_tables(clocks).items()
    }
    context["resolution"] = [context.get("width"), context.get("height")]
    calls = 0

    def fresh() -> Tensor:
        nonlocal calls
        calls += 1
        unit = draw.uniform(stream_id(*stream, calls), 0, (steps, wide))
        return unit.transpose(0, 1)  # [S, R, N]

    columns: list[Tensor] = []
    for part in value.parts:
        if not isinstance(part, Expression):
            columns.append(torch.tensor(float(part)))
            continue
        try:
            part.check_tensor()
            columns.append(part.tensor(context, fresh).float())
        except ExpressionError as e:
            clocks[0].blame(key, str(e))
            columns.append(torch.zeros(()))
    shape = (steps, len(draw.keys), wide)
    columns = [c.cpu().expand(shape) for c in columns]
    if len(columns) == 1:
        columns *= value.count
    stacked = torch.stack(columns, -1)
    return Table(stacked.trunc() if value.integer else stacked)
