"""The optimizers, by their YAML name.

All of them are elementwise, so the rows of a batch do not affect each other, and
in all of them the update is proportional to the learning rate. The engine relies on
both: torch computes the update at learning rate one, and the engine scales it by the
learning rate of each run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar

import torch

from clipig.ops.base import Op, Positive, fixed

Decay = Annotated[float, fixed(minimum=0, below=1)]
Decays = Annotated[tuple[float, float], fixed(2, minimum=0, below=1)]


class OptimizerSpec(Op):
    """A rule that turns gradients into updates."""

    base: ClassVar[float]
    """the learning rate that corresponds to `learnrate: 1`"""

    @abstractmethod
    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        """Build the torch optimizer for parameter groups, each with its own `lr`."""


class Adam(OptimizerSpec):
    """Adam (Kingma and Ba, 2015); `learnrate: 1` is 0.01.

    Example:
        optimizer: {adam: {betas: [.9, .99]}}
    """

    name: ClassVar[str] = "adam"
    base: ClassVar[float] = 0.01

    betas: Decays = (0.9, 0.999)
    """decay of first and second moment"""
    eps: Positive = 1e-8
    """added to the root of the second moment"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps)


class NAdam(OptimizerSpec):
    """Adam with Nesterov momentum (Dozat, 2016); `learnrate: 1` is 0.01.

    Example:
        optimizer: nadam
    """

    name: ClassVar[str] = "nadam"
    base: ClassVar[float] = 0.01

    betas: Decays = (0.9, 0.999)
    """decay of first and second moment"""
    eps: Positive = 1e-8
    """added to the root of the second moment"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.NAdam(groups, betas=self.betas, eps=self.eps)


class AdaMax(OptimizerSpec):
    """Adam with the infinity norm (Kingma and Ba, 2015); `learnrate: 1` is 0.01.

    Example:
        optimizer: adamax
    """

    name: ClassVar[str] = "adamax"
    base: ClassVar[float] = 0.01

    betas: Decays = (0.9, 0.999)
    """decay of first moment and infinity norm"""
    eps: Positive = 1e-8
    """added to the norm"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.Adamax(groups, betas=self.betas, eps=self.eps)


class SGD(OptimizerSpec):
    """Gradient descent, optionally with momentum; `learnrate: 1` is 10.

    Example:
        optimizer: {sgd: {momentum: .9}}
    """

    name: ClassVar[str] = "sgd"
    base: ClassVar[float] = 10.0

    momentum: Decay = 0.0
    """fraction of the previous update that is kept"""
    nesterov: bool = False
    """use Nesterov momentum; no effect with `momentum: 0`"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, momentum=self.momentum, nesterov=nesterov)


class RMSprop(OptimizerSpec):
    """RMSprop with the original's defaults, centered, momentum 0.1; `learnrate: 1` is 0.003.

    The original called it `rmsprob`. It has no bias correction, so the first update is ten
    times as large as the later ones.

    Example:
        optimizer: {rmsprop: {momentum: 0, centered: false}}
    """

    name: ClassVar[str] = "rmsprop"
    base: ClassVar[float] = 0.003

    alpha: Decay = 0.99
    """decay of the second moment"""
    centered: bool = True
    """subtract the squared first moment"""
    momentum: Decay = 0.1
    """fraction of the previous update that is kept"""
    eps: Positive = 1e-8
    """added to the root of the second moment"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            groups, alpha=self.alpha, eps=self.eps, momentum=self.momentum, centered=self.centered
        )


class Adadelta(OptimizerSpec):
    """Adadelta (Zeiler, 2012); `learnrate: 1` is 20.

    Example:
        optimizer: adadelta
    """

    name: ClassVar[str] = "adadelta"
    base: ClassVar[float] = 20.0

    rho: Decay = 0.9
    """decay of both running means"""
    eps: Positive = 1e-6
    """added to the roots"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(groups, rho=self.rho, eps=self.eps)


class Adagrad(OptimizerSpec):
    """Adagrad (Duchi, Hazan and Singer, 2011); `learnrate: 1` is 0.05.

    Example:
        optimizer: adagrad
    """

    name: ClassVar[str] = "adagrad"
    base: ClassVar[float] = 0.05

    eps: Positive = 1e-10
    """added to the root of the sum of squares"""

    def build(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(groups, eps=self.eps)


_CLASSES: tuple[type[OptimizerSpec], ...] = (Adam, NAdam, AdaMax, SGD, RMSprop, Adadelta, Adagrad)

OPTIMIZERS: dict[str, type[OptimizerSpec]] = {c.name: c for c in _CLASSES}
"""Every optimizer by its YAML key, including `rmsprob`, the article's spelling of `rmsprop`."""

OPTIMIZERS["rmsprob"] = RMSprop

