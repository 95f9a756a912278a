"""What leaves the program as text: streams that take any text, text without controls."""

from __future__ import annotations

import contextlib
import os
import re
import sys

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
    "|[\ud800-\udfff]"
)


def open_streams() -> None:
    """Make stdin, stdout and stderr usable whatever the caller has done with them.

    A closed one becomes the null device, so that no file of ours gets its number. What an
    encoding cannot hold is written as an escape: `\\U0001f427` on a Windows code page.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """A stranger's text for a terminal: escapes and marks of direction are shown, not sent.

    Args:
        text: From a file's metadata or name.

    Returns:
        The text with control characters (but newline and tab), marks that turn the direction
        of writing, and halves of surrogate pairs written as `\\x1b`.
    """
    return _CONTROLS.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)
