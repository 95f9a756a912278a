"""What a canvas is: the way a picture is stored while it is optimised.

A `CanvasSpec` is the YAML (an op of the table `CANVASES`); `build` makes a
`Canvas`, the tensors of R runs and the way from them to pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from clipig.ops.base import Op
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw


@dataclass(frozen=True)
class Picture:
    """What a canvas shows: sRGB `[R, 3, H, W]`, nominally in 0..1.

    `layers` holds other things that a target may look at instead
    (`texture`, `silhouette`: `[R, 3, H, W]`), `alpha` (`[R, 1, H, W]`), and
    `cutout`, the colours where alpha is not 0, without background.
    `penalty` `[R]` is what the canvas itself adds to the loss, if anything.
    `indexed` gives pixel art as numbers `[R, h, w]` and palette `[R, K, 3]`.
    """

    rgb: Tensor
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | None = None
    indexed: Callable[[], tuple[Tensor, Tensor]] | None = None


class Canvas(ABC):
    """The parameters of R runs, leaf tensors `[R, ...]`, float32.

    Subclasses hold their tensors in `self.parameters`; the engine replaces
    nothing in that dict but through `resize` and `load`. `self.buffers` are
    tensors `[R, ...]` that are kept in checkpoints but not optimised.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    rates: Mapping[str, float] = {}
    """factor of the learning rate by parameter name, 1 where not named"""
    bounds: Mapping[str, tuple[float, float]] = {}
    """least and greatest value by parameter name; each step ends with a clamp"""

    @abstractmethod
    def picture(self, t: Tensor | float) -> Picture:
        """Show the canvas at time `t` in 0..1, differentiable to the parameters."""

    @abstractmethod
    def resize(self, size: Shape, mode: str) -> None:
        """Go on at another size; parameters become new leaf tensors.

        `mode` is the config's `interpolation`: nearest, bilinear or bicubic.
        """

    @abstractmethod
    def resize_state(self, name: str, state: Tensor) -> Tensor:
        """An optimizer's moment of parameter `name` in the shape after `resize`."""

    def edit(self, rgb: Tensor) -> None:
        """Overwrite what the canvas shows by raw pictures `[R, 3, H, W]` (post-processing).

        Only canvases whose spec says `editable` have it.
        """
        raise TypeError(f"{type(self).__name__} cannot be edited")

    def raw(self) -> Tensor:
        """The pictures before clamping, detached: `[R, 3, H, W]`; what `edit` takes."""
        with torch.no_grad():
            return self.picture(1.0).rgb

    def state(self) -> dict[str, Tensor]:
        """Copies of parameters and buffers, for a checkpoint."""
        everything = {**self.parameters, **self.buffers}
        return {name: p.detach().clone() for name, p in everything.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take parameters from `state()`; their shapes may be those of another size."""
        self.parameters = {}
        for name, tensor in state.items():
            copy = tensor.detach().clone()
            if name in self.buffers:
                self.buffers[name] = copy
            else:
                self.parameters[name] = copy.requires_grad_(True)

    def set(self, name: str, value: Tensor) -> None:
        """Put `value` in place of a parameter, as a new leaf tensor."""
        self.parameters[name] = value.detach().clone().requires_grad_(True)


class CanvasSpec(Op):
    """How pictures are stored: an entry of `CANVASES`."""

    editable: ClassVar[bool] = False
    """whether post-processing can write pictures back"""
    shows: ClassVar[frozenset[str]] = frozenset({"picture"})
    """what targets may look at"""

    def check(self, size: Shape) -> str | None:
        """What is wrong with a canvas of this size (height, width), if anything."""
        return None

    @abstractmethod
    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        """The canvas of R runs.

        `start`: `[R, 3, H, W]` at `size`, the noise or picture of the config's
        `init`, not clamped. `init` is "noise" or "picture": whether the start
        must be shown faithfully or only gives colour and strength of a start.
        `wrap`: opposite edges touch, so whatever smooths goes around.
        """
