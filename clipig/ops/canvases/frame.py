"""Options around any canvas: a margin, touching edges, a symmetry, a mask.

The engine uses them as follows:

    frame = Frame(experiment.margin, experiment.wrap, experiment.symmetry)
    canvas = Framed.build(spec, frame, start, size, draw, init, mask)
    canvas.picture(t)             # for the views: with the margin, frame.outer(size)
    canvas.shown(picture)         # for saving: without the margin
    canvas.restored(picture)      # after a mean of saved images: exact where not masked

`size` always refers to the saved image; only `picture` returns a larger one.
`start(shape)` returns the start image at any size, `[R, 3, *shape]`. If
`frame.first_op` returns an op, every target's chain begins with it. The op cuts a
piece of the saved size at a random position out of the margin, or rolls an image
whose edges touch. Thus the encoder sees every pixel equally often, and no edge stands out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from clipig.ops.base import constant
from clipig.ops.canvases.base import Canvas, CanvasSpec, Picture
from clipig.ops.canvases.levels import resized
from clipig.ops.kernels.sampling import Shape
from clipig.ops.transforms import Transform
from clipig.ops.transforms.cutting import RandomCrop
from clipig.ops.transforms.geometry import RandomShift
from clipig.rng import Draw

Symmetry = Literal["none", "horizontal", "vertical", "both", "rotate4"]


def symmetric(x: Tensor, kind: Symmetry) -> Tensor:
    """Average images `[..., H, W]` with their mirror images or quarter turns.

    The result is exactly symmetric, because the sums are paired so that rounding is
    symmetric, too.
    """
    if kind == "horizontal":
        return (x + x.flip(-1)) / 2
    if kind == "vertical":
        return (x + x.flip(-2)) / 2
    if kind == "both":
        half = x + x.flip(-1)
        return (half + half.flip(-2)) / 4
    if kind == "rotate4":
        half = x + x.rot90(2, (-2, -1))
        return (half + half.rot90(1, (-2, -1))) / 4
    return x


COPIES = {"none": 1, "horizontal": 2, "vertical": 2, "both": 4, "rotate4": 4}
"""Number of pixels that a symmetry makes equal."""


@dataclass(frozen=True)
class Frame:
    """The options of an experiment that apply to every kind of canvas.

    Attributes:
        margin: Margin on each side, as a fraction of the side. It is optimised and seen by
            the encoder, but not saved.
        wrap: Opposite edges touch.
        symmetry: Kind of the image's symmetry.
    """

    margin: float = 0.0
    wrap: bool = False
    symmetry: Symmetry = "none"

    def first_op(self, size: Shape) -> Transform | None:
        """Return the first transform of each view of an image that is saved at `size`, if any."""
        if self.wrap:
            return RandomShift(offset=constant(0.0, 1.0))
        if self.margin > 0:
            return RandomCrop(size=constant(size[1], size[0], integer=True))
        return None

    def border(self, size: Shape) -> Shape:
        """Pixels of margin above and below, left and right."""
        height, width = size
        return round(self.margin * height), round(self.margin * width)

    def outer(self, size: Shape) -> Shape:
        """Size of the canvas for an image that is saved at `size`."""
        y, x = self.border(size)
        return size[0] + 2 * y, size[1] + 2 * x

    def inner(self, x: Tensor, size: Shape) -> Tensor:
        """Cut the margin off `[..., H, W]`."""
        top, left = self.border(size)
        return x[..., top : top + size[0], left : left + size[1]]


class Framed(Canvas):
    """A canvas in its frame. The mask is not part of the state, since the config determines it."""

    def __init__(
        self, canvas: Canvas, frame: Frame, start: Callable[[Shape], Tensor], size: Shape,
        mask: Tensor | None = None,
    ):
        self.canvas, self.frame, self.size = canvas, frame, size
        self._start, self._whole_mask = start, mask
        self._fit_mask()

    @classmethod
    def build(
        cls, spec: CanvasSpec, frame: Frame, start: Callable[[Shape], Tensor], size: Shape,
        draw: Draw, init: str, mask: Tensor | None = None,
    ) -> Framed:
        """Build the canvas of R runs in its frame.

        Args:
            spec: The canvas of the config.
            frame: The frame of the config.
            start: Returns the start image `[R, 3, *shape]` for a shape.
            size: Height and width of the saved image.
            draw: Source of random numbers.
            init: "noise" or "picture", as in `CanvasSpec.build`.
            mask: `[1, 1, h, w]` in 0..1, 1 where the canvas is shown, 0 where the start is.
        """
        outer = frame.outer(size)
        picture = start(outer)
        if frame.symmetry != "none":
            even = symmetric(picture, frame.symmetry)
            if init == "noise":  # restores the deviation that the mean has lowered
                mean = picture.mean((2, 3), keepdim=True)
                even = mean + (even - mean) * COPIES[frame.symmetry] ** 0.5
            picture = even
        return cls(spec.build(picture, outer, draw, init, frame.wrap), frame, start, size, mask)

    @property
    def parameters(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Delegates to the wrapped canvas."""
        return self.canvas.parameters

    @property
    def buffers(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Delegates to the wrapped canvas."""
        return self.canvas.buffers

    @property
    def rates(self) -> Mapping[str, float]:  # type: ignore[override]
        """Delegates to the wrapped canvas."""
        return self.canvas.rates

    @property
    def bounds(self) -> Mapping[str, tuple[float, float]]:  # type: ignore[override]
        """Delegates to the wrapped canvas."""
        return self.canvas.bounds

    def _fit_mask(self) -> None:
        """Resize the mask and the start image under it to the size of the canvas."""
        self.mask: Tensor | None = None
        if self._whole_mask is not None:
            outer = self.frame.outer(self.size)
            self.base = self._start(outer).clamp(0, 1)
            whole = self._whole_mask.to(self.base.device)
            self.mask = resized(whole, outer, "bilinear").clamp(0, 1)

    def _masked(self, rgb: Tensor) -> Tensor:
        """Blend with the start image; where the mask is 0 the result equals it exactly."""
        if self.mask is None:
            return rgb
        return torch.where(self.mask > 0, torch.lerp(self.base, rgb, self.mask), self.base)

    def picture(self, t: Tensor | float) -> Picture:
        picture = self.canvas.picture(t)
        kind = self.frame.symmetry
        layers = {name: symmetric(x, kind) for name, x in picture.layers.items()}
        plain = kind == "none" and self.mask is None and self.frame.margin == 0
        return Picture(
            self._masked(symmetric(picture.rgb, kind)), layers, picture.penalty,
            picture.indexed if plain else None,
        )

    def shown(self, picture: Picture) -> Picture:
        """Return the part of a picture and its layers that is saved, without the margin."""
        layers = {name: self.frame.inner(x, self.size) for name, x in picture.layers.items()}
        return replace(picture, rgb=self.frame.inner(picture.rgb, self.size), layers=layers)

    def restored(self, picture: Picture) -> Picture:
        """Replace a picture of the saved size by the exact start image where the mask is 0."""
        if self.mask is None:
            return picture
        base, mask = (self.frame.inner(x, self.size) for x in (self.base, self.mask))
        return replace(picture, rgb=torch.where(mask > 0, picture.rgb, base))

    def resize(self, size: Shape, mode: str) -> None:
        self.size = size
        self.canvas.resize(self.frame.outer(size), mode)
        self._fit_mask()

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        return self.canvas.resize_state(name, state)

    @torch.no_grad()
    def raw(self) -> Tensor:
        """Return the saved part of the image before clamping."""
        return self.frame.inner(self._symmetric_raw(), self.size)

    @torch.no_grad()
    def edit(self, rgb: Tensor) -> None:
        if self.frame.margin == 0:
            self.canvas.edit(rgb)
            return
        whole = self._symmetric_raw().clone()
        self.frame.inner(whole, self.size).copy_(rgb)
        self.canvas.edit(whole)

    def _symmetric_raw(self) -> Tensor:
        return self._masked(symmetric(self.canvas.raw(), self.frame.symmetry))

    def state(self) -> dict[str, Tensor]:
        return self.canvas.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.canvas.load(state)
