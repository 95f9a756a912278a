"""Stores an object before a background: mask, texture and shading, learned separately."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from clipig.ops.base import Positive, fixed
from clipig.ops.canvases.base import Canvas, CanvasSpec, Picture
from clipig.ops.canvases.fields import Count, Enlargement, Natural, Power, Ratio, Rgb, StartEnd
from clipig.ops.canvases.finish import Finish
from clipig.ops.canvases.levels import level_shape, level_sizes, level_sum, resized
from clipig.ops.canvases.offset import moment
from clipig.ops.canvases.precondition import precondition
from clipig.ops.kernels.clamp import clamp_unit
from clipig.ops.kernels.sampling import Shape
from clipig.rng import Draw, stream_id

COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "gray": (0.5, 0.5, 0.5)}
PARTS = {"texture": 3, "mask": 1, "shade": 1}


def _named_color(value: object) -> object:
    return COLORS.get(value, value) if isinstance(value, str) else value


@lru_cache(maxsize=32)
def round_prior(size: Shape, device: torch.device) -> Tensor:
    """Compute `1.2 - 2.2 r^2`, where r is 1 in the middle of a side: `[H, W]`."""
    y, x = (torch.linspace(-1, 1, n, device=device) if n > 1 else torch.zeros(1, device=device)
            for n in size)
    return 1.2 - 2.2 * (y.square()[:, None] + x.square()[None])


@lru_cache(maxsize=32)
def rim(size: Shape, share: float, device: torch.device) -> Tensor:
    """Mark the border that is `share` of each side wide with 1, the rest with 0: `[H, W]`."""
    y, x = (((torch.arange(n, device=device) + 0.5) * (2 / n) - 1).abs() for n in size)
    return (torch.maximum(y[:, None], x[None]) > 1 - 2 * share).float()


class LayersCanvas(Canvas):
    """Learns `texture_`, `mask_`, `shade_<side>` `[R, 3|1, h, w]` and `background` `[R, 3, 1, 1]`.

    The buffer `ground` holds the stored values of the start image, or of the mean colour of
    a start from noise. It is added to both texture and background, so that the canvas shows
    the start image whatever the mask is.
    """

    def __init__(
        self, spec: Layers, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool
    ):
        self.spec, self.wrap, self.draw = spec, wrap, draw
        self.finish = Finish("sigmoid")
        self.parameters, self.buffers = {}, {}
        self.shown = shown = init == "picture"
        with torch.no_grad():
            ground = self.finish.invert(
                start if shown else start.mean((2, 3), keepdim=True), 1e-3 if shown else 0.05
            )
            strength = self.finish.strength(start)
        self.buffers["ground"] = ground.expand(-1, -1, *size).contiguous()
        self.buffers["faithful"] = torch.full_like(start[:, :1, :1, :1], float(shown))
        sides = spec.sides(size)
        for part, channels in PARTS.items():
            std = 0.0 if shown else strength / len(sides["texture"]) ** 0.5
            std = std * {"texture": 1.0, "mask": 1.0, "shade": 0.5}[part]
            for side in sides[part]:
                noise = draw.normal(
                    stream_id("canvas", "layers", part, side), 0,
                    (channels, *level_shape(side, size)),
                )
                self.set(f"{part}_{side}", noise * std)
        if spec.background == "learned":
            self.set("background", torch.zeros_like(start[:, :, :1, :1]))

    @property
    def size(self) -> Shape:
        """Height and width of the image."""
        height, width = self.buffers["ground"].shape[-2:]
        return height, width

    @property
    def _ground(self) -> Tensor:
        """`ground`, reduced to one colour `[R, 3, 1, 1]` for a start from noise."""
        ground = self.buffers["ground"]
        return ground if self.shown else ground[..., :1, :1]

    @property
    def rates(self) -> dict[str, float]:  # type: ignore[override]
        spec = self.spec
        factor = {"mask": spec.mask_rate, "shade": spec.shade_rate}
        return {name: factor.get(name.split("_")[0], 1.0) for name in self.parameters}

    def _part(self, part: str) -> Tensor:
        """Add the levels of a part, `[R, C, H, W]`."""
        levels = [p for name, p in self.parameters.items() if name.startswith(f"{part}_")]
        kernel = self.spec.interpolation
        return precondition(level_sum(levels, self.size, kernel, self.wrap),
                            self.spec.precondition)

    def _background(self, t: Tensor | float) -> Tensor:
        """Compute the colours behind the mask, `[R|1, 3, H|1, W|1]`."""
        ground, kind = self._ground, self.spec.background
        if kind == "learned":
            return torch.sigmoid(ground + self.parameters["background"])
        if kind == "random":
            now = moment(t, ground)
            step = (now * (1 << 14)).round().to(torch.int32)
            stream = stream_id("canvas", "layers", "background")
            color = self.draw.uniform(stream, step, (3, 1, 1))
            color = torch.where(now < 1, color, 1.0)
        else:
            # filled instead of copied from the host, because a copy would wait for the device
            shade = COLORS[kind] if isinstance(kind, str) else kind
            color = torch.stack([ground.new_full((), c) for c in shade]).view(1, 3, 1, 1)
        return torch.lerp(color, torch.sigmoid(ground), self.buffers["faithful"])

    def picture(self, t: Tensor | float) -> Picture:
        spec, size, ground = self.spec, self.size, self._ground
        texture = torch.sigmoid(ground + self._part("texture"))
        shade = torch.exp(spec.shading * torch.tanh(self._part("shade")))
        prior = round_prior(size, ground.device) * spec.prior
        sharp = spec.sharpness[0] + (spec.sharpness[1] - spec.sharpness[0]) * moment(t, ground)
        alpha = torch.sigmoid(sharp * (self._part("mask") + prior))
        background = self._background(t)
        shaded = clamp_unit(texture * shade)
        rgb = torch.lerp(background, shaded, alpha)
        flat = clamp_unit(texture.mean((2, 3), keepdim=True) * shade)
        outside = (alpha * rim(size, spec.border_width, ground.device)).mean((1, 2, 3))
        contrast = (rgb - 0.5).square().mean((1, 2, 3))
        return Picture(
            rgb,
            {
                "texture": shaded if spec.shaded_texture else texture,
                "silhouette": torch.lerp(background, flat, alpha),
                "alpha": alpha,
                "cutout": shaded,
            },
            spec.border * outside + spec.gray * contrast,
        )

    def resize(self, size: Shape, mode: str) -> None:
        with torch.no_grad():
            self.buffers["ground"] = resized(self.buffers["ground"], size, mode, self.wrap)
        wanted = self.spec.sides(size)
        runs = self.buffers["ground"].shape[0]
        for part, channels in PARTS.items():
            kept = {
                int(n.split("_")[1]): p.detach()
                for n, p in self.parameters.items() if n.startswith(f"{part}_")
            }
            for side, level in kept.items():
                del self.parameters[f"{part}_{side}"]
                kept[side] = resized(level, level_shape(min(side, max(size)), size))
            for side in wanted[part]:
                if side > max(kept):
                    shape = (runs, channels, *level_shape(side, size))
                    kept[side] = self.buffers["ground"].new_zeros(shape)
            for side in sorted(kept):
                self.set(f"{part}_{side}", kept[side])

    def resize_state(self, name: str, state: Tensor) -> Tensor:
        if name not in self.parameters or name == "background":
            return state
        height, width = self.parameters[name].shape[-2:]
        return resized(state, (height, width))


class Layers(CanvasSpec):
    """Store a mask, a texture and a shading before a flat background.

    `pyr` is a sum of enlarged images whose sides are given in brackets:

        texture = sigmoid(pyr[1 .. size])
        shade   = exp(1.3 * tanh(pyr[2 .. 32]))
        mask    = sigmoid((1 + 3 t) * (pyr[1 .. 16] + 1.2 - 2.2 r^2))
        picture = mask * texture * shade + (1 - mask) * background

    Targets may look at the `texture` alone, or at the `silhouette`: mask and
    shading in the texture's mean colour. So "a penguin made of piano" becomes
    three targets: the silhouette is a penguin, the texture is piano, the picture
    is both. The mask is coarse, so it has no holes. It adds a penalty near the
    border, so the object is not cut off. It is saved as transparency.

    Example:
        canvas: {layers: {background: white, shading: 1}}
    """

    name: ClassVar[str] = "layers"
    shows: ClassVar[frozenset[str]] = frozenset({"picture", "texture", "silhouette"})

    background: Annotated[
        Rgb | Literal["learned", "random", "white", "black", "gray"],
        AfterValidator(_named_color),
    ] = "learned"
    """`learned`, `random` at each step (white at the end), `white`, `black`, `gray` or a colour"""
    ratio: Ratio = 2.0
    """ratio of the sides of two neighbouring levels"""
    mask_size: Count = 16
    """longer side of the mask's finest level"""
    shade_size: Count = 32
    """longer side of the shading's finest level"""
    shading: Natural = 1.3
    """strength of the shading: maximum of its logarithm, 0 for no shading"""
    sharpness: StartEnd = (1.0, 4.0)
    """steepness of the mask's edge at the start and at the end"""
    prior: Natural = 1.0
    """factor of the round shape with which the mask starts"""
    shaded_texture: bool = True
    """whether the layer `texture` includes the shading"""
    border: Natural = 2.1
    """penalty: factor of the mean, over all pixels, of the mask within the border"""
    border_width: Annotated[float, fixed(minimum=0, maximum=0.5)] = 0.07
    """width of that border, as a fraction of the side"""
    gray: Natural = 0.6
    """penalty: factor of the mean square distance of the image from gray"""
    mask_rate: Positive = 2.0
    """factor of the learning rate of the mask"""
    shade_rate: Positive = 0.6
    """factor of the learning rate of the shading"""
    interpolation: Enlargement = "bilinear"
    """interpolation with which the levels are enlarged"""
    precondition: Power = 0.0
    """power of a low-pass filter of the gradient, 0 for no filter"""

    def sides(self, size: Shape) -> dict[str, list[int]]:
        """Return the longer sides of the levels of each part."""
        return {
            "texture": level_sizes(size, self.ratio),
            "mask": level_sizes(size, self.ratio, most=self.mask_size),
            "shade": level_sizes(size, self.ratio, least=2, most=self.shade_size),
        }

    def build(
        self, start: Tensor, size: Shape, draw: Draw, init: str, wrap: bool = False
    ) -> Canvas:
        return LayersCanvas(self, start, size, draw, init, wrap)
