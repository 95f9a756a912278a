"""Numbers as a user writes them: constants or expressions.

Numbers are read in the article's grammar: `.5`, `1/3`, `-30 30`, `[224, 't*224']`.
The types here are used in the fields of ops and of the experiment; what they
refuse is raised as a pydantic error in the user's words.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from clipig.errors import ExpressionError
from clipig.values.expressions import VARIABLES, Expression, parse
from clipig.values.expressions.tree import literal
from clipig.values.faults import fault, found, wrong

ROW = VARIABLES["row"]
"""known wherever a formula may stand: it is a number before anything else is worked out"""
TIME = VARIABLES["time"] | ROW
SHAPE = TIME | VARIABLES["resolution"]
RATE = SHAPE | VARIABLES["learnrate"]
LIVE = RATE | VARIABLES["similarity"]

NAMED_GROUPS = {"time": VARIABLES["time"], "size": VARIABLES["resolution"],
                "learning rate": VARIABLES["learnrate"], "similarity": VARIABLES["similarity"]}
"""The groups of variables in words, for the reference."""


@dataclass(frozen=True)
class Value:
    """One or more numbers, each a constant or an expression.

    `parts` has `count` entries, or a single one: an expression that may return
    either one number (used for all) or a list of `count`.
    """

    parts: tuple[float | Expression, ...]
    count: int
    integer: bool = False

    @property
    def constant(self) -> bool:
        return not any(isinstance(p, Expression) for p in self.parts)

    @property
    def names(self) -> frozenset[str]:
        """The variables that the value depends on."""
        return frozenset().union(*(p.names for p in self.parts if isinstance(p, Expression)))

    @property
    def random(self) -> bool:
        return any(isinstance(p, Expression) and p.random for p in self.parts)

    def numbers(self) -> tuple[float, ...]:
        """The numbers of a constant value, `count` of them."""
        if not self.constant:
            raise ValueError("not a constant")
        return tuple(p for p in self.parts if not isinstance(p, Expression))

    def plain(self) -> object:
        """For messages and JSON: a number, a text or a list of them."""
        out = [p.text if isinstance(p, Expression) else tidy(p) for p in self.parts]
        return out[0] if len(set(map(str, out))) == 1 else out


def tidy(number: float) -> float | int:
    """A whole float as an int, as one would write it."""
    return int(number) if abs(number) < 1e15 and number == int(number) else number


def constant(*numbers: float, integer: bool = False) -> Value:
    """A `Value` of given numbers, for defaults and for Python callers."""
    return Value(tuple(numbers), len(numbers), integer)


@dataclass(frozen=True)
class Numbers:
    """The type of a `Value` field; use as `Annotated[Value, Numbers((3,))]`.

    counts      allowed lengths; one number is copied to the shortest
    integer     whole numbers only (a formula's result is truncated)
    minimum, maximum   allowed range of each number (checked for constants at
                load time and for expressions when the plan is made)
    above, below       each number must be greater, or less, than this
    variables   what an expression here may use
    size        pixels given as `width height`; bound as `(height, width)`
    static      needed as a Python number (it decides about shapes): a change
                of it begins a new phase; `size` implies it
    clamped     a formula that falls below `minimum` counts as `minimum`; a constant
                below it is refused all the same
    """

    counts: tuple[int, ...] = (1,)
    integer: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    variables: frozenset[str] = RATE
    size: bool = False
    static: bool = False
    clamped: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(Value.plain)
        )

    def number_schema(self) -> dict[str, Any]:
        """JSON Schema of one constant."""
        limits = {
            "minimum": self.minimum, "maximum": self.maximum,
            "exclusiveMinimum": self.above, "exclusiveMaximum": self.below,
        }
        kind = {"type": "integer" if self.integer else "number"}
        return kind | {k: v for k, v in limits.items() if v is not None}

    def read(self, raw: object) -> Value:
        """The typed value of what a user wrote; raises a pydantic error."""
        if isinstance(raw, Value):
            return raw
        if isinstance(raw, str):
            entries = self._split(raw)
        elif isinstance(raw, list | tuple):
            entries = list(raw)
        else:
            entries = [raw]
        if len(entries) not in {1, *self.counts}:
            number = f"{len(entries)} values in " if entries else ""
            raise fault(f"found {number}{found(raw)}, expected {self.describe()}")
        parts = tuple(self._part(e) for e in entries)
        if len(parts) == 1 and isinstance(parts[0], Expression) and not parts[0].names:
            parts = self._listed(parts[0], raw)
        self._check_lists(parts, raw)
        count = min(self.counts) if len(parts) == 1 else len(parts)
        if len(parts) == 1 and not isinstance(parts[0], Expression):
            parts = parts * count
        return Value(parts, count, self.integer)

    def _split(self, text: str) -> list[object]:
        if self.counts == (1,):
            return [text]
        pieces: list[object] = [*split_outside_brackets(text)]
        if len(pieces) in self.counts:
            return pieces
        try:
            parse(text, self.variables)
        except ExpressionError:
            return pieces or [text]
        return [text]

    def _part(self, raw: object) -> float | Expression:
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise wrong(raw, self.describe())
        if not isinstance(raw, str):
            if self.integer and raw != int(raw if math.isfinite(raw) else 0):
                raise wrong(raw, self.describe())
            self.check(raw, found(raw))
            return int(raw) if self.integer else raw
        try:
            expression = parse(raw.strip(), self.variables)
            if expression.names or expression.random:
                return expression
            result = expression.evaluate({})
        except ExpressionError as e:
            raise fault(self._refusal(raw, e)) from None
        if isinstance(result, list | tuple):
            return expression
        written = literal(expression.tree)  # '2.7' is refused as 2.7 is
        if self.integer and written is not None and math.isfinite(result) and result % 1:
            raise wrong(raw, self.describe())
        self.check(result, found(raw))
        return int(result) if self.integer else result

    def _listed(self, expression: Expression, raw: object) -> tuple[float | Expression, ...]:
        """The numbers of a formula that gives a list and depends on nothing."""
        if expression.random:
            return (expression,)
        try:
            numbers = expression.evaluate({})
        except ExpressionError as e:
            raise fault(self._refusal(expression.text, e)) from None
        assert isinstance(numbers, list | tuple)
        if len(numbers) not in {1, *self.counts}:
            raise fault(f"found {len(numbers)} values in {found(raw)}, expected {self.describe()}")
        for number in numbers:
            self.check(number, found(raw))
        return tuple(int(n) if self.integer else n for n in numbers)

    def _check_lists(self, parts: tuple[float | Expression, ...], raw: object) -> None:
        """Refuse formulas that give another number of values than is wanted."""
        lists = [p.tree.kind for p in parts if isinstance(p, Expression) and p.tree.kind.item]
        if lists and len(parts) > 1:
            raise fault(f"found a list inside {found(raw)}, expected {self.describe()}")
        if lists and (length := lists[0].length) and length not in {1, *self.counts}:
            raise fault(f"found {length} values in {found(raw)}, expected {self.describe()}")

    def _refusal(self, raw: str, error: ExpressionError) -> str:
        if not raw.strip():
            return f"found an empty text, expected {self.describe()}"
        if re.fullmatch(r"\s*[A-Za-z]\w*(\s+[A-Za-z]\w*)*\s*", raw) and not self.variables:
            return f"found {found(raw)}, expected {self.describe()}"
        place = f" (at character {error.offset + 1})" if error.offset else ""
        return f"found {found(raw)}, expected {self.describe()}: {error}{place}"

    @property
    def floor(self) -> float | None:
        """What a formula counts as where it falls below it; None: it is refused there."""
        return self.minimum if self.clamped else None

    def check(self, number: float, quoted: str) -> None:
        """Raises a pydantic error if `number` is out of range."""
        low, high, above, below = self.minimum, self.maximum, self.above, self.below
        if (
            not math.isfinite(number)
            or (low is not None and number < low)
            or (high is not None and number > high)
            or (above is not None and number <= above)
            or (below is not None and number >= below)
        ):
            raise fault(f"found {quoted}, expected {self.describe()}")

    def describe(self) -> str:
        """What is allowed, in words: `1 or 2 whole numbers of at least 1`."""
        noun = "whole number" if self.integer else "number"
        if self.counts == (1,):
            text = f"a {noun}"
        else:
            text = f"{_counts(sorted({1, *self.counts}))} {noun}s"
        low, high = (None if n is None else str(tidy(n)) for n in (self.minimum, self.maximum))
        if low and high:
            return f"{text} from {low} to {high}"
        limits = [f"of at least {low}" * bool(low), f"of at most {high}" * bool(high)]
        if self.above is not None:
            limits.append(f"greater than {tidy(self.above)}")
        if self.below is not None:
            limits.append(f"less than {tidy(self.below)}")
        return " ".join([text, " and ".join(limit for limit in limits if limit)]).strip()


def _counts(counts: list[int]) -> str:
    """`1 or 3`, `1, 3, 6 ... 96`."""
    if len(counts) <= 4:
        return " or ".join(map(str, counts))
    return f"{', '.join(map(str, counts[:3]))} ... {counts[-1]}"


def split_outside_brackets(text: str) -> list[str]:
    """Split at commas if there are any outside brackets, otherwise at blanks."""
    depth, flat = 0, []
    for character in text.strip():
        depth += (character in "([{") - (character in ")]}")
        flat.append("_" if depth and (character == "," or character.isspace()) else character)
    mask, text = "".join(flat), text.strip()
    pieces, last = [], 0
    for match in re.finditer(r"\s*,\s*" if "," in mask else r"\s+", mask):
        pieces.append(text[last : match.start()])
        last = match.end()
    return [p for p in [*pieces, text[last:]] if p]


@dataclass(frozen=True)
class Fixed:
    """The type of plain numbers, known once and for all: `Annotated[int, Fixed(...)]`.

    They may be written as a formula without variables (`10*6`), but are numbers
    in the experiment. `count` numbers are a tuple; `keep` leaves ints among
    floats as they are, where the type has a meaning.
    """

    numbers: Numbers
    count: int = 1
    keep: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, raw: object) -> float | tuple[float, ...]:
        """The number or numbers; raises a pydantic error."""
        value = self.numbers.read(raw)
        if not value.constant:
            raise fault(f"found {found(raw)}, expected {self.numbers.describe()}, no formula")
        out = value.numbers()
        if not self.numbers.integer and not self.keep:
            out = tuple(map(float, out))
        return out if self.count > 1 else out[0]


def fixed(
    count: int = 1, *, integer: bool = False, minimum: float | None = None,
    maximum: float | None = None, above: float | None = None, below: float | None = None,
    keep: bool = False,
) -> Fixed:
    """A `Fixed` of the given limits."""
    numbers = Numbers(
        (count,), integer=integer, minimum=minimum, maximum=maximum, above=above, below=below,
        variables=frozenset(),
    )
    return Fixed(numbers, count, keep)
