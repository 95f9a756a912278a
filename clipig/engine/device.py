"""The device that tensors live on: choosing it, waiting for it, the memory it took."""

from __future__ import annotations

import contextlib
import sys

import torch

from clipig.errors import DeviceError
from clipig.ops.base import nearest

_ALLOWED = "auto, cpu, cuda, cuda:N, mps"


def pick_device(name: str) -> torch.device:
    """The device that a config or an option names.

    Args:
        name: `auto` (cuda, then mps, then cpu), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        DeviceError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        hint = nearest(name, ["auto", "cpu", "cuda", "mps"])
        raise DeviceError(f"unknown device {name!r}{hint} (allowed: {_ALLOWED})")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r} (allowed: {_ALLOWED})") from None
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(f"device {name!r} is not there: {count} CUDA devices were found")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not there")
    return device


def wait(device: torch.device) -> None:
    """Return when the device has finished all work that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> int:
    """The most memory used so far, in bytes; 0 if the system does not report it.

    Args:
        device: A CUDA device: what torch allocated there. Any other: the process.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0
