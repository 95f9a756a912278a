"""The value of a checked tree on tensors: no branch, no `.item()`, nothing waits for the device.

Every number is a float tensor; a list is a Python list of them, since its length is known. Truth is
1 or 0, conditions are `torch.where`. What has no value is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from clipig.errors import ExpressionError
from clipig.values.expressions import tree
from clipig.values.expressions.expression import Expression
from clipig.values.expressions.tree import Node

Value: TypeAlias = "Tensor | list[Value]"
DrawTensor: TypeAlias = Callable[[], Tensor]


def compute(
    expression: Expression,
    context: Mapping[str, Tensor | float | list[float]],
    draw: DrawTensor | None = None,
) -> Tensor:
    """The value of an expression on float tensors that broadcast.

    Nothing can be raised for a value, so what `Expression.evaluate` refuses is inf or nan:
    division by zero, a missing key, an index that is fractional or out of range. All branches
    are computed, nothing waits for the device.

    Args:
        expression: The formula.
        context: The value of each of its variables.
        draw: Gives the random numbers, uniform in [0, 1), of any shape that broadcasts.

    Returns:
        The value, with the dtype and device of the tensors in `context` (of the first draw if
        there are none). Truth is 1 or 0. A list becomes a last dimension.

    Raises:
        ExpressionError: The formula has a list of varying length, a variable without a value,
            or needs random numbers where there are none.
    """
    expression.check_tensor()
    if expression.random and draw is None:
        raise ExpressionError("the expression needs random numbers, there are none here")
    first: list[Tensor] = []
    values = [context.get(name) for name in sorted(expression.names)]
    given = [value for value in values if isinstance(value, Tensor)]
    if not given and draw is not None and expression.random:
        first = given = [draw()]
    dtypes = [value.dtype for value in given if value.dtype.is_floating_point]
    dtype = reduce(torch.promote_types, dtypes) if dtypes else torch.get_default_dtype()
    device = given[0].device if given else torch.device("cpu")

    def next_draw() -> Tensor:
        assert draw is not None  # a random expression is not computed without it
        return (first.pop() if first else draw()).to(dtype)

    result = _Evaluator(context, next_draw, dtype, device).value(expression.tree)
    if isinstance(result, Tensor):
        return result
    items = [item for item in result if isinstance(item, Tensor)]  # lists of lists do not parse
    shape = torch.broadcast_shapes(*(item.shape for item in items))  # type: ignore[no-untyped-call]
    return torch.stack([item.expand(shape) for item in items], dim=-1)


class _Evaluator:
    """One evaluation: the context and the dtype and device of every constant."""

    def __init__(
        self,
        context: Mapping[str, Tensor | float | list[float]],
        draw: DrawTensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.context = context
        self.draw = draw
        self.dtype = dtype
        self.device = device

    def constant(self, value: float) -> Tensor:
        """`value` where the other tensors are; a fill, which needs no copy from the host."""
        if abs(value) > torch.finfo(self.dtype).max:
            value = math.copysign(math.inf, value)
        return torch.full((), float(value), dtype=self.dtype, device=self.device)

    def truth(self, value: Tensor) -> Tensor:
        return value.to(self.dtype)

    def number(self, node: Node) -> Tensor:
        """The value of a node that the grammar knows to be a number."""
        value = self.value(node)
        assert isinstance(value, Tensor)
        return value

    def items(self, node: Node) -> list[Value]:
        """The value of a node that the grammar knows to be a list."""
        value = self.value(node)
        assert isinstance(value, list)
        return value

    def value(self, node: Node) -> Value:
        match node:
            case tree.Number(value=value):
                return self.constant(value)
            case tree.Variable():
                return self.variable(node)
            case tree.Unary(operator=sign, operand=operand):
                number = self.number(operand)
                return self.truth(number == 0) if sign == "not" else SIGNS[sign](number)
            case tree.Binary(operator=sign, left=left, right=right):
                return ARITHMETIC[sign](self.number(left), self.number(right))
            case tree.Comparison():
                return self.truth(self.comparison(node))
            case tree.Logic(operator=sign, operands=operands):
                numbers = [self.number(operand) for operand in operands]
                result = numbers[-1]
                for number in reversed(numbers[:-1]):
                    stop = number != 0 if sign == "or" else number == 0
                    result = torch.where(stop, number, result)
                return result
            case tree.Condition(test=test, yes=yes, no=no):
                return select(self.number(test) != 0, self.value(yes), self.value(no))
            case tree.Sequence(items=items):
                return [self.value(item) for item in items]
            case tree.Item(base=base, index=index):
                values, position = self.items(base), tree.literal(index)
                if isinstance(position, int):
                    return values[position]
                return self.item(values, self.number(index))
            case tree.Lookup():
                return self.lookup(node)
            case tree.Call():
                return self.call(node)

    def variable(self, node: tree.Variable) -> Value:
        if node.name not in self.context:
            raise ExpressionError(f"the variable {node.name!r} has no value here", node.offset)
        value = self.context[node.name]
        is_number = node.kind.item is None
        if isinstance(value, Tensor):
            value = value.to(self.dtype)
            return value if is_number else list(value.unbind(-1))
        if is_number and isinstance(value, int | float):
            return self.constant(value)
        if not is_number and isinstance(value, list | tuple):
            return [self.constant(part) for part in value]
        raise ExpressionError(f"the variable {node.name!r} cannot be {value!r}", node.offset)

    def comparison(self, node: tree.Comparison) -> Tensor:
        left = self.number(node.operands[0])
        result: Tensor | None = None
        for sign, operand in zip(node.operators, node.operands[1:], strict=True):
            if sign in COMPARISONS:
                right = self.number(operand)
                holds = COMPARISONS[sign](left, right)
                left = right
            else:
                holds = self.is_in(left, operand)
                holds = holds if sign == "in" else torch.logical_not(holds)
            result = holds if result is None else torch.logical_and(result, holds)
        assert result is not None
        return result

    def is_in(self, number: Tensor, node: Node) -> Tensor:
        items = [item for item in self.items(node) if isinstance(item, Tensor)]
        found = torch.eq(number, items[0])
        for item in items[1:]:
            found = torch.logical_or(found, torch.eq(number, item))
        return found

    def item(self, values: list[Value], index: Tensor) -> Value:
        """`values[index]`; nan where there is no such item."""
        index = torch.where(index < 0, index + len(values), index)
        result = self.nowhere(values[0])
        for position, value in enumerate(values):
            result = select(index == position, value, result)
        return result

    def lookup(self, node: tree.Lookup) -> Value:
        entries = [
            (self.number(k), self.value(v)) for k, v in zip(node.keys, node.values, strict=True)
        ]
        key = self.number(node.key)
        default = node.default
        result = self.nowhere(entries[0][1]) if default is None else self.value(default)
        for k, v in entries:  # of equal keys the last one holds, as in Python
            result = select(key == k, v, result)
        return result

    def nowhere(self, like: Value) -> Value:
        """nan in the form of `like`."""
        if isinstance(like, Tensor):
            return self.constant(math.nan)
        return [self.nowhere(item) for item in like]

    def call(self, node: tree.Call) -> Value:
        name, arguments = node.function, node.arguments
        if name == "choice":
            values = self.items(arguments[0])
            return self.item(values, torch.floor(self.draw() * len(values)))
        if name == "len":
            return self.constant(len(self.items(arguments[0])))
        if name == "round":
            digits = tree.literal(arguments[1]) if len(arguments) > 1 else 0
            return torch.round(self.number(arguments[0]), decimals=int(digits or 0))
        numbers = [
            number
            for argument in arguments
            for number in (
                [self.number(argument)] if argument.kind.item is None else self.items(argument)
            )
        ]
        tensors = [number for number in numbers if isinstance(number, Tensor)]
        if name in RANDOM:
            defaults = [self.constant(x) for x in DEFAULTS.get(name, ())[len(tensors) :]]
            return RANDOM[name](self.draw, *tensors, *defaults)
        return PLAIN[name](*tensors)


def select(test: Tensor, yes: Value, no: Value) -> Value:
    """`torch.where`, item by item for lists."""
    if isinstance(yes, Tensor) and isinstance(no, Tensor):
        return torch.where(test, yes, no)
    return [select(test, y, n) for y, n in zip(yes, no, strict=True)]


SIGNS: dict[str, Callable[[Tensor], Tensor]] = {"+": torch.positive, "-": torch.neg}

ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "//": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "%": torch.remainder,
    "**": torch.pow,
}
COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "==": torch.eq,
    "!=": torch.ne,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
}


def _time_step(t: Tensor, a: Tensor, b: Tensor) -> Tensor:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    same = low == high
    ramp = ((t - low) / torch.where(same, 1.0, high - low)).clamp(0, 1)
    rising = torch.where(same, (t >= low).to(t.dtype), ramp)
    return torch.where(b < a, 1 - rising, rising)


def _truth(test: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: test(x).to(x.dtype)


SAME_NAME = (
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh "
    "exp expm1 log1p log2 log10 sqrt erf erfc floor ceil trunc atan2 copysign fmod pow abs"
)
PLAIN: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in SAME_NAME.split()},
    **{name: _truth(getattr(torch, name)) for name in ("isfinite", "isinf", "isnan")},
    "fabs": torch.abs,
    "degrees": torch.rad2deg,
    "radians": torch.deg2rad,
    "log": lambda x, base=None: torch.log(x) if base is None else torch.log(x) / torch.log(base),
    "hypot": lambda *xs: reduce(torch.hypot, xs[1:], torch.abs(xs[0])),
    "int": torch.trunc,
    "float": torch.positive,
    "bool": _truth(lambda x: x != 0),
    "min": lambda *xs: reduce(torch.minimum, xs),
    "max": lambda *xs: reduce(torch.maximum, xs),
    "sum": lambda *xs: reduce(torch.add, xs),
    "clamp": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
    "time_step": _time_step,
}


def _randrange(
    draw: DrawTensor, start: Tensor, stop: Tensor | None = None, step: Tensor | None = None
) -> Tensor:
    if stop is None:
        start, stop = torch.zeros_like(start), start
    if step is None:
        step = torch.ones_like(start)
    count = torch.ceil((stop - start) / step)
    return start + step * torch.floor(draw() * count)


def _gauss(draw: DrawTensor, mu: Tensor, sigma: Tensor) -> Tensor:
    radius = torch.sqrt(-2 * torch.log1p(-draw()))
    return mu + sigma * (radius * torch.cos(math.tau * draw()))


def _triangular(draw: DrawTensor, low: Tensor, high: Tensor, mode: Tensor | None = None) -> Tensor:
    u = draw()
    same = low == high
    half = torch.full_like(low, 0.5)
    peak = half if mode is None else (mode - low) / torch.where(same, 1.0, high - low)
    left = low + (high - low) * torch.sqrt(u * peak)
    right = high + (low - high) * torch.sqrt((1 - u) * (1 - peak))
    return torch.where(same, low, torch.where(u > peak, right, left))


# The other random functions, by `draw` and their arguments; `choice` is in `_Evaluator.call`.
RANDOM: dict[str, Callable[..., Tensor]] = {
    "random": lambda draw: draw(),
    "uniform": lambda draw, a, b: a + (b - a) * draw(),
    "randint": lambda draw, a, b: _randrange(draw, a, b + 1),
    "randrange": _randrange,
    "gauss": _gauss,
    "normalvariate": _gauss,
    "lognormvariate": lambda draw, mu, sigma: torch.exp(_gauss(draw, mu, sigma)),
    "expovariate": lambda draw, rate: -torch.log1p(-draw()) / rate,
    "triangular": _triangular,
}
DEFAULTS: dict[str, tuple[float, ...]] = {
    "gauss": (0.0, 1.0),
    "normalvariate": (0.0, 1.0),
    "lognormvariate": (0.0, 1.0),
    "triangular": (0.0, 1.0),
}
