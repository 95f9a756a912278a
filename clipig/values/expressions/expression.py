"""`Expression`: a formula that has been checked, and how to get its value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from clipig.errors import ExpressionError
from clipig.values.expressions import grammar, scalar, tree
from clipig.values.expressions.functions import FUNCTIONS
from clipig.values.expressions.names import VARIABLES


@dataclass(frozen=True)
class Expression:
    """A checked formula; equal to another if text and allowed variables are. Made by `parse`.

    `names` are the canonical variables its value depends on (`ts(0, 1)` depends on `time`), and
    `random` says whether it draws random numbers. It pickles and copies as its text.

    >>> parse("8 if t < .4 else 16", VARIABLES["time"]).evaluate({"time": 0.5})
    16
    """

    text: str
    names: frozenset[str] = field(compare=False)
    random: bool = field(compare=False)
    variables: frozenset[str]
    tree: tree.Node = field(compare=False, repr=False)

    def evaluate(
        self, context: Mapping[str, object], draw: Callable[[], float] | None = None
    ) -> float | int | bool | list[float] | tuple[float, ...]:
        """The value by Python's rules, with the values of `names` taken from `context`.

        `draw` gives the random numbers, uniform in [0, 1). Raises ExpressionError where Python
        would raise, where the result is not real and where an integer exceeds 2**63.
        """
        value: float | list[float] | tuple[float, ...] = scalar.compute(self.tree, context, draw)
        return value

    def check_tensor(self) -> None:
        """Raise ExpressionError if `tensors.compute` cannot do this; computes nothing."""
        for node in tree.walk(self.tree):
            kind: tree.Kind | None = node.kind
            while kind is not None and kind.item is not None:
                if kind.length is None:
                    raise ExpressionError(
                        "a list whose length varies cannot be computed on tensors", node.offset
                    )
                kind = kind.item
            if isinstance(node, tree.Call) and node.function == "round":
                digits = [tree.literal(argument) for argument in node.arguments[1:]]
                if digits and (not isinstance(digits[0], int) or abs(digits[0]) > 15):
                    raise ExpressionError(
                        "on tensors the digits of round must be an integer from -15 to 15",
                        node.arguments[1].offset,
                    )

    def __reduce__(self) -> tuple[object, ...]:
        return parse, (self.text, self.variables)


def parse(text: str, variables: Collection[str] = ()) -> Expression:
    """Check `text`, a Python expression of numbers, and return it ready for evaluation.

    `variables` are the canonical names that may occur, such as `VARIABLES["time"]`; their aliases
    may then occur as well. Nothing is evaluated. Raises ExpressionError with the place of the
    first fault, what was found there, and what is allowed.
    """
    allowed = frozenset(variables)
    if unknown := allowed.difference(*VARIABLES.values()):
        raise ValueError(f"not canonical variables: {sorted(unknown)}")
    root = grammar.read(text, allowed)
    nodes = list(tree.walk(root))
    return Expression(
        text=text,
        names=frozenset(node.name for node in nodes if isinstance(node, tree.Variable)),
        random=any(isinstance(n, tree.Call) and FUNCTIONS[n.function].random for n in nodes),
        variables=allowed,
        tree=root,
    )
