"""Steps on a GPU that must not wait for it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from clipig.engine.events import Event


def step_without_waiting(stream: Iterator[Event]) -> None:
    """Take the fourth event of a run on a GPU; an error if that waits for the device."""
    for _ in range(3):
        next(stream)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
