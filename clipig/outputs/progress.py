"""Shows the progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from clipig.engine.events import Diverged, Event, Finished, PhaseBegun, Step
from clipig.session import Group

LOOK = 0.2
"""Seconds between two reads of values from the device, each of which waits for it."""


class ProgressBar:
    """A bar with epoch, similarity, learning rate, resolution and time left."""

    def __init__(self, runs: int, stream: TextIO | None = None):
        self.runs = runs
        self.stream = stream or sys.stderr
        self._bar: Any = None
        self._looked = self._begun = time.monotonic()
        self._spoken = -1.0
        self._first = 0

    def __call__(self, group: Group, event: Event) -> None:
        if isinstance(event, PhaseBegun) and self._bar is None:
            self._open(group, event.step)
        elif isinstance(event, Step):
            self._step(group, event)
        elif isinstance(event, Diverged):
            rows = ", ".join(str(group.rows[i]) for i in event.runs)
            self._say(f"run {rows} diverged at epoch {event.epoch}; the last good picture is kept")
        elif isinstance(event, Finished):
            self._finish()

    def close(self, interrupted: bool) -> None:
        """Close the bar, leaving it on the screen."""
        self._finish()

    def _open(self, group: Group, step: int) -> None:
        self._begun, self._first, self._spoken = time.monotonic(), step, -1.0
        rows = group.rows
        label = "" if self.runs == 1 else f"runs {rows[0]}-{rows[-1]} of {self.runs}"
        if self.stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=group.plan.steps, initial=step, desc=label or None, file=self.stream,
                unit="step", dynamic_ncols=True, leave=True,
                bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}]{postfix}",
            )
        else:
            self._bar = False

    def _step(self, group: Group, event: Step) -> None:
        now = time.monotonic()
        last = event.step == group.plan.steps
        if self._bar:
            if now - self._looked >= LOOK or last:
                self._looked = now
                self._bar.n = event.step
                self._bar.set_postfix_str(status(event), refresh=True)
            return
        if last or now - self._begun - self._spoken >= 5.0 or self._spoken < 0:
            self._spoken = now - self._begun
            done = max(1, event.step - self._first)
            left = (now - self._begun) / done * (group.plan.steps - event.step)
            self._say(
                f"epoch {event.epoch + 1}/{event.epochs}  {status(event)}  {left:.0f} s left"
            )

    def _say(self, line: str) -> None:
        if self._bar:
            self._bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def _finish(self) -> None:
        if self._bar:
            self._bar.close()
        self._bar = None


def status(event: Step) -> str:
    """Short text with similarity, learning rate and resolution. Waits for the device."""
    likeness = event.similarity
    text = f"sim {float(likeness.mean()):.2f}"
    if len(likeness) > 1:
        text += f" (best {float(likeness.max()):.2f})"
    return f"{text}  lr {event.rate:.3g}  {event.size[1]}x{event.size[0]}"
