"""What an op is: one class that is the YAML key, its documentation and its test entry.

An op is a frozen pydantic model. Its fields are the YAML keys below its name,
its docstring is the reference entry, its place in a table (`TRANSFORMS`,
`CONSTRAINTS`, `POSTPROC`, `CANVASES`, `OPTIMIZERS`) is the list that the tests
walk through. Numbers are `Value`s: constants or expressions, in the article's
grammar (`.5`, `1/3`, `-30 30`, `[224, 't*224']`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic import model_validator
from pydantic_core import PydanticCustomError, core_schema

from clipig.errors import ExpressionError
from clipig.expressions import VARIABLES, Expression, parse

TIME = VARIABLES["time"]
SHAPE = TIME | VARIABLES["resolution"]
RATE = SHAPE | VARIABLES["learnrate"]
LIVE = RATE | VARIABLES["similarity"]


def nearest(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'blur'?"` for the closest of `choices`, or nothing."""
    match = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f"; did you mean {match[0]!r}?" if match else ""


def fault(message: str) -> PydanticCustomError:
    """A validation error whose text is shown to the user as it is."""
    return PydanticCustomError("clipig", "{message}", {"message": message})


def found(raw: object) -> str:
    """How a value that does not fit is quoted in a message."""
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."


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
        """As it would stand in YAML: a number, a text or a list of them."""
        out = [p.text if isinstance(p, Expression) else _tidy(p) for p in self.parts]
        if len(set(map(str, out))) == 1:
            # a lone text with blanks or commas would be split when read again
            return [out[0]] if isinstance(out[0], str) and re.search(r"[\s,]", out[0]) else out[0]
        return out


def _tidy(number: float) -> float | int:
    return int(number) if isinstance(number, int) or number == int(number) else number


@dataclass(frozen=True)
class Numbers:
    """The type of a `Value` field; use as `Annotated[Value, Numbers(3)]`.

    counts      allowed lengths; one number is copied to the shortest
    integer     whole numbers only (a formula's result is truncated)
    minimum, maximum   allowed range of each number (checked for constants at
                load time and for expressions when the plan is made)
    above       each number must be greater than this
    variables   what an expression here may use
    size        pixels given as `width height`; bound as `(height, width)`
    static      needed as a Python number (it decides about shapes): a change
                of it begins a new phase; `size` implies it
    """

    counts: tuple[int, ...] = (1,)
    integer: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    variables: frozenset[str] = RATE
    size: bool = False
    static: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(Value.plain)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number: dict[str, Any] = {"type": "integer" if self.integer else "number"}
        if self.minimum is not None:
            number["minimum"] = self.minimum
        if self.maximum is not None:
            number["maximum"] = self.maximum
        if self.above is not None:
            number["exclusiveMinimum"] = self.above
        one = [number, {"type": "string", "description": "an expression"}]
        if self.counts == (1,):
            return {"anyOf": one}
        items = {
            "type": "array",
            "items": {"anyOf": one},
            "minItems": 1,
            "maxItems": max(self.counts),
        }
        return {"anyOf": [*one, items]}

    def read(self, raw: object) -> Value:
        """The typed value of what stands in the YAML; raises a pydantic error."""
        if isinstance(raw, Value):
            return raw
        if isinstance(raw, str):
            entries: Sequence[object] = self._split(raw)
        elif isinstance(raw, list | tuple):
            entries = list(raw)
        else:
            entries = [raw]
        allowed = sorted({1, *self.counts})
        if len(entries) not in allowed:
            raise fault(f"{len(entries)} values found in {found(raw)}, {self.describe()} expected")
        parts = tuple(self._part(e) for e in entries)
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
            return pieces
        return [text]

    def _part(self, raw: object) -> float | Expression:
        if isinstance(raw, bool) or raw is None or not isinstance(raw, int | float | str):
            hint = " (YAML reads on, off, yes and no as true or false)" * isinstance(raw, bool)
            raise fault(f"{found(raw)} found, {self.describe()} expected{hint}")
        if not isinstance(raw, str):
            if self.integer and raw != int(raw if math.isfinite(raw) else 0):
                raise fault(f"{found(raw)} found, {self.describe()} expected")
            self.check(raw, found(raw))
            return int(raw) if self.integer else raw
        try:
            expression = parse(raw.strip(), self.variables)
            if expression.names or expression.random:
                return expression
            result = expression.evaluate({})
        except ExpressionError as e:
            raise fault(f"{found(raw)}: {e} (at character {e.offset + 1})") from None
        if isinstance(result, list | tuple):
            return expression
        self.check(result, found(raw))
        return int(result) if self.integer else result

    def check(self, number: float, quoted: str) -> None:
        """Raises a pydantic error if `number` is out of range."""
        low, high, above = self.minimum, self.maximum, self.above
        if (
            not math.isfinite(number)
            or (low is not None and number < low)
            or (high is not None and number > high)
            or (above is not None and number <= above)
        ):
            raise fault(f"{quoted} found, {self.describe()} expected")

    def describe(self) -> str:
        """What is allowed, in words: `1 or 2 whole numbers of at least 1`."""
        noun = "whole number" if self.integer else "number"
        if self.counts == (1,):
            text = f"a {noun}"
        else:
            text = " or ".join(map(str, sorted({1, *self.counts}))) + f" {noun}s"
        if self.minimum is not None and self.maximum is not None:
            text += f" from {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            text += f" of at least {self.minimum:g}"
        elif self.above is not None:
            text += f" greater than {self.above:g}"
        elif self.maximum is not None:
            text += f" of at most {self.maximum:g}"
        return text


def split_outside_brackets(text: str) -> list[str]:
    """Split at commas if there are any outside brackets, otherwise at blanks."""
    depth, flat = 0, []
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        flat.append(character if depth == 0 or character not in ", \t" else "_")
    mask = "".join(flat)
    pattern = r"\s*,\s*" if "," in mask else r"\s+"
    pieces, last = [], 0
    start = len(mask) - len(mask.lstrip())
    end = len(mask.rstrip())
    last = start
    for match in re.finditer(pattern, mask[:end]):
        if match.start() >= start and match.end() > match.start():
            pieces.append(text[last : match.start()])
            last = match.end()
    pieces.append(text[last:end])
    return [p for p in pieces if p]


@dataclass(frozen=True)
class FrameTime:
    """A moment of the run: an epoch (int), a fraction (float) or an expression."""

    at: int | float | Expression

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(cls.plain)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "number"}, {"type": "string"}],
            "description": "epoch (whole number), fraction (1.0 is the end), per cent or expression",
        }

    @classmethod
    def read(cls, raw: object) -> FrameTime:
        """Typed from YAML: `20`, `.5`, `'10%'`, `'1/2'`, `'epochs...'`; raises a pydantic error."""
        expected = "an epoch (20), a fraction (0.5) or a percentage ('50%') expected"
        if isinstance(raw, FrameTime):
            return raw
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise fault(f"{found(raw)} found, {expected}")
        if not isinstance(raw, str):
            if not math.isfinite(raw):
                raise fault(f"{found(raw)} found, {expected}")
            return cls(raw)
        text = raw.strip()
        percent = text.endswith("%")
        try:
            expression = parse(text[:-1].strip() if percent else text, RATE)
            if expression.names or expression.random:
                if percent:
                    raise fault(f"{found(raw)} found, {expected}")
                return cls(expression)
            number = expression.evaluate({})
        except ExpressionError as e:
            raise fault(f"{found(raw)}: {e}; {expected}") from None
        if isinstance(number, list | tuple):
            raise fault(f"{found(raw)} found, {expected}")
        return cls(number / 100 if percent else number)

    def plain(self) -> object:
        return self.at.text if isinstance(self.at, Expression) else self.at


FULL_START, FULL_END = FrameTime(0.0), FrameTime(1.0)


class Node(BaseModel):
    """A part of an experiment: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True,
        validate_default=True, use_attribute_docstrings=True,
    )


class Windowed(Node):
    """Anything that acts from `start` to `end`, both included."""

    start: FrameTime = FULL_START
    """first moment: epoch (whole number), fraction or '10%'"""
    end: FrameTime = FULL_END
    """last moment, included; `1` is epoch 1, `1.0` the end of the run"""


class Op(Node):
    """One entry of a table. Subclasses are final: abstract or complete, nothing between."""

    name: ClassVar[str]
    """the YAML key"""
    sole: ClassVar[str] = ""
    """the field meant by a bare value: `- mul: 1/2`, `- blur: 5`"""

    @model_validator(mode="before")
    @classmethod
    def _from_bare_value(cls, raw: object) -> object:
        if raw is None:
            return {}
        if isinstance(raw, dict) or isinstance(raw, BaseModel):
            return raw
        if not cls.sole:
            keys = ", ".join(cls.model_fields) or "nothing"
            raise fault(f"{found(raw)} found, a mapping with {keys} expected")
        return {cls.sole: raw}

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


Scalar = Annotated[Value, Numbers()]
Factor = Annotated[Value, Numbers(minimum=0)]
Color = Annotated[Value, Numbers((3,))]
Deviation = Annotated[Value, Numbers((3,), minimum=0)]
Pair = Annotated[Value, Numbers((2,))]
Span = Annotated[Value, Numbers((2, 4))]
Box = Annotated[Value, Numbers((4,), static=True)]
Size = Annotated[Value, Numbers((2,), integer=True, minimum=1, maximum=1 << 16, size=True)]
Margin = Annotated[Value, Numbers((2,), integer=True, minimum=0, maximum=1 << 14, size=True)]
Kernel = Annotated[Value, Numbers((2,), integer=True, minimum=0, maximum=1 << 12, size=True)]
Sigma = Annotated[Value, Numbers((2,), minimum=0)]
Weight = Annotated[Value, Numbers(variables=LIVE)]
LiveColor = Annotated[Value, Numbers((3,), variables=LIVE)]


def numbers_of(cls: type[BaseModel]) -> dict[str, Numbers]:
    """The `Numbers` of each `Value` field of a model, by field name."""
    return {
        name: mark
        for name, info in cls.model_fields.items()
        for mark in _marks(info.metadata, info.annotation)
    }


def _marks(metadata: Sequence[Any], annotation: Any) -> list[Numbers]:
    """`Numbers` in a field's metadata, also inside `Annotated[...] | None`."""
    inner = [m for arg in getattr(annotation, "__args__", ()) for m in
             getattr(arg, "__metadata__", ())]
    return [m for m in [*metadata, *inner] if isinstance(m, Numbers)][:1]


def constant(*numbers: float, integer: bool = False) -> Value:
    """A `Value` of given numbers, for defaults and for Python callers."""
    return Value(tuple(numbers), len(numbers), integer)
