"""How a plan is carried out: what may change the time and the memory, never the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Choice = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Execution:
    """Options of `optimize` that are no part of the experiment.

    graphs    replay each step as a CUDA graph (a few steps of every phase come first);
              experimental, see `engine.graphs`
    chunk     at most so many views go through an encoder at once, and their
              activations are computed again for the gradient: less memory, a
              third more time. None: all at once
    """

    graphs: Choice = "auto"
    chunk: int | None = None

    def captured(self, device: torch.device, steps: int) -> bool:
        """Whether to capture the steps of a phase as a graph."""
        if device.type != "cuda" or self.graphs == "off":
            return False
        return self.graphs == "on" or steps >= 10
