"""Keeping memory that the next step will want again."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = (1 << 30, 1 << 25)  # older versions take no more than 32 MiB
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the rest of the process; whether it does.

    By default the system takes back what large tensors occupied and hands it out page by
    page in the next step: with eight runs at a time, an eighth of the time of a step. An
    environment that has settings of its own (`MALLOC_...`) is left alone, as are other systems.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another library than glibc
        return False
    grown = any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGE)
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and grown
