"""Work on large tensors in pieces that stay in a CPU's cache.

A chain of elementwise operations passes over memory once for each; done piece by
piece, only the first touches what is not in the cache. Elsewhere one piece is all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

FLOATS = 1 << 17
"""numbers per piece and thread: a few tensors of this size fit a cache of two megabytes"""


def floats() -> int:
    """Numbers per piece; each thread takes its share of every operation."""
    return FLOATS * torch.get_num_threads()


def whole(device: torch.device) -> bool:
    """Whether tensors had better be left in one piece."""
    return device.type != "cpu"


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same pieces of contiguous tensors of one shape, flat."""
    flat = [t.view(-1) for t in tensors]
    if whole(tensors[0].device):
        yield tuple(flat)
        return
    size = floats()
    for start in range(0, flat[0].numel(), size):
        yield tuple(t[start : start + size] for t in flat)
