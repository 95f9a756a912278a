"""Where events go: files, progress, tables, animations.

A sink is called with every group and event and closed at the end; it never
reaches into the engine, and the engine knows none of them.
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
