"""Progress of many runs on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from clipig.jobs.pace import duration


class Meter:
    """Counts run-steps (or other units), stage by stage. `quiet`: print nothing."""

    def __init__(self, quiet: bool = False, unit: str = "step"):
        self.quiet, self.unit = quiet, unit
        self._bar: Any = None
        self._name, self._total, self._done = "", 0, 0
        self._began = self._spoken = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of status."""
        if not self.quiet:
            self.close()
            click.echo(text, err=True)

    def tell(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self.close()
        self._name, self._total, self._done = name, total, 0
        self._began = self._spoken = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=name, unit=self.unit, dynamic_ncols=True)
        elif not self.quiet and total:
            click.echo(f"{name}: 0 of {total} {self.unit}s", err=True)

    def tick(self, steps: int) -> None:
        """Advance by `steps` steps."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(steps)
            return
        now = time.monotonic()
        if self.quiet or (now - self._spoken < 10 and self._done < self._total) or not steps:
            return
        self._spoken = now
        rate = self._done / max(now - self._began, 1e-6)
        left = duration((self._total - self._done) / rate)
        click.echo(
            f"{self._name}: {self._done} of {self._total} {self.unit}s, {left} left", err=True
        )

    def close(self) -> None:
        """Close the bar, leaving it on the screen."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
