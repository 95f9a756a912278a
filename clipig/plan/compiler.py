"""From experiments to a plan: what to do, step by step, with nothing left to decide.

`compile` is pure: it needs no weights, no device and no file. All faults that
can be known before the first step are found here, all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from clipig.config.parts import Target
from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import ConfigError
from clipig.ops.base import Numbers, Op, numbers_of
from clipig.ops.kernels.sampling import Shape
from clipig.ops.transforms.chain import Chain, ChainError
from clipig.plan import limits
from clipig.plan.clock import Clock
from clipig.plan.grouping import timings as timings_of
from clipig.plan.plan import ConstraintPlan, Phase, Plan, PostPlan, TargetPlan, frame
from clipig.plan.tables import Bound, Table, bind
from clipig.plan.timeline import Fields, PostShape, Span, TargetShape, Timing
from clipig.rng import Draw, stream_id


def compile(
    experiments: Sequence[Experiment], encoders: Sequence[EncoderInfo],
    timings: Sequence[Timing] | None = None,
) -> Plan:
    """Plan R runs that share their structure.

    Pure: needs no weights, no device and no file.

    Args:
        experiments: One per run, each with its seed (`Session.settle`). `Session.plan` sorts
            experiments of several structures into batches.
        encoders: What is known of the encoders, from `resolve_encoder`.
        timings: The timing of each run, where `run_sets` has computed it already.

    Returns:
        What to do step by step, with nothing left to decide.

    Raises:
        ConfigError: Every problem that can be known before the first step: formulas that
            fail or leave their range at some epoch, crops and kernels that do not fit.
    """
    known = tuple(timings_of(experiments) if timings is None else timings)
    draft = _Draft(tuple(experiments), known, tuple(encoders))
    plan = draft.plan()
    problems = {p for c in {id(c): c for c in draft.clocks}.values() for p in c.problems}
    if problems:
        raise ConfigError(sorted(problems))
    return plan


class _Draft:
    """The plan in the making: the experiments, their clocks, and where faults are noted."""

    def __init__(
        self, experiments: tuple[Experiment, ...], timings: tuple[Timing, ...],
        encoders: tuple[EncoderInfo, ...],
    ):
        self.experiments, self.timings, self.encoders = experiments, timings, encoders
        self.clocks: list[Clock] = [t.clock for t in timings]
        self.first, self.clock = experiments[0], self.clocks[0]
        self.draw = Draw([e.seed or 0 for e in experiments])
        self.frame = frame(self.first)
        self.bounds: dict[tuple[Any, ...], Bound] = {}
        self.bytes = 0

    def plan(self) -> Plan:
        """The whole plan."""
        mark = Numbers()
        weights = [
            self.clock.numbers(m.weight, mark, f"model[{i}].weight")[0][0]
            for i, m in enumerate(self.first.model)
        ]
        init = self.bind([e.init for e in self.experiments], "init", 1, self.timings[0].init)
        phases = tuple(self.phase(span) for span in self.timings[0].spans)
        return Plan(
            self.experiments, self.encoders, tuple(weights), self.clock.epochs, self.clock.start,
            self.rates(), init, phases, self.timings,
        )

    def rates(self) -> Table:
        """The learning rates, `[S|1, R|1, 1, 1]`."""
        distinct = {id(clock): clock for clock in self.clocks}
        rates = {}
        for key, clock in distinct.items():
            changes = max(len(clock.scales), len(clock.rates))
            rates[key] = [clock.learnrate(step) for step in range(changes)]
        columns = [rates[id(clock)] for clock in self.clocks]
        if all(c == columns[0] for c in columns):
            columns = columns[:1]
        steps = max(map(len, columns))
        table = [torch.tensor(c, dtype=torch.float32).expand(steps) for c in columns]
        return Table(torch.stack(table, 1)[:, :, None, None])

    def bind(self, nodes: Sequence[Any], key: str, views: int, fields: Fields) -> Bound:
        """Bind a node once per distinct static part; phases share the tables."""
        place = (key, views, fields)
        if place not in self.bounds:
            bound = bind(nodes, self.clocks, key, self.draw, stream_id(key), views, dict(fields))
            self.bytes += sum(table.data.nbytes for table in bound.tables.values())
            limits.check_tables(self.bytes)
            self.bounds[place] = bound
        return self.bounds[place]

    def phase(self, span: Span) -> Phase:
        """The phase of some steps with equal shapes."""
        size = span.shape.size
        height, width = size
        if self.frame.symmetry == "rotate4" and height != width:
            self.clock.blame("symmetry", f"found 'rotate4' for a picture of {width}x{height}, "
                             "expected a square picture")
        if fault := self.first.canvas.check(size):
            self.clock.blame("canvas", fault)
        targets = tuple(self.target(shape, size) for shape in span.shape.targets)
        postproc = tuple(self.post(shape, size) for shape in span.shape.postproc)
        return Phase(span.first, span.last, size, targets, postproc)

    def target(self, shape: TargetShape, size: Shape) -> TargetPlan:
        """A target during one phase."""
        target = self.first.targets[shape.index]
        key = f"targets[{shape.index}]"
        peers = [e.targets[shape.index] for e in self.experiments]
        views, repeats = self._views(shape, size)
        ops, streams, chains = self._chains(shape, size, views)
        features = tuple(
            self.bind([p.features[i] for p in peers], f"{key}.features[{i}]", views, ())
            for i in shape.features
        )
        return TargetPlan(
            shape.index, target, self.bind(peers, key, views, shape.views), views, repeats,
            shape.features, features, tuple(map(_attracts, features)), ops, chains, streams,
            self._constraints(shape, views), shape.acts, self._encoders(target),
        )

    def _encoders(self, target: Target) -> tuple[int, ...]:
        """The numbers of the encoders that look at a target."""
        return tuple(
            i for i, model in enumerate(self.first.model)
            if target.models is None or model.name in target.models
        )

    def _views(self, shape: TargetShape, size: Shape) -> tuple[int, int]:
        """How many views are made, and by how much each counts.

        Views of a chain without randomness are equal: one is made, and counts as all.
        """
        ops = self.first.targets[shape.index].transforms
        wanted = int(dict(shape.views)["batch_size"][0])
        random = self.frame.first_op(size) is not None or any(map(_random, ops))
        return (wanted, 1) if random else (1, wanted)

    def _chains(
        self, shape: TargetShape, size: Shape, views: int
    ) -> tuple[tuple[Bound, ...], tuple[int, ...], dict[int, Chain]]:
        """The transforms of a target, their streams of random numbers, their chains by side."""
        key = f"targets[{shape.index}]"
        target = self.first.targets[shape.index]
        peers = [e.targets[shape.index] for e in self.experiments]
        ops = tuple(
            self.bind([p.transforms[i] for p in peers], f"{key}.transforms[{i}].{op.name}",
                      views, shape.ops[i])
            for i, op in enumerate(target.transforms)
        )
        streams = tuple(stream_id(key, "transform", i) for i in range(len(ops)))
        first_op = self.frame.first_op(size)
        if first_op is not None:
            fields: Fields = (("size", size),) if first_op.name == "random_crop" else ()
            place = f"{key}.{first_op.name}"
            ops = (self.bind([first_op] * len(peers), place, views, fields), *ops)
            streams = (stream_id(place), *streams)
        added = len(ops) - len(target.transforms)
        outer = self.frame.outer(size)
        chains = {
            side: self.arrange(ops, outer, (side, side), f"{key}.transforms", added)
            for side in sorted({e.size for e in self.encoders})
        }
        return ops, streams, chains

    def _constraints(self, shape: TargetShape, views: int) -> tuple[ConstraintPlan, ...]:
        """The active constraints of a target."""
        key = f"targets[{shape.index}]"
        peers = [e.targets[shape.index] for e in self.experiments]
        found = []
        for i, fields in ((c.index, c.fields) for c in shape.constraints):
            node: Any = peers[0].constraints[i]
            place = f"{key}.constraints[{i}].{node.name}"
            bound = self.bind([p.constraints[i] for p in peers], place, views, fields)
            found.append(ConstraintPlan(bound, i, stream_id(key, "constraint", i)))
            given = SimpleNamespace(**bound.fixed) if bound.live else bound.at(0)
            for side in sorted({e.size for e in self.encoders}):
                if fault := node.check((side, side), given):
                    self.clock.blame(place, fault)
        return tuple(found)

    def post(self, shape: PostShape, size: Shape) -> PostPlan:
        """An edit of the canvas during one phase."""
        key = f"postproc[{shape.index}]"
        peers = [e.postproc[shape.index] for e in self.experiments]
        ops = tuple(
            self.bind([p.transforms[i] for p in peers], f"{key}.{op.name}", 1, shape.ops[i])
            for i, op in enumerate(peers[0].transforms)
        )
        streams = tuple(stream_id(key, i) for i in range(len(ops)))
        return PostPlan(shape.index, ops, self.arrange(ops, size, size, key), streams)

    def arrange(
        self, ops: Sequence[Bound], size: Shape, final: Shape, key: str, added: int = 0
    ) -> Chain:
        """Arrange transforms; `added` of the ops stand before the user's."""
        nodes: list[Any] = [b.node for b in ops]
        try:
            return Chain.arrange(nodes, [SimpleNamespace(**b.fixed) for b in ops], size, final)
        except ChainError as e:
            name = nodes[e.index].name
            listed = key.endswith("transforms")
            place = f"{key}[{e.index - added}].{name}" if listed else f"{key}.{name}"
            self.clock.blame(place, e.message)
            return Chain(tuple(nodes))


def _random(op: Op) -> bool:
    """Whether an op does something else to each view."""
    values = (getattr(op, name) for name in numbers_of(type(op)))
    random = bool(getattr(op, "random", False))
    return random or any(v is not None and v.random for v in values)


def _attracts(feature: Bound) -> bool:
    """Whether the weight of a feature is ever positive."""
    return "weight" in feature.live or float(feature.tables["weight"].data.max()) > 0
