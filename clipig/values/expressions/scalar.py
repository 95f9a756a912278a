"""The value of a checked tree in plain Python numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from clipig.errors import ExpressionError
from clipig.values.expressions import tree
from clipig.values.expressions.functions import FUNCTIONS, Draw
from clipig.values.expressions.grammar import MAX_INT
from clipig.values.expressions.names import PAIRS
from clipig.values.expressions.tree import Node

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
SIGNS: dict[str, Callable[[Any], Any]] = {
    "+": operator.pos,
    "-": operator.neg,
    "not": operator.not_,
}


def compute(node: Node, context: Mapping[str, object], draw: Draw | None) -> Any:
    """The value of `node`, by Python's rules: lazy conditions, ints stay ints."""

    def go(node: Node) -> Any:
        match node:
            case tree.Number(value=value):
                return value
            case tree.Variable():
                return _variable(node, context)
            case tree.Unary(operator=sign, operand=operand):
                return SIGNS[sign](go(operand))
            case tree.Binary():
                return _binary(node, go(node.left), go(node.right))
            case tree.Comparison(operators=signs, operands=operands):
                left = go(operands[0])
                for sign, operand in zip(signs, operands[1:], strict=True):
                    right = go(operand)
                    if not OPERATORS[sign](left, right):
                        return False
                    left = right
                return True
            case tree.Logic(operator=sign, operands=operands):
                for operand in operands:
                    value = go(operand)
                    if bool(value) == (sign == "or"):
                        break
                return value
            case tree.Condition(test=test, yes=yes, no=no):
                return go(yes) if go(test) else go(no)
            case tree.Sequence(items=items, is_tuple=is_tuple):
                values = [go(item) for item in items]
                return tuple(values) if is_tuple else values
            case tree.Item():
                return _item(node, go(node.base), go(node.index))
            case tree.Lookup(keys=keys, values=entries, key=key, default=default):
                table = {go(k): go(v) for k, v in zip(keys, entries, strict=True)}
                found = go(key)
                fallback = None if default is None else go(default)
                if found not in table and fallback is None:
                    raise ExpressionError(f"no key {found} in the dict", node.offset)
                return table.get(found, fallback)
            case tree.Call(arguments=arguments):
                return _call(node, [go(argument) for argument in arguments], draw)

    return go(node)


def _variable(node: tree.Variable, context: Mapping[str, object]) -> Any:
    if node.name not in context:
        raise ExpressionError(f"the variable {node.name!r} has no value here", node.offset)
    value = context[node.name]
    items = value if isinstance(value, list | tuple) else [value]
    if (node.name in PAIRS) != (items is value) or not all(
        isinstance(item, int | float) for item in items
    ):
        raise ExpressionError(f"the variable {node.name!r} cannot be {value!r}", node.offset)
    return value


def _binary(node: tree.Binary, left: Any, right: Any) -> Any:
    sign = node.operator
    whole = isinstance(left, int) and isinstance(right, int)
    if sign == "**" and whole and abs(left) > 1 and right > 64:
        raise ExpressionError(f"the integer {left} ** {right} is too large", node.offset)
    try:
        return _checked(OPERATORS[sign](left, right), node)
    except ZeroDivisionError:
        reason = "division by zero"
    except OverflowError:
        reason = "the result is too large"
    raise ExpressionError(f"{reason} in {left} {sign} {right}", node.offset)


def _item(node: tree.Item, base: Any, index: Any) -> Any:
    # A whole float is an index too: in tensors all numbers are floats.
    if not math.isfinite(index) or index != int(index):
        raise ExpressionError(f"an index must be a whole number, found {index}", node.offset)
    if not -len(base) <= index < len(base):
        raise ExpressionError(f"no item {index} in a list of {len(base)}", node.offset)
    return base[int(index)]


def _call(node: tree.Call, arguments: list[Any], draw: Draw | None) -> Any:
    function = FUNCTIONS[node.function]
    if function.random:
        if draw is None:
            raise ExpressionError(
                f"{node.function}() needs random numbers, there are none here", node.offset
            )
        arguments.insert(0, draw)
    try:
        return _checked(function.compute(*arguments), node)
    except ZeroDivisionError:
        reason = "division by zero"
    except (ValueError, OverflowError) as error:
        reason = str(error)
    shown = ", ".join(str(a) for a in arguments[function.random :])
    raise ExpressionError(f"{reason} in {node.function}({shown})", node.offset)


def _checked(value: Any, node: tree.Binary | tree.Call) -> Any:
    """`value` if it is real and, as an int, of a size that keeps the next operation short."""
    if isinstance(value, complex):
        raise ExpressionError(f"{value:.3g} is not a real number", node.offset)
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise ExpressionError("the integer is too large", node.offset)
    return value
