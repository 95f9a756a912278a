"""The functions an expression may call: one table, with their meaning on plain numbers.

The random functions take their numbers from `draw`, so that a run's seed decides them; they are
inverse-transform or Box-Muller forms of the ones in Python's `random` (same distributions, not
the same sequence of values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Takes = Literal["numbers", "list", "either"]
Gives = Literal["whole", "real", "same", "item"]

NUMBERS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf}


@dataclass(frozen=True)
class Function:
    """One function: how many arguments it takes, of which kind, and what it gives.

    `takes`: numbers, one list, or either (`max(a, b)`, `max([a, b])`). `gives`: a whole number, a
    real one, whole only if all arguments are (`same`), or an item of the list. A random function
    is called with `draw` before its arguments.
    """

    compute: Callable[..., Any]
    least: int = 1
    most: int | None = 1
    takes: Takes = "numbers"
    gives: Gives = "real"
    random: bool = False

    @property
    def arity(self) -> str:
        """The number of arguments in words."""
        if self.most is None:
            return f"at least {self.least}"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


Draw = Callable[[], float]


def time_step(t: float, a: float, b: float) -> float:
    """0 before `a`, 1 after `b`, linear between; falls from 1 to 0 if `b` < `a`."""
    if b < a:
        return 1.0 - time_step(t, b, a)
    if a == b:
        return 1.0 if t >= a else 0.0
    return min(1.0, max(0.0, (t - a) / (b - a)))


def clamp(x: float, low: float, high: float) -> float:
    """`x` limited to `low`..`high`."""
    return min(high, max(low, x))


def round_to(x: float, digits: int | None = None) -> float:
    """Python's `round`, half to even; the digits are limited, since 10**digits is computed."""
    if digits is None:
        return round(x)
    if not isinstance(digits, int) or abs(digits) > 15:
        raise ValueError(f"digits must be a whole number from -15 to 15, not {digits}")
    return round(x, digits)


def whole(x: float, name: str) -> int:
    """`x` as an int if it is one."""
    if x != x or x in (math.inf, -math.inf) or x != int(x):
        raise ValueError(f"{name} must be a whole number, not {x}")
    return int(x)


def uniform(draw: Draw, a: float, b: float) -> float:
    """A number from `a` to `b`."""
    return a + (b - a) * draw()


def randrange(draw: Draw, start: float, stop: float | None = None, step: float = 1) -> int:
    """An item of `range(start, stop, step)`."""
    if stop is None:
        start, stop = 0, start
    first, end, stride = whole(start, "start"), whole(stop, "stop"), whole(step, "step")
    if stride == 0:
        raise ValueError("step must not be 0")
    count = -((first - end) // stride)
    if count <= 0:
        raise ValueError("the range is empty")
    return first + stride * min(count - 1, int(draw() * count))


def randint(draw: Draw, a: float, b: float) -> int:
    """A whole number from `a` to `b`, both included."""
    return randrange(draw, whole(a, "a"), whole(b, "b") + 1)


def gauss(draw: Draw, mu: float = 0.0, sigma: float = 1.0) -> float:
    """A normally distributed number (Box-Muller, two draws)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - draw()))
    return mu + sigma * radius * math.cos(math.tau * draw())


def lognormvariate(draw: Draw, mu: float = 0.0, sigma: float = 1.0) -> float:
    """The exponential of a normally distributed number."""
    return math.exp(gauss(draw, mu, sigma))


def expovariate(draw: Draw, rate: float) -> float:
    """An exponentially distributed number with mean 1/`rate`."""
    return -math.log(1.0 - draw()) / rate


def triangular(draw: Draw, low: float = 0.0, high: float = 1.0, mode: float | None = None) -> float:
    """A number from `low` to `high`, most often near `mode` (by default the middle)."""
    u = draw()
    if low == high:
        return low
    peak = 0.5 if mode is None else (mode - low) / (high - low)
    if u > peak:
        u, peak, low, high = 1.0 - u, 1.0 - peak, high, low
    return low + (high - low) * math.sqrt(u * peak)


def choice(draw: Draw, items: Sequence[Any]) -> Any:
    """One item of a list."""
    return items[min(len(items) - 1, int(draw() * len(items)))]


def _random(
    compute: Callable[..., Any],
    least: int,
    most: int,
    takes: Takes = "numbers",
    gives: Gives = "real",
) -> Function:
    return Function(compute, least, most, takes, gives, random=True)


# Of Python's `math`, by result and number of arguments.
REAL_FUNCTIONS = (
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh "
    "exp expm1 log1p log2 log10 sqrt erf erfc fabs degrees radians"
)
WHOLE_FUNCTIONS = "floor ceil trunc isfinite isinf isnan"
PAIR_FUNCTIONS = "atan2 copysign fmod pow"

FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(math, name)) for name in REAL_FUNCTIONS.split()},
    **{name: Function(getattr(math, name), gives="whole") for name in WHOLE_FUNCTIONS.split()},
    **{name: Function(getattr(math, name), 2, 2) for name in PAIR_FUNCTIONS.split()},
    "log": Function(math.log, most=2),
    "hypot": Function(math.hypot, most=None),
    "abs": Function(abs, gives="same"),
    "int": Function(int, gives="whole"),
    "float": Function(float),
    "bool": Function(bool, gives="whole"),
    "round": Function(round_to, most=2, gives="same"),
    "min": Function(min, most=None, takes="either", gives="same"),
    "max": Function(max, most=None, takes="either", gives="same"),
    "sum": Function(sum, takes="list", gives="same"),
    "len": Function(len, takes="list", gives="whole"),
    "clamp": Function(clamp, least=3, most=3, gives="same"),
    "time_step": Function(time_step, least=2, most=2),  # the grammar puts `time` before them
    "random": _random(lambda draw: draw(), 0, 0),
    "uniform": _random(uniform, 2, 2),
    "randint": _random(randint, 2, 2, gives="whole"),
    "randrange": _random(randrange, 1, 3, gives="whole"),
    "gauss": _random(gauss, 0, 2),
    "normalvariate": _random(gauss, 0, 2),
    "lognormvariate": _random(lognormvariate, 0, 2),
    "expovariate": _random(expovariate, 1, 1),
    "triangular": _random(triangular, 0, 3),
    "choice": _random(choice, 1, 1, takes="list", gives="item"),
}
