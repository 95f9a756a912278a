"""Base classes of the canvases, which store images while they are optimised.

A `CanvasSpec` is the YAML entry (an op of the table `CANVASES`). Its `build` makes a
`Canvas`, which holds the tensors of R runs and turns them into images.
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
    """The images that a canvas shows.

    Attributes:
        rgb: sRGB `[R, 3, H, W]`, nominally in 0..1.
        layers: Other images that a target may look at instead (`texture`, `silhouette`:
            `[R, 3, H, W]`), `alpha` (`[R, 1, H, W]`), and `cutout` (`[R, 3, H, W]`), the
            colours where alpha is not 0, without background.
        penalty: `[R]`, a term that the canvas itself adds to the loss, if any.
        indexed: Returns pixel art as palette indices `[R, h, w]` and palette `[R, K, 3]`.
    """

    rgb: Tensor
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | None = None
    indexed: Callable[[], tuple[Tensor, Tensor]] | None = None


class Canvas(ABC):
    """The tensors of R runs and the computation of their images.

    Subclasses hold their parameters, float32 leaf tensors `[R, ...]`, in `self.parameters`.
    The engine replaces them only through `resize` and `load`. `self.buffers` are
    tensors `[R, ...]` that checkpoints contain but that are not optimised.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    rates: Mapping[str, float] = {}
    """factor of the learning rate by parameter name, 1 for all others"""
    bounds: Mapping[str, tuple[float, float]] = {}
    """minimum and maximum by parameter name; each step ends with a clamp to them"""

    @abstractmethod
    def picture(self, t: Tensor | float) -> Picture:
        """Compute the images at time `t` in 0..1, differentiable in the parameters."""

    @abstractmethod
    def resize(self, size: Shape, mode: str) -> None:
        """Change the size; the parameters become new leaf tensors.

        Args:
            size: New height and width of the images.
            mode: The config's `interpolation`: nearest, bilinear or bicubic.
        """

    @abstractmethod
    def resize_state(self, name: str, state: Tensor) -> Tensor:
        """Convert an optimizer's moment of parameter `name` to the shape after `resize`."""

    def edit(self, rgb: Tensor) -> None:
        """Make the canvas show raw images `[R, 3, H, W]` (post-processing).

        Only canvases whose spec is `editable` implement it.

        Raises:
            TypeError: The canvas cannot be edited.
        """
        raise TypeError(f"{type(self).__name__} cannot be edited")

    def raw(self) -> Tensor:
        """Return the images before clamping, detached, as `edit` expects them: `[R, 3, H, W]`."""
        with torch.no_grad():
            return self.picture(1.0).rgb

    def state(self) -> dict[str, Tensor]:
        """Return copies of parameters and buffers, for a checkpoint."""
        everything = {**self.parameters, **self.buffers}
        return {name: p.detach().clone() for name, p in everything.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load parameters and buffers from `state()`, whose shapes may belong to another size."""
        self.parameters = {}
        for name, tensor in state.items():
            copy = tensor.detach().clone()
            if name in self.buffers:
                self.buffers[name] = copy
            else:
                self.parameters[name] = copy.requires_grad_(True)

    def set(self, name: str, value: Tensor) -> None:
        """Replace a parameter by a copy of `value`, as a new leaf tensor."""
        self.parameters[name] = value.detach().clone().requires_grad_(True)


class CanvasSpec(Op):
    """A way to store images: an entry of `CANVASES`."""

    editable: ClassVar[bool] = False
    """whether post-processing can write images back"""
    shows: ClassVar[frozenset[str]] = frozenset({"picture"})
    """names of the images that targets may look at"""

    def check(self, size: Shape) -> str | None:
        """Explain why the canvas cannot have this size (height, width); None if it can."""
        return None

    @abstractmethod
    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        """Make the canvas of R runs.

        Args:
            start: `[R, 3, H, W]`, the noise or image of the config's `init`, not clamped.
            size: Height and width of the images.
            draw: Source of the runs' random numbers.
            init: "picture" if the canvas must show the start faithfully, "noise" if the start
                only gives the mean colour and the strength of the canvas's own noise.
            wrap: Opposite edges touch, so filters continue at the opposite edge.
        """
