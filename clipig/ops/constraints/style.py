"""A constraint that looks through the encoder: the manner of a reference picture."""

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
"""Share of the channels' mean size that is added to each: quiet ones do not decide alone"""
_EPSILON = 1e-6
"""Added to variances, whose root has no slope at zero"""


@dataclass(frozen=True)
class Goal:
    """What a layer of an encoder shall show.

    layer   its index in `Encoder.features`
    value   statistics of the reference, `[...]`, or `[R|1, 1, ...]` for runs
    unit    one over the size of a difference that counts as 1, likewise
    """

    layer: int
    value: Tensor
    unit: Tensor


class Style(Constraint):
    """Prefer the manner of a reference picture: colours, strokes, texture; K is 1.

    Compared are statistics of the encoder's early layers, which know what there is
    but not where: `moments` are the mean and standard deviation of each channel (Huang
    and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization", 2017), `gram` the mean products of two channels (Gatys, Ecker and
    Bethge, "Image Style Transfer Using Convolutional Neural Networks", 2016).

    D is the mean over channels, layers and encoders. A difference counts in units of
    the reference: its channel's standard deviation for `moments`, its whole Gram
    matrix, channels scaled to equal size, for `gram`. Two unlike pictures are apart
    by 0.2 to 2 (`moments`) or 1 to 10 (`gram`), a picture drawn in the manner of the
    other by a tenth of it or less. That is the scale of the `1 - cos` of a text, so
    give a style about the weight of a feature.

    Each view is compared with the whole reference (a piece of it with `zoom`), so
    strokes get the size that they have relative to a view: `cutouts` of a third of the
    picture make them a third as large in it. Noise in the views would count as
    texture: give a style a target of its own, without noise.

    Example:
        - style: {image: examples/inputs/mosaic.png, weight: 1/2}
    """

    name: ClassVar[str] = "style"
    sole: ClassVar[str] = "image"
    factor: ClassVar[float] = 1.0

    image: str
    """path or http(s) address of the reference; its middle square is used"""
    statistics: StyleStatistic = "moments"
    """`moments`: mean and deviation of each channel, `gram`: products of all pairs"""
    layers: Annotated[list[Layer], Field(min_length=1)] | None = None
    """which of the encoder's early layers count, from 0; all by default"""
    zoom: Annotated[float, fixed(minimum=1, maximum=8)] = 1.0
    """enlarges the reference: it is seen in pieces of 1/zoom of its side"""

    @field_validator("image")
    @classmethod
    def _not_blank(cls, image: str) -> str:
        if not image.strip():
            raise wrong(image, "a path or an http(s) address")
        return image

    def penalty(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        """D of what the encoders see in the views, `[R, N]`.

        `p.goals` are the `Goal`s of each encoder and layer, `p.seen` the statistics
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
    """`[B, C, h, w]` to `[B, C, C]`, with a gradient in the memory order of the maps.

    Autograd's own comes in another order, which doubles the time of the convolutions
    before it, and takes two products where one does.
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
    """What is compared of activations `[B, C, h, w]`: `[B, 2, C]` or `[B, C, C]`."""
    if kind == "gram":
        out: Tensor = _Gram.apply(maps)
        return out
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    return torch.stack([mean, (variance + _EPSILON).sqrt()], 1)


def goal(kind: StyleStatistic, layer: int, value: Tensor) -> Goal:
    """The goal for the statistics `[2, C]` or `[C, C]` of a reference."""
    if kind == "moments":
        variance = value[1].square()
        size = (variance + _FLOOR * variance.mean()).sqrt()
        return Goal(layer, value, (1 / size).expand_as(value))
    power = value.diagonal()
    size = (power + _FLOOR * power.mean() + _EPSILON).sqrt()
    unit = 1 / (size[:, None] * size)
    whole = (value * unit).square().mean().sqrt().clamp(min=_EPSILON)
    return Goal(layer, value, unit / whole)
