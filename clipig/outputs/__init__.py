"""What becomes of events: image files, progress, tables, animations, pages.

A sink is called with every group and event and closed at the end. It never reaches into the
engine, and the engine knows none of them. May import: `session` and below.
"""

from __future__ import annotations

from typing import Protocol

from clipig.engine.events import Event
from clipig.session import Group


class Sink(Protocol):
    """Something that listens to a run."""

    def __call__(self, group: Group, event: Event) -> None:
        """Take note of an event. May read tensors when it likes (that waits for the device)."""
        ...

    def close(self, interrupted: bool) -> None:
        """No more events come; `interrupted` if the run was stopped early."""
        ...
