"""Exceptions for faults outside of the program.

The command line catches them and shows one message with exit code 2. Any other
exception that escapes is a defect of clipig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ClipigError(Exception):
    """Base class of all faults that a user can fix."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault in a config: its position and a message.

    `line` and `column` count from 1; 0 means that the value comes from no file, but from
    the command line or from Python.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(ClipigError):
    """All faults found in a config, one or more, sorted by position."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(p) for p in self.problems))


class ExpressionError(ClipigError):
    """An expression that cannot be parsed or evaluated.

    `offset` is the index of the character in the text at which the fault begins.
    """

    def __init__(self, message: str, offset: int = 0):
        self.offset = offset
        super().__init__(message)


class InputError(ClipigError):
    """An input file that does not exist, is not a regular file, is too large or unreadable."""


class ImageError(ClipigError):
    """An image that cannot be read, fetched or written."""


class EncoderError(ClipigError):
    """An encoder that is unknown, missing or damaged, or lacks a required ability."""


class DeviceError(ClipigError):
    """A device that does not exist or has too little memory."""


class StateError(ClipigError):
    """A resume state that is damaged or belongs to another plan."""


class OutputError(ClipigError):
    """An output path that cannot be written, or a run folder that cannot be resumed."""


class UsageError(ClipigError):
    """Command-line arguments that are invalid or contradict each other."""
