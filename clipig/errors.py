"""What can go wrong through no fault of the program.

Every class here is caught in one place (the command line) and shown as one
message with exit code 2; anything else that escapes is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ClipigError(Exception):
    """Base of all faults a user can mend."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault in a config: where it stands and what is wrong with it.

    `line` and `column` count from 1; 0 means that the value stands in no file
    (it came from the command line or from Python).
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
    """One or more faults in a config, all of them at once, sorted by place."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(p) for p in self.problems))


class ExpressionError(ClipigError):
    """An expression that cannot be parsed or evaluated.

    `offset` is the index in the text of the character where the fault begins.
    """

    def __init__(self, message: str, offset: int = 0):
        self.offset = offset
        super().__init__(message)


class InputError(ClipigError):
    """A file from outside that does not exist, is none, is too large or cannot be read."""


class ImageError(ClipigError):
    """A picture that cannot be read, fetched or written."""


class EncoderError(ClipigError):
    """A model that is unknown, missing, damaged or cannot do what is asked."""


class DeviceError(ClipigError):
    """A device that is not there or lacks the memory."""


class StateError(ClipigError):
    """A resume state that is damaged or belongs to another plan."""


class OutputError(ClipigError):
    """A place that cannot be written, or a run folder that cannot be resumed."""


class UsageError(ClipigError):
    """Command-line arguments that do not fit together."""
