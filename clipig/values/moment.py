"""Moments of a run: `20`, `0.5`, `10%` or a formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from clipig.errors import ExpressionError
from clipig.values.expressions import Expression, parse
from clipig.values.faults import fault, found, wrong
from clipig.values.numbers import RATE


@dataclass(frozen=True, eq=False)
class Moment:
    """A moment of the run: an epoch (int), a fraction (float) or an expression."""

    at: int | float | Expression

    def __eq__(self, other: object) -> bool:
        """Epoch 1 and fraction 1.0 are different moments."""
        if not isinstance(other, Moment):
            return NotImplemented
        return type(self.at) is type(other.at) and self.at == other.at

    def __hash__(self) -> int:
        return hash((type(self.at), self.at))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(cls.plain)
        )

    EXPECTED: ClassVar[str] = (
        "an epoch (20), a fraction (0.5), a percentage ('50%') or an expression"
    )

    @classmethod
    def read(cls, raw: object) -> Moment:
        """Typed from `20`, `.5`, `'10%'`, `'1/2'`, `'t'`; raises a pydantic error."""
        if isinstance(raw, Moment):
            return raw
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise wrong(raw, cls.EXPECTED)
        if not isinstance(raw, str):
            return cls(cls._checked(raw, raw))
        text = raw.strip()
        percent = text.endswith("%")
        try:
            expression = parse(text[:-1].strip() if percent else text, RATE)
            if not percent and (expression.names or expression.random):
                return cls(expression)
            number = expression.evaluate({})
        except ExpressionError as e:
            raise fault(f"found {found(raw)}, expected {cls.EXPECTED}: {e}") from None
        if isinstance(number, list | tuple | bool):
            raise wrong(raw, cls.EXPECTED)
        return cls(cls._checked(number / 100 if percent else number, raw))

    @classmethod
    def _checked(cls, number: int | float, raw: object) -> int | float:
        if not math.isfinite(number) or number < 0:
            raise wrong(raw, cls.EXPECTED)
        return number

    def plain(self) -> object:
        """As it would stand in a config."""
        return self.at.text if isinstance(self.at, Expression) else self.at
