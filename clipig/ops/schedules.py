"""Named learning rate schedules, each defined by a formula of `t`.

A schedule is converted to its formula when the config is read, so that a learning rate
is a value, constant or formula, everywhere else. `t` goes from 0 at the first step of the
whole run to 1 at the last, independently of the resolutions. The names are the usual
names in torch and optax. Rates are in units of `learnrate`.
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
    """The course of the learning rate over the run."""

    sole: ClassVar[str] = "peak"

    peak: Level = 1.0
    """the maximum rate"""
    warmup: WarmupShare = 0.0
    """fraction of the run, `5%` or `.05`, in which the rate rises to the peak"""

    def formula(self) -> str:
        """Return the rate as an expression of `t`, in the config's language of formulas."""
        if not self.warmup:
            return self.fall("t")
        late = self.fall(f"ts({_text(self.warmup)}, 1)")
        return f"{self.rise(f't/{_text(self.warmup)}')} if t < {_text(self.warmup)} else {late}"

    def rise(self, u: str) -> str:
        """Return the rate of the warm-up as an expression; `u` is a text that goes from 0 to 1."""
        return _between(0.0, self.peak, u)

    @abstractmethod
    def fall(self, u: str) -> str:
        """Return the rate after the warm-up as an expression; `u` goes from 0 to 1."""


class Constant(Schedule):
    """The same rate throughout, after a linear warm-up from 0.

    Example:
        learnrate: {constant: {peak: .5, warmup: 5%}}
    """

    name: ClassVar[str] = "constant"

    def fall(self, u: str) -> str:
        return _text(self.peak)


class _Falling(Schedule):
    """A schedule that ends at a floor, at most its peak."""

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
    """Falls linearly from the peak to the floor.

    Example:
        learnrate: {linear: {peak: 1, floor: .1}}
    """

    name: ClassVar[str] = "linear"

    def fall(self, u: str) -> str:
        return _between(self.floor, self.peak, f"(1 - {u})")


class Cosine(_Falling):
    """Falls from the peak to the floor along half a cosine: slowly, then fast, then slowly.

    The schedule of Loshchilov and Hutter, "SGDR", 2017, without its restarts.

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

    The schedule of Smith and Topin, "Super-Convergence", 2018, with the defaults of torch's
    OneCycleLR.

    Example:
        learnrate: {one_cycle: {peak: 2}}
    """

    name: ClassVar[str] = "one_cycle"

    warmup: WarmupShare = 0.3
    """fraction of the run, `30%` or `.3`, in which the rate rises to the peak"""
    floor: Level = 0.0
    """the rate at the end"""

    def rise(self, u: str) -> str:
        return _between(self.peak / 25, self.peak, f"(.5 - .5*cos(pi*{u}))")

    def fall(self, u: str) -> str:
        return _between(self.floor, self.peak, f"(.5 + .5*cos(pi*{u}))")


def _between(low: float, high: float, share: str) -> str:
    """Format `low + (high - low)*share` without terms and factors that have no effect."""
    span = "" if high - low == 1 else f"{_text(high - low)}*"
    return f"{_text(low)} + {span}{share}" if low else f"{span}{share}"


def _text(number: float) -> str:
    """Format a number for a formula without rounding noise: 0.9, not 0.9000000000000001."""
    return f"{number:.12g}"


SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {cls.name: cls for cls in (Constant, Linear, Cosine, Exponential, OneCycle)}
)
"""Schedules by their YAML name."""
