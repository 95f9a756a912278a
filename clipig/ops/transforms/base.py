"""Base classes of the view transforms.

Shapes: `R` runs, `N` views per run, `C` = 3 channels. `sample` draws all random numbers,
and the other methods receive them as `drawn`, so equal numbers give equal views.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from clipig.ops.base import Op, Value
from clipig.ops.kernels.sampling import Shape, Stage
from clipig.ops.kernels.tones import Grain, Tone, touched
from clipig.rng import ViewDraw

Params = Any
"""Fields of an op for one step: values as `[R|1, N|1, k]`, sizes as tuples, texts unchanged."""


class Transform(Op):
    """A change of a view before the encoder sees it."""

    random: ClassVar[bool] = False
    """whether `sample` draws anything; without it all views of a chain are equal"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Any, ...]:
        """Draw all random numbers that the op needs.

        Args:
            draw: Source of the numbers for the R runs and N views of a step.
            p: The fields of the op.
            size: Height and width of the views before the op.

        Returns:
            Tensors `[R, N, ...]`; empty if the op is not random.
        """
        return ()

    def out_size(self, size: Shape, p: Params) -> Shape:
        """Height and width of the result; `p` contains only the op's sizes (tuples)."""
        return size

    def check(self, size: Shape, p: Params) -> str | None:
        """Explain why the op cannot be applied to this size; None if it can."""
        return None


class Geometry(Transform):
    """A change of coordinates; neighbours in a chain become one sampling."""

    @abstractmethod
    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        """Describe the op as stages of a sampling.

        Args:
            size: Height and width of the input.
            p: The fields of the op.
            drawn: Random numbers from `sample`.
            like: A tensor on the device, of the pixels' dtype.

        Returns:
            The edge of the input, then the map from output points to input points.
        """


class Pixelwise(Transform):
    """A change of the pixels of each view: `[R, N, C, H, W]` to the same shape."""

    commutes: ClassVar[str] = ""
    """`linear`: the op gives an equal result after a reduction instead of before it;
    `noise`: an equal distribution, if its strength is scaled; empty: neither"""

    @abstractmethod
    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """Return the changed views, `[R, N, C, H, W]`."""


class Toning(Pixelwise):
    """An affine change of the colours; neighbours in a chain become one."""

    commutes: ClassVar[str] = "linear"

    @abstractmethod
    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        """Return scale and shift of the colours."""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return touched(views, self.tone(p, drawn))


class Graining(Pixelwise):
    """Additive noise that does not depend on the pixels."""

    random: ClassVar[bool] = True

    @abstractmethod
    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        """Return the noise for views of this height and width."""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Any, ...]) -> Tensor:
        size = (views.shape[-2], views.shape[-1])
        return touched(views, Tone(), self.grain(p, drawn, size))


def color(value: Tensor) -> Tensor:
    """Reshape `[R|1, N|1, 3|1]` to broadcast with `[R, N, 3, H, W]`: `[R|1, N|1, 3|1, 1, 1]`."""
    return value[..., None, None]


def bounds(value: Value, low: float, high: float) -> tuple[float, float]:
    """Minimum and maximum of a constant value; `low` and `high` if it has expressions."""
    if not value.constant:
        return low, high
    return float(min(value.numbers())), float(max(value.numbers()))
