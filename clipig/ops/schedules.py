"""Learning rates with a name: what each is as a formula of `t`.

A schedule is written out when the config is read, so that a rate is a number or
a formula everywhere else. `t` goes from 0 at the first step of the whole run to 1
at the last, whatever the resolution does. The names are those of torch, optax
and the like, the numbers are in units of `learnrate`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from clipig.ops.base import Fixed, Numbers, Op, at, fixed, wrong

Level = Annotated[float, fixed(minimum=0)]


class _WarmupShare(Fixed):
    """A fraction that may be a percentage: `.05`, `1/20`, `5%`."""

    def read(self, raw: object) -> float | tuple[float, ...]:
        text = raw.strip() if isinstance(raw, str) else ""
        if not text.endswith("%"):
            return super().read(raw)
        try:
            return super().read(f"({text[:-1]})/100")
        except PydanticCustomError:
            raise wrong(raw, self.numbers.describe()) from None


WarmupShare = Annotated[float, _WarmupShare(Numbers(minimum=0, below=1, variables=frozenset()))]


class Schedule(Op):
    """How the learning rate goes over the run."""

    sole: ClassVar[str] = "peak"

    peak: Level = 1.0
    """the highest rate"""
    warmup: WarmupShare = 0.0
    """share of the run, `5%` or `.05`, in which the rate rises to the peak"""

    def formula(self) -> str:
        """The rate as an expression of `t`."""
        if not self.warmup:
            return self.fall("t")
        late = self.fall(f"ts({_text(self.warmup)}, 1)")
        return f"{self.rise(f't/{_text(self.warmup)}')} if t < {_text(self.warmup)} else {late}"

    def rise(self, u: str) -> str:
        """The rate while `u` goes from 0 to 1 in the warm-up."""
        return _between(0.0, self.peak, u)

    @abstractmethod
    def fall(self, u: str) -> str:
        """The rate while `u` goes from 0 to 1 in the rest of the run."""


class Constant(Schedule):
    """The same rate throughout, after a linear warm-up from 0.

    Example:
        learnrate: {constant: {peak: .5, warmup: 5%}}
    """

    name: ClassVar[str] = "constant"

    def fall(self, u: str) -> str:
        return _text(self.peak)


class _Falling(Schedule):
    """A rate that ends lower than its peak."""

    floor: Level = 0.0
    """the rate at the end, and at the beginning of the warm-up"""

    @model_validator(mode="after")
    def _falls(self) -> _Falling:
        if self.floor > self.peak:
            raise at(("floor",), f"found {self.floor:g}, expected at most the peak, {self.peak:g}")
        return self

    def rise(self, u: str) -> str:
        return _between(self.floor, self.peak, u)


class Linear(_Falling):
    """Falls evenly from the peak to the floor.

    Example:
        learnrate: {linear: {peak: 1, floor: .1}}
    """

    name: ClassVar[str] = "linear"

    def fall(self, u: str) -> str:
        return _between(self.floor, self.peak, f"(1 - {u})")


class Cosine(_Falling):
    """Falls from the peak to the floor along half a cosine: late, then fast, then slowly.

    Loshchilov and Hutter, "SGDR", 2017, without its restarts.

    Example:
        learnrate: {cosine: {peak: 1, warmup: 5%, floor: .1}}
    """

    name: ClassVar[str] = "cosine"

    def fall(self, u: str) -> str:
        return _between(self.floor, self.peak, f"(.5 + .5*cos(pi*{u}))")


class Exponential(_Falling):
    """Falls from the peak to the floor by the same factor in each step.

    Example:
        learnrate: {exponential: {peak: 1, floor: .05}}
    """

    name: ClassVar[str] = "exponential"

    floor: Annotated[float, fixed(above=0)] = 0.01
    """the rate at the end, and at the beginning of the warm-up"""

    def fall(self, u: str) -> str:
        return f"{_text(self.peak)}*{_text(self.floor / self.peak)}**{u}"


class OneCycle(_Falling):
    """Rises from 1/25 of the peak, then falls to the floor, both along half a cosine.

    Smith and Topin, "Super-Convergence", 2018, with the numbers of torch's OneCycleLR.

    Example:
        learnrate: {one_cycle: {peak: 2}}
    """

    name: ClassVar[str] = "one_cycle"

    warmup: WarmupShare = 0.3
    """share of the run, `30%` or `.3`, in which the rate rises to the peak"""
    floor: Level = 0.0
    """the rate at the end"""

    def rise(self, u: str) -> str:
        return _between(self.peak / 25, self.peak, f"(.5 - .5*cos(pi*{u}))")

    def fall(self, u: str) -> str:
        return _between(self.floor, self.peak, f"(.5 + .5*cos(pi*{u}))")


def _between(low: float, high: float, share: str) -> str:
    """`low + (high - low)*share`, without what has no effect."""
    span = "" if high - low == 1 else f"{_text(high - low)}*"
    return f"{_text(low)} + {span}{share}" if low else f"{span}{share}"


def _text(number: float) -> str:
    """A number in a formula, without the noise of a difference: `.9`, not 0.9000000000000001."""
    return f"{number:.12g}"


SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {cls.name: cls for cls in (Constant, Linear, Cosine, Exponential, OneCycle)}
)
"""Schedules by their YAML name."""
