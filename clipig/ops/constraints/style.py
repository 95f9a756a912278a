"""A constraint on the activations of the encoder: the style of a reference image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from clipig.ops.base import fixed, wrong
from clipig.ops.constraints.base import Constraint
from clipig.ops.transforms.base import Params

StyleStatistic = Literal["moments", "gram"]
Layer = Annotated[int, fixed(integer=True, minimum=0, maximum=999)]

_FLOOR = 0.1
"""Fraction of the channels' mean power added to each, so that weak channels do not dominate"""
_EPSILON = 1e-6
"""Added to variances, because the slope of their root is infinite at zero"""


@dataclass(frozen=True)
class Goal:
    """The desired statistics of one layer of an encoder.

    Attributes:
        layer: Index of the layer in `Encoder.features`.
        value: Statistics of the reference, `[...]`, or `[R|1, 1, ...]` for runs.
        unit: One over the difference that counts as 1, of the same shape.
    """

    layer: int
    value: Tensor
    unit: Tensor


class Style(Constraint):
    """Prefer the style of a reference image: colours, strokes, texture; K is 1.

    The constraint compares position-independent statistics of the encoder's early
    layers. `moments` are the mean and standard deviation of each channel (Huang
    and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization", 2017), `gram` the mean products of two channels (Gatys, Ecker and
    Bethge, "Image Style Transfer Using Convolutional Neural Networks", 2016).

    D is the mean over channels, layers and encoders. Differences are measured in units of
    the reference: the standard deviation of its channel for `moments`, or its whole Gram
    matrix, with channels scaled to equal size, for `gram`. D is 0.2 to 2 (`moments`) or 1
    to 10 (`gram`) for two images of unlike style, and a tenth of it or less for an image
    in the style of the other. This is the scale of the `1 - cos` of a text, so a style
    needs about the weight of a feature.

    Each view is compared with the whole reference (or a piece of it with `zoom`), so the
    size of the strokes is relative to a view: with `cutouts` of a third of the image, the
    strokes become a third as large in the image. Noise in the views would count as
    texture, so a style should have its own target without noise.

    Example:
        - style: {image: examples/inputs/mosaic.png, weight: 1/2}
    """

    name: ClassVar[str] = "style"
    sole: ClassVar[str] = "image"
    factor: ClassVar[float] = 1.0

    image: str
    """path or http(s) address of the reference, whose middle square is used"""
    statistics: StyleStatistic = "moments"
    """`moments`: mean and deviation of each channel, `gram`: products of all pairs of channels"""
    layers: Annotated[list[Layer], Field(min_length=1)] | None = None
    """indices of the encoder's early layers to compare, from 0; all by default"""
    zoom: Annotated[float, fixed(minimum=1, maximum=8)] = 1.0
    """enlarges the reference: the encoder sees it in pieces of 1/zoom of its side"""

    @field_validator("image")
    @classmethod
    def _not_blank(cls, image: str) -> str:
        if not image.strip():
            raise wrong(image, "a path or an http(s) address")
        return image

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """Compute D, `[R, N]`, from the activations of the encoders.

        `p.goals` contains the `Goal`s of each encoder and layer, `p.seen` the statistics
        `[R, N, ...]` of the views, in the same order.
        """
        by_encoder = [
            torch.stack([
                self.distance((value - goal.value) * goal.unit)
                for goal, value in zip(goals, seen, strict=True)
            ]).mean(0)
            for goals, seen in zip(p.goals, p.seen, strict=True)
        ]
        return torch.stack(by_encoder).mean(0)


class _Gram(torch.autograd.Function):
    """Gram matrices `[B, C, C]` of `[B, C, h, w]`, with a gradient in the maps' memory order.

    Autograd's own gradient has another memory order, which doubles the time of the
    preceding convolutions, and needs two products instead of one.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        flat = maps.flatten(2)
        return torch.bmm(flat, flat.transpose(1, 2)) / flat.shape[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        maps: Tensor = ctx.saved_tensors[0]
        flat, both = maps.flatten(2), grads[0] + grads[0].transpose(1, 2)
        if flat.stride(1) == 1:  # channels last
            out = torch.bmm(flat.transpose(1, 2), both).transpose(1, 2)
        else:
            out = torch.bmm(both, flat)
        return (out / flat.shape[2]).view_as(maps)


def statistic(kind: StyleStatistic, maps: Tensor) -> Tensor:
    """Compute the statistics of activations.

    Args:
        kind: `moments` or `gram`.
        maps: Activations `[B, C, h, w]`.

    Returns:
        `[B, 2, C]`, mean and standard deviation, or `[B, C, C]`, mean products.
    """
    if kind == "gram":
        out: Tensor = _Gram.apply(maps)
        return out
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    return torch.stack([mean, (variance + _EPSILON).sqrt()], 1)


def goal(kind: StyleStatistic, layer: int, value: Tensor) -> Goal:
    """Make the goal of a layer from the statistics `[2, C]` or `[C, C]` of a reference."""
    if kind == "moments":
        variance = value[1].square()
        size = (variance + _FLOOR * variance.mean()).sqrt()
        return Goal(layer, value, (1 / size).expand_as(value))
    power = value.diagonal()
    size = (power + _FLOOR * power.mean() + _EPSILON).sqrt()
    unit = 1 / (size[:, None] * size)
    whole = (value * unit).square().mean().sqrt().clamp(min=_EPSILON)
    return Goal(layer, value, unit / whole)
