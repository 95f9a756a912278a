"""What each step of an experiment needs to know before shapes can be settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipig.config.schema import Experiment, PostProc, Target
from clipig.ops.kernels.sampling import Shape
from clipig.plan.clock import Clock, statics


@dataclass(frozen=True)
class Moment:
    """What decides about the shapes of one step; equal neighbours form a phase."""

    size: Shape
    targets: tuple[Any, ...]
    postproc: tuple[Any, ...]


def _frozen(values: Mapping[str, list[Any]], step: int) -> tuple[tuple[str, Any], ...]:
    return tuple((k, v[step % len(v)]) for k, v in values.items())


def timeline(experiment: Experiment, clock: Clock) -> list[Moment]:
    """For each step: size, active targets with features, constraints and static fields."""
    targets = [_target_moments(t, i, clock) for i, t in enumerate(experiment.targets)]
    posts = [_post_moments(p, i, clock) for i, p in enumerate(experiment.postproc)]
    moments = []
    for step, context in enumerate(clock.contexts):
        size = (context["height"], context["width"])
        moments.append(Moment(
            size,
            tuple(t for t in (rows[step] for rows in targets) if t is not None),
            tuple(p for p in (rows[step] for rows in posts) if p is not None),
        ))
    return moments


def _target_moments(target: Target, index: int, clock: Clock) -> list[Any]:
    key = f"targets[{index}]"
    if not target.active:
        return [None] * len(clock)
    views = statics(target, clock, key)
    on = clock.active(target.start, target.end, key)
    ops = [statics(op, clock, f"{key}.transforms[{i}].{op.name}")
           for i, op in enumerate(target.transforms)]
    cons = [statics(c, clock, f"{key}.constraints[{i}].{c.name}")
            for i, c in enumerate(target.constraints)]
    feature_on = [clock.active(f.start, f.end, f"{key}.features[{i}]")
                  for i, f in enumerate(target.features)]
    con_on = [clock.active(c.start, c.end, f"{key}.constraints[{i}].{c.name}")
              for i, c in enumerate(target.constraints)]
    rows: list[Any] = []
    for s in range(len(clock)):
        features = tuple(i for i, row in enumerate(feature_on) if row[s])
        active = tuple((i, _frozen(cons[i], s)) for i, row in enumerate(con_on) if row[s])
        if not on[s] or not (features or active):
            rows.append(None)
            continue
        rows.append((index, _frozen(views, s), features, tuple(_frozen(o, s) for o in ops), active))
    return rows


def _post_moments(post: PostProc, index: int, clock: Clock) -> list[Any]:
    key = f"postproc[{index}]"
    if not post.active:
        return [None] * len(clock)
    on = clock.active(post.start, post.end, key)
    ops = [statics(op, clock, f"{key}.{op.name}") for op in post.transforms]
    return [(index, tuple(_frozen(o, s) for o in ops)) if on[s] else None
            for s in range(len(clock))]
