"""How faults of the user are worded: what was found, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def nearest(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'blur'?"` for the closest of `choices`, or nothing."""
    match = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f"; did you mean {match[0]!r}?" if match else ""


def fault(message: str) -> PydanticCustomError:
    """A validation error whose text is shown to the user as it is."""
    return PydanticCustomError("clipig", "{message}", {"message": message})


def found(raw: object) -> str:
    """How a value that does not fit is quoted in a message."""
    if raw is None:
        return "nothing"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, dict | list | tuple):
        kind = "a mapping" if isinstance(raw, dict) else "a list"
        return f"{kind}, {_cut(repr(raw))}" if raw else f"an empty {kind[2:]}"
    return _cut(repr(raw))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def at(key: tuple[str | int, ...], message: str) -> ValidationError:
    """A fault at a key below the one that is being read."""
    detail = InitErrorDetails(type=fault(message), loc=key, input=None)
    return ValidationError.from_exception_data("config", [detail])


def wrong(raw: object, expected: str, hint: str = "") -> PydanticCustomError:
    """The common form of a fault: what was found and what is allowed."""
    if isinstance(raw, bool) and not hint:
        hint = " (YAML reads on, off, yes and no as true or false)"
    return fault(f"found {found(raw)}, expected {expected}{hint}")
