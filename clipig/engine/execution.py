"""How a plan is carried out: what may change the time and the memory, never the picture."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

import torch

Choice = Literal["auto", "on", "off"]

COMPILE_PAYS = 2_000_000
"""Views of a phase from which on compiling may be worth its time on CUDA (not measured yet)."""


@dataclass(frozen=True)
class Settings:
    """Options of `optimize` that are no part of the experiment.

    compile   torch.compile of the transforms between canvas and encoder; `auto`: on
              CUDA, where a phase has work enough to repay it (see `COMPILE_PAYS`)
    graphs    replay each step as a CUDA graph (a few steps of every phase come first)
    chunk     at most so many views go through an encoder at once, and their
              activations are worked out again for the gradient: less memory, a
              third more time. None: all at once
    """

    compile: Choice = "auto"
    graphs: Choice = "auto"
    chunk: int | None = None

    def compiled(self, device: torch.device, views: int) -> bool:
        """Whether to compile a phase in which `views` views are made."""
        if self.compile == "auto":
            return device.type == "cuda" and views > COMPILE_PAYS and not no_compiler(device)
        return self.compile == "on"

    def captured(self, device: torch.device, steps: int) -> bool:
        """Whether to capture the steps of a phase as a graph."""
        if device.type != "cuda" or self.graphs == "off":
            return False
        return self.graphs == "on" or steps >= 10


def no_compiler(device: torch.device) -> str | None:
    """Why torch.compile cannot work on a device, in a few words; None if it can."""
    if device.type == "cuda":
        try:
            import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
        except ImportError:
            return "triton is not installed"
        return None
    if device.type != "cpu":
        return f"there is none for {device.type}"
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return "no C++ compiler was found"
    return None
