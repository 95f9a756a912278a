"""Batches as Ray tasks: the same work on other cores, devices or machines."""

from __future__ import annotations

from collections.abc import Callable

from clipig.errors import UsageError
from clipig.ranking import Execute


def open_cluster(address: str, say: Callable[[str], None]) -> Execute:
    """Something that does batches on a Ray cluster. Raises `UsageError` without the extra."""
    raise UsageError("--ray needs the extra: pip install 'clipig[ray]'")
