"""From experiments to a plan: what to do, step by step, with nothing left to decide.

`compile` is pure: it needs no weights, no device and no file. All faults that
can be known before the first step are found here, all at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import ConfigError
from clipig.ops.base import Numbers, numbers_of
from clipig.ops.kernels.sampling import Shape
from clipig.ops.transforms.chain import ChainError, Segment, arrange
from clipig.plan.clock import Clock, clock_of, statics
from clipig.plan.plan import ConstraintPlan, Phase, Plan, PostPlan, TargetPlan, frame
from clipig.plan.tables import Bound, Table, bind
from clipig.plan.timeline import Moment, timeline
from clipig.rng import Draw, stream_id


def compile(experiments: Sequence[Experiment], encoders: Sequence[EncoderInfo]) -> Plan:
    """Plan R runs that share their structure.

    Pure: needs no weights, no device and no file.

    Args:
        experiments: One per run, each with its seed (`Session.settle`). `Session.plan` sorts
            experiments of several structures into batches.
        encoders: What is known of the encoders, from `resolve_encoder`.

    Returns:
        What to do step by step, with nothing left to decide.

    Raises:
        ConfigError: Every problem that can be known before the first step: expressions that
            fail or leave their range at some epoch, crops and kernels that do not fit.
        ValueError: The runs differ in structure.
    """
    clocks = [clock_of(e) for e in experiments]
    draft = _Draft(experiments, clocks, tuple(encoders))
    plan = draft.plan()
    problems = {p for c in clocks for p in c.problems}
    if problems:
        raise ConfigError(sorted(problems))
    return plan


class _Draft:
    """The plan in the making: the experiments, their clocks, and where faults are noted."""

    def __init__(
        self, experiments: Sequence[Experiment], clocks: Sequence[Clock],
        encoders: tuple[EncoderInfo, ...],
    ):
        self.experiments, self.clocks, self.encoders = tuple(experiments), clocks, encoders
        self.first, self.clock = experiments[0], clocks[0]
        self.draw = Draw([e.seed or 0 for e in experiments])
        self.frame = frame(self.first)
        self.bounds: dict[tuple[Any, ...], Bound] = {}

    def plan(self) -> Plan:
        moments = timeline(self.first, self.clock)
        phases, first = [], 0
        for moment, group in itertools.groupby(moments):
            last = first + len(list(group))
            phases.append(self.phase(moment, first, last))
            first = last
        mark = Numbers()
        rates = [tuple((c["learnrate"],) for c in k.contexts) for k in self.clocks]
        weights = [
            self.clock.numbers(m.weight, mark, f"model[{i}].weight")[0][0]
            for i, m in enumerate(self.first.model)
        ]
        same = all(r == rates[0] for r in rates)
        columns = rates[:1] if same else rates
        table = torch.tensor(columns, dtype=torch.float32).transpose(0, 1)[:, :, None]
        return Plan(
            self.experiments, self.encoders, tuple(weights), self.clock.epochs, self.clock.start,
            tuple(c["time"] for c in self.clock.contexts), Table(table), self.init(),
            tuple(phases),
        )

    def init(self) -> Bound:
        fixed = {k: v[0] for k, v in statics(self.first.init, self.clock, "init").items()}
        return self.bind([e.init for e in self.experiments], "init", 1, fixed)

    def bind(
        self, nodes: Sequence[Any], key: str, views: int, fixed: Mapping[str, Any]
    ) -> Bound:
        """Bind a node once per distinct static part; phases share the tables."""
        place = (key, views, tuple(fixed.items()))
        if place not in self.bounds:
            self.bounds[place] = bind(
                nodes, self.clocks, key, self.draw, stream_id(key), views, fixed
            )
        return self.bounds[place]

    def phase(self, moment: Moment, first: int, last: int) -> Phase:
        height, width = moment.size
        if self.frame.symmetry == "rotate4" and height != width:
            self.clock.blame("symmetry", f"found 'rotate4' for a picture of {width}x{height}, "
                             "expected a square picture")
        targets = tuple(self.target(row, moment.size) for row in moment.targets)
        postproc = tuple(self.post(row, moment.size) for row in moment.postproc)
        return Phase(first, last, moment.size, targets, postproc)

    def target(self, row: Any, size: Shape) -> TargetPlan:
        index, views_row, features, op_rows, constraint_rows = row
        target = self.first.targets[index]
        key = f"targets[{index}]"
        peers = [e.targets[index] for e in self.experiments]
        wanted = int(dict(views_row)["batch_size"][0])
        first_op = self.frame.first_op(size)
        random = first_op is not None or any(
            op.random or any(
                v is not None and v.random
                for v in (getattr(op, n) for n in numbers_of(type(op)))
            )
            for op in target.transforms
        )
        views, repeats = (wanted, 1) if random else (1, wanted)
        ops = tuple(
            self.bind([p.transforms[i] for p in peers], f"{key}.transforms[{i}].{op.name}",
                      views, dict(op_rows[i]))
            for i, op in enumerate(target.transforms)
        )
        streams = tuple(stream_id(key, "transform", i) for i in range(len(ops)))
        if first_op is not None:
            fixed = {"size": size} if first_op.name == "random_crop" else {}
            place = f"{key}.{first_op.name}"
            ops = (self.bind([first_op] * len(peers), place, views, fixed), *ops)
            streams = (stream_id(place), *streams)
        constraints = tuple(
            ConstraintPlan(
                self.bind([p.constraints[i] for p in peers],
                          f"{key}.constraints[{i}].{target.constraints[i].name}", views, dict(r)),
                i, stream_id(key, "constraint", i),
            )
            for i, r in constraint_rows
        )
        segments = {}
        for side in sorted({e.size for e in self.encoders}):
            segments[side] = self.chain(
                ops, self.frame.outer(size), (side, side), f"{key}.transforms",
                added=len(ops) - len(target.transforms),
            )
            for c in constraints:
                node: Any = c.bound.node
                fault = node.check((side, side), c.bound.at(0) if not c.bound.live else
                                   _Fixed(c.bound.fixed))
                if fault:
                    self.clock.blame(f"{key}.constraints[{c.index}].{node.name}", fault)
        bounds = tuple(
            self.bind([p.features[i] for p in peers], f"{key}.features[{i}]", views, {})
            for i in features
        )
        return TargetPlan(
            index, target,
            self.bind(peers, key, views, dict(views_row)), views, repeats, features, bounds,
            tuple("weight" in b.live or float(b.tables["weight"].data.max()) > 0 for b in bounds),
            ops, segments,
            streams,
            constraints,
        )

    def post(self, row: Any, size: Shape) -> PostPlan:
        index, op_rows = row
        key = f"postproc[{index}]"
        peers = [e.postproc[index] for e in self.experiments]
        ops = tuple(
            self.bind([p.transforms[i] for p in peers], f"{key}.{op.name}", 1, dict(op_rows[i]))
            for i, op in enumerate(peers[0].transforms)
        )
        streams = tuple(stream_id(key, i) for i in range(len(ops)))
        return PostPlan(index, ops, self.chain(ops, size, size, key), streams)

    def chain(
        self, ops: Sequence[Bound], size: Shape, final: Shape, key: str, added: int = 0
    ) -> tuple[Segment, ...]:
        """The segments of a chain; `added` of the ops stand before the user's."""
        nodes: list[Any] = [b.node for b in ops]
        try:
            return arrange(nodes, [_Fixed(b.fixed) for b in ops], size, final)
        except ChainError as e:
            name = nodes[e.index].name
            listed = key.endswith("transforms")
            place = f"{key}[{e.index - added}].{name}" if listed else f"{key}.{name}"
            self.clock.blame(place, e.message)
            return ()


class _Fixed:
    """Static fields as attributes."""

    def __init__(self, fields: Mapping[str, Any]):
        self.__dict__.update(fields)
