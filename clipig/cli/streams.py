"""Makes output safe: streams that accept any text, and text without control characters."""

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
    """Make stdin, stdout and stderr usable in whatever state the caller left them.

    A closed stream becomes the null device, so that no output file gets its descriptor.
    Unencodable characters are escaped: `\\U0001f427` on a Windows code page.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Escape a foreign text for a terminal.

    Args:
        text: Text from a file's metadata or name.

    Returns:
        The text with control characters (except newline and tab), marks that change the
        writing direction, and lone surrogates written as `\\x1b`.
    """
    return _CONTROLS.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)
