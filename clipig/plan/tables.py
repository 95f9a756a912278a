"""Values bound to the steps of a run.

Values that depend on time alone are computed once, before the first step: a table
`[S|1, R|1, N|1, k]` per field (S steps, R runs, N views, k values), read by index
while the engine runs. Values that decide about shapes stay Python numbers; values that
depend on the similarity are computed on the device in each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from clipig.errors import ExpressionError
from clipig.ops.base import Value, numbers_of
from clipig.plan import limits
from clipig.plan.clock import Clock, Column
from clipig.rng import Draw, stream_id
from clipig.values.expressions import Expression
from clipig.values.expressions.tensors import compute


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
    floor: float | None = None
    """what the numbers count as where they fall below it"""

    def at(self, step: int | Tensor, similarity: Tensor) -> Tensor:
        """`[R, N, k]` for similarities `[R, N]`."""
        context: dict[str, Any] = {
            name: table.at(step)[..., 0] for name, table in self.context.items()
        }
        context["similarity"] = similarity
        context["resolution"] = [context.get("width"), context.get("height")]
        columns = []
        for part in self.value.parts:
            number = compute(part, context) if isinstance(part, Expression) else part
            if not isinstance(number, Tensor):  # filled, not copied from the host
                number = similarity.new_full((), number)
            columns.append(number.float().expand(similarity.shape))
        if len(columns) == 1:
            columns *= self.value.count
        stacked = torch.stack(columns, -1)
        return stacked if self.floor is None else stacked.clamp(min=self.floor)

    def to(self, device: torch.device | str) -> Live:
        return Live(self.value, {k: t.to(device) for k, t in self.context.items()}, self.floor)


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


def bind(
    nodes: Sequence[BaseModel], clocks: Sequence[Clock], key: str, draw: Draw, stream: int,
    views: int, fixed: Mapping[str, Any],
) -> Bound:
    """Bind one node of each of R runs (equal in structure) to the steps.

    Random values are drawn from the seed of each run: once if they do not depend on
    time, otherwise for every step and view.

    Args:
        nodes: The node in each run.
        clocks: The clock of each run.
        key: Key path of the node, for messages.
        draw: Random numbers of the runs.
        stream: Of the random numbers of this node.
        views: N, views per run and step.
        fixed: The static fields of the phase.

    Returns:
        Tables `[S|1, R|1, N|1, k]` and live values by field.

    Raises:
        ConfigError: The table of a random value would be too large.
    """
    if all(n is nodes[0] for n in nodes) and all(c is clocks[0] for c in clocks):
        nodes, clocks = nodes[:1], clocks[:1]  # `draw` knows how many runs there are
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
            live[name] = Live(values[0], _context_tables(values[0], clocks), mark.floor)
        elif any(v.random for v in values):
            tables[name] = _random(values, clocks, draw, (stream, name), views, place, mark.floor)
        else:
            tables[name] = _stack(
                [c.numbers(v, mark, place) for c, v in zip(clocks, values, strict=True)]
            )
    return Bound(first, tables, live, {**plain, **fixed})


def _stack(rows: Sequence[Column]) -> Table:
    """Rows of R runs as one table, kept small where runs or steps agree."""
    if all(r is rows[0] or r == rows[0] for r in rows):
        return Table(torch.tensor(rows[0], dtype=torch.float32)[:, None, None])
    steps = max(map(len, rows))
    columns = [torch.tensor(r, dtype=torch.float32).expand(steps, -1) for r in rows]
    return Table(torch.stack(columns, 1)[:, :, None])


def _context_tables(value: Value, clocks: Sequence[Clock]) -> dict[str, Table]:
    """The variables of a value as tables; `resolution` as `width` and `height`."""
    names = value.names - {"similarity", "resolution"}
    if "resolution" in value.names:
        names |= {"width", "height"}
    distinct = {id(clock): clock for clock in clocks}
    tables = {}
    for name in sorted(names):
        rows: dict[int, Column] = {
            key: [(float(c[name]),) for c in clock.contexts] for key, clock in distinct.items()
        }
        tables[name] = _stack([rows[id(clock)] for clock in clocks])
    return tables


def _random(
    values: Sequence[Value], clocks: Sequence[Clock], draw: Draw, stream: tuple[int, str],
    views: int, key: str, floor: float | None = None,
) -> Table:
    """A table of random values, `[S|1, R, N|1, k]`."""
    value = values[0]
    steps, wide = (len(clocks[0]), views) if value.names else (1, 1)
    limits.check_tables(steps * len(draw.keys) * wide * value.count * 4)
    context: dict[str, Any] = {
        name: table.data[..., 0] for name, table in _context_tables(value, clocks).items()
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
            columns.append(compute(part, context, fresh).float())
        except ExpressionError as e:
            clocks[0].blame(key, str(e))
            columns.append(torch.zeros(()))
    shape = (steps, len(draw.keys), wide)
    columns = [c.cpu().expand(shape) for c in columns]
    if len(columns) == 1:
        columns *= value.count
    stacked = torch.stack(columns, -1)
    stacked = stacked if floor is None else stacked.clamp(min=floor)
    return Table(stacked.trunc() if value.integer else stacked)
