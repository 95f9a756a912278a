"""What a view transform is.

`R` runs, `N` views of each, `C`=3 channels. Random numbers are drawn by
`sample` and handed to the rest, so the same numbers give the same view.
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
"""An op's fields for one step: `[R|1, N|1, k]` tensors, tuples for sizes, texts as they are."""


class Transform(Op):
    """Something done to a view before the encoder sees it."""

    random: ClassVar[bool] = False
    """whether `sample` draws anything; without it all views of a chain are equal"""

    def sample(self, draw: ViewDraw, p: Params, size: Shape) -> tuple[Any, ...]:
        """Draw all random numbers that the op needs: tensors or pieces `[R, N, ...]`."""
        return ()

    def out_size(self, size: Shape, p: Params) -> Shape:
        """Size of the result; `p` holds the op's sizes (tuples) only."""
        return size

    def check(self, size: Shape, p: Params) -> str | None:
        """What is wrong with applying the op to this size, if anything."""
        return None


class Geometry(Transform):
    """A change of coordinates; those that follow one another become one sampling."""

    @abstractmethod
    def stages(
        self, size: Shape, p: Params, drawn: tuple[Tensor, ...], like: Tensor
    ) -> list[Stage]:
        """The edge rule of the input, then the map from output to input points."""


class Pixelwise(Transform):
    """A change of the pixels of each view: `[R, N, C, H, W]` to the same shape."""

    commutes: ClassVar[str] = ""
    """`linear`: may be done after a reduction instead of before it, with equal
    result; `noise`: likewise in distribution, once its strength is scaled"""

    @abstractmethod
    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """The changed views."""


class Toning(Pixelwise):
    """A change of the colours along straight lines; those that follow one another become one."""

    commutes: ClassVar[str] = "linear"

    @abstractmethod
    def tone(self, p: Params, drawn: tuple[Tensor, ...]) -> Tone:
        """The line."""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return touched(views, self.tone(p, drawn))


class Graining(Pixelwise):
    """Noise that is added, whatever the pixels are."""

    random: ClassVar[bool] = True

    @abstractmethod
    def grain(self, p: Params, drawn: tuple[Any, ...], size: Shape) -> Grain:
        """The noise for views of a size."""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Any, ...]) -> Tensor:
        size = (views.shape[-2], views.shape[-1])
        return touched(views, Tone(), self.grain(p, drawn, size))


def color(value: Tensor) -> Tensor:
    """`[R|1, N|1, 3]` or `[..., 1]` as something that multiplies `[R, N, 3, H, W]`."""
    return value[..., None, None]


def bounds(value: Value, low: float, high: float) -> tuple[float, float]:
    """Least and greatest of a value's numbers; `low` and `high` if it has expressions."""
    if not value.constant:
        return low, high
    return float(min(value.numbers())), float(max(value.numbers()))
