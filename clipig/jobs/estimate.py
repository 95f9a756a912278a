"""Estimates time and memory of runs by trying some steps of each phase."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from clipig.engine.device import peak_memory, wait
from clipig.engine.loop import Optimization
from clipig.engine.memory import memory_faults
from clipig.plan.plan import Phase
from clipig.session import Group, Session


@dataclass(frozen=True)
class Estimate:
    """Cost of a group of runs.

    step_seconds    seconds of one step, for each phase
    seconds         seconds of all steps, without loading
    peak_bytes      maximum memory of the process (CPU) or of the device; 0 if unknown
    """

    step_seconds: tuple[float, ...]
    seconds: float
    peak_bytes: int


@memory_faults()
def estimate(session: Session, group: Group, tries: int = 2) -> Estimate:
    """Estimate a group's cost from `tries` steps of each phase; weights are loaded first.

    Phases of the same size and number of views per encoder are measured once.

    Raises:
        ClipigError: As `Session.inputs`.
        DeviceError: The memory is exhausted.
    """
    needed = session.inputs(group.plan)
    running = Optimization(
        group.plan, needed.encoders, needed.prompts, needed.start, None, needed.mask,
        session.settings,
    )
    device = needed.encoders[0].device
    known: dict[object, float] = {}
    costs = []
    for phase in group.plan.phases:
        looks = sorted((t.encoders, t.views) for t in phase.targets)
        kind = (phase.size, tuple(looks), len(phase.postproc))
        if kind not in known:
            known[kind] = _seconds(running, phase, tries, device)
        costs.append(known[kind])
    steps = [p.last - p.first for p in group.plan.phases]
    total = sum(c * n for c, n in zip(costs, steps, strict=True))
    return Estimate(tuple(costs), total, peak_memory(device))


def _seconds(running: Optimization, phase: Phase, tries: int, device: torch.device) -> float:
    running.begin(phase)
    running.advance(phase.first)  # the first step also allocates and compiles
    wait(device)
    begun = time.perf_counter()
    for _ in range(tries):
        running.advance(phase.first)
    wait(device)
    return (time.perf_counter() - begun) / tries
