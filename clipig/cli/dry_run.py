"""`clipig run --dry-run`: prints the plan and its estimated cost."""

from __future__ import annotations

from collections.abc import Callable

import click

from clipig.config.load import Loaded
from clipig.config.schema import Experiment
from clipig.plan.plan import Phase, Plan
from clipig.session import Group, Session

Planned = Callable[[Loaded, Session], tuple[list[Experiment], list[Group]]]


def print_plan(loaded: Loaded, session: Session, planned: Planned) -> None:
    """Print phases, sizes, views per step, and an estimate of time and memory."""
    for group in planned(loaded, session)[1]:
        plan = group.plan
        for info in group.encoders:
            click.echo(f"encoder    {info.name}, {info.size} px, width {info.width}  {info.reason}")
        seeds = ", ".join(map(str, plan.seeds[:4])) + (" ..." if plan.runs > 4 else "")
        click.echo(f"runs       {plan.runs} (seeds {seeds})")
        canvas, rule = plan.experiment.canvas.name, plan.experiment.optimizer
        click.echo(f"canvas     {canvas}; optimizer {rule.name}")
        click.echo(f"steps      {plan.steps} in {len(plan.phases)} phases")
        for line in _phase_lines(plan):
            click.echo(line)
        _print_cost(session, group)


def _phase_lines(plan: Plan) -> list[str]:
    lines = []
    for phase in plan.phases:
        first, last = plan.start + phase.first, plan.start + phase.last - 1
        height, width = phase.size
        views = sum(t.views for t in phase.targets)
        lines.append(f"  epochs {first}-{last}: canvas {width}x{height}, {views} views per run")
        lines += _target_lines(phase)
        for post in phase.postproc:
            lines.append("    postproc " + " > ".join(_name(b.node) for b in post.ops))
    return lines


def _target_lines(phase: Phase) -> list[str]:
    lines = []
    for t in phase.targets:
        chain = " > ".join(_name(b.node) for b in t.ops) or "whole picture"
        times = f" (counted {t.repeats} times)" if t.repeats > 1 else ""
        lines.append(f"    target {t.target.name!r}: {t.views} views{times}: {chain}")
        for i in t.features:
            f = t.target.features[i]
            what = f.text or " | ".join(f.texts or []) or f"image {f.image}"
            lines.append(f"      {f.loss} to {what!r}, weight {f.weight.plain()}")
        for c in t.constraints:
            node = t.target.constraints[c.index]
            lines.append(f"      constraint {node.name}, weight {node.weight.plain()}")
    return lines


def _name(node: object) -> str:
    return str(getattr(node, "name", "?"))


def _print_cost(session: Session, group: Group) -> None:
    from clipig.encoders.names import OPENAI
    from clipig.encoders.weights import find_weights
    from clipig.jobs.estimate import estimate

    missing = [
        e.name for e in group.encoders if e.name in OPENAI and find_weights(e.name) is None
    ]
    if missing:
        names = ", ".join(missing)
        click.echo(f"time       not estimated: the weights of {names} are not here yet")
        return
    cost = estimate(session, group)
    each = ", ".join(f"{s * 1000:.0f}" for s in cost.step_seconds[:8])
    click.echo(f"time       about {cost.seconds:.0f} s ({each} ms per step)")
    if cost.peak_bytes:
        click.echo(f"memory     about {cost.peak_bytes / 2**20:.0f} MiB at most")
