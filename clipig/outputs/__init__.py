"""Turns events into output: image files, progress, tables, animations, pages.

A sink receives every group and event and is closed at the end. It never reaches into the
engine, and the engine knows no sink. May import: `session` and below.
"""

from __future__ import annotations

from typing import Protocol

from clipig.engine.events import Event
from clipig.session import Group


class Sink(Protocol):
    """Receives the events of a run."""

    def __call__(self, group: Group, event: Event) -> None:
        """Handle an event. Reading its tensors is allowed, but waits for the device."""
        ...

    def close(self, interrupted: bool) -> None:
        """Finish the output. `interrupted`: the run was stopped early."""
        ...
