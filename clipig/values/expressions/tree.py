"""What a checked expression consists of: a small tree of frozen nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float


@dataclass(frozen=True)
class Kind:
    """What a part of an expression yields, known without evaluating it.

    A number has no `item`; `real` says that it may have a fractional part. A list has items of
    one kind and a length, which is None where it depends on values (`[1] if t else [1, 2]`).
    """

    real: bool = False
    item: Kind | None = None
    length: int | None = None

    def __str__(self) -> str:
        if self.item is None:
            return "a number"
        return "a list" if self.item.item is None else "a list of lists"


def join(a: Kind, b: Kind) -> Kind | None:
    """The kind that holds the values of both, or None where a number meets a list."""
    if a.item is None or b.item is None:
        return Kind(real=a.real or b.real) if a.item is b.item else None
    item = join(a.item, b.item)
    return item and Kind(item=item, length=a.length if a.length == b.length else None)


WHOLE = Kind(real=False)
REAL = Kind(real=True)


@dataclass(frozen=True)
class Number:
    """A literal or a named constant."""

    offset: int
    kind: Kind
    value: Scalar


@dataclass(frozen=True)
class Variable:
    """A value from the context, under its canonical name."""

    offset: int
    kind: Kind
    name: str


@dataclass(frozen=True)
class Unary:
    """`-x`, `+x`, `not x`."""

    offset: int
    kind: Kind
    operator: str
    operand: Node


@dataclass(frozen=True)
class Binary:
    """`x + y` and the other arithmetic operators."""

    offset: int
    kind: Kind
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Comparison:
    """`a < b <= c`; `in` and `not in` have a list on their right."""

    offset: int
    kind: Kind
    operators: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Logic:
    """`a and b and c` or `a or b or c`; as in Python the value is one of the operands."""

    offset: int
    kind: Kind
    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Condition:
    """`yes if test else no`."""

    offset: int
    kind: Kind
    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True)
class Sequence:
    """`[a, b]` or `(a, b)`."""

    offset: int
    kind: Kind
    items: tuple[Node, ...]
    is_tuple: bool


@dataclass(frozen=True)
class Item:
    """`base[index]` of a list."""

    offset: int
    kind: Kind
    base: Node
    index: Node


@dataclass(frozen=True)
class Lookup:
    """`{k: v}[key]` or `{k: v}.get(key, default)`; without a default the key must be there."""

    offset: int
    kind: Kind
    keys: tuple[Node, ...]
    values: tuple[Node, ...]
    key: Node
    default: Node | None


@dataclass(frozen=True)
class Call:
    """`function(arguments)`, a row of the table in `functions`."""

    offset: int
    kind: Kind
    function: str
    arguments: tuple[Node, ...]


Node: TypeAlias = (
    Number
    | Variable
    | Unary
    | Binary
    | Comparison
    | Logic
    | Condition
    | Sequence
    | Item
    | Lookup
    | Call
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below `node`, in the order of evaluation."""
    match node:
        case Number() | Variable():
            return ()
        case Unary(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Comparison(operands=operands) | Logic(operands=operands):
            return operands
        case Condition(test=test, yes=yes, no=no):
            return (test, yes, no)
        case Sequence(items=items):
            return items
        case Item(base=base, index=index):
            return (base, index)
        case Lookup(keys=keys, values=values, key=key, default=default):
            entries = tuple(n for pair in zip(keys, values, strict=True) for n in pair)
            return (*entries, key) if default is None else (*entries, key, default)
        case Call(arguments=arguments):
            return arguments


def walk(node: Node) -> Iterator[Node]:
    """`node` and all nodes below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def literal(node: Node) -> Scalar | None:
    """The number that is written there, with its sign, or None if it is more than that."""
    if isinstance(node, Unary) and isinstance(node.operand, Number) and node.operator != "not":
        return -node.operand.value if node.operator == "-" else +node.operand.value
    return node.value if isinstance(node, Number) else None
