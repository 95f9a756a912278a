"""Table of targets as in the original CLIPig: use counts, losses and similarities."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TextIO

import torch

from clipig.config.parts import Feature
from clipig.config.schema import Experiment
from clipig.engine.events import Event, Finished, Step, TargetReport
from clipig.session import Group

WINDOW = 30
"""Steps over which losses and similarities are averaged, as in the original."""


class StatisticsTable:
    """Keeps the last reports and prints their averages.

    Args:
        live: Print every `pause` seconds, not only at the end.
        stream: Where to print; None: stderr.
        pause: Seconds between two tables.
    """

    def __init__(self, live: bool = False, stream: TextIO | None = None, pause: float = 4.0):
        self.live, self.pause = live, pause
        self.stream = stream or sys.stderr
        self._recent: dict[int, deque[TargetReport]] = {}
        self._counts: dict[int, torch.Tensor] = {}
        self._steps: dict[int, int] = {}
        self._spoken = time.monotonic()

    def __call__(self, group: Group, event: Event) -> None:
        if isinstance(event, Step):
            for report in event.targets:
                self._keep(group.plan.experiment, report)
            if self.live and time.monotonic() - self._spoken >= self.pause:
                self._spoken = time.monotonic()
                print(self.table(group.plan.experiment), file=self.stream)
        elif isinstance(event, Finished):
            print(self.table(group.plan.experiment), file=self.stream)
            self._recent.clear()

    def close(self, interrupted: bool) -> None:
        """Do nothing: no resource is open."""

    def _keep(self, experiment: Experiment, report: TargetReport) -> None:
        recent = self._recent.setdefault(report.index, deque(maxlen=WINDOW))
        recent.append(report)
        count = len(experiment.targets[report.index].features)
        if report.index not in self._counts:
            self._counts[report.index] = torch.zeros(count, device=report.used.device)
        if report.features:
            used = report.used.mean(0) * report.views
            self._counts[report.index][list(report.features)] += used
        self._steps[report.index] = self._steps.get(report.index, 0) + 1

    def table(self, experiment: Experiment) -> str:
        """Text of the table. Waits for the device."""
        lines = [f"{'':<44}{'weight':>8}{'count':>8}{'loss':>9}{'sim':>8}{'min':>8}{'max':>8}"]
        for index, target in enumerate(experiment.targets):
            steps = self._steps.get(index, 0)
            lines.append(f"target {target.name!r}: active in {steps} steps")
            reports = list(self._recent.get(index, ()))
            for place, feature in enumerate(target.features):
                rows = [r for r in reports if place in r.features]
                lines.append(self._feature_line(index, place, feature, rows))
            for place, constraint in enumerate(target.constraints):
                terms = [
                    r.penalties[:, r.constraints.index(place)].mean()
                    for r in reports if place in r.constraints
                ]
                loss = f"{float(torch.stack(terms).mean()):>9.4f}" if terms else f"{'-':>9}"
                weight = _short(constraint.weight.plain())
                lines.append(f"  {_cut(constraint.name, 42):<42}{weight:>8}{'':>8}{loss}")
        return "\n".join(lines)

    def _feature_line(
        self, index: int, place: int, feature: Feature, rows: list[TargetReport]
    ) -> str:
        name = feature.text or " | ".join(feature.texts or []) or f"image {feature.image}"
        head = f"  {_cut(name, 42):<42}{_short(feature.weight.plain()):>8}"
        if not rows:
            return f"{head}{0:>8}{'-':>9}{'-':>8}"
        columns = [r.features.index(place) for r in rows]
        losses = torch.stack([r.losses[:, c].mean() for r, c in zip(rows, columns, strict=True)])
        sims = torch.stack([r.similarity[:, c].mean() for r, c in zip(rows, columns, strict=True)])
        count = float(self._counts[index][place])
        return (
            f"{head}{count:>8.0f}{float(losses.mean()):>9.4f}{float(sims.mean()):>8.2f}"
            f"{float(sims.min()):>8.2f}{float(sims.max()):>8.2f}"
        )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _short(value: object) -> str:
    return _cut(f"{value:g}" if isinstance(value, int | float) else str(value), 8)
