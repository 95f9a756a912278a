"""Text that enters: made valid Unicode, or refused, in one place."""

from __future__ import annotations

import re

from clipig.errors import InputError

_LONE = re.compile(r"[\ud800-\udfff]")


def valid_text(text: str, what: str = "the text") -> str:
    """Return a text that UTF-8 can hold.

    Args:
        text: What came from YAML, JSON, the command line, a list, a file name or metadata.
            The two halves of a surrogate pair, as `json.dumps` writes them, become one character.
        what: What the text is called in the message: `--text`.

    Returns:
        The text with its pairs joined.

    Raises:
        InputError: One half stands alone, or a byte of the command line is not UTF-8.
    """
    if text.isascii() or not _LONE.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if match := _LONE.search(joined):
        raise InputError(f"{what}: found {_spelled(match[0])} at character {match.start() + 1}")
    return joined


def _spelled(half: str) -> str:
    code = ord(half)
    if 0xDC80 <= code <= 0xDCFF:  # how Python passes on a byte that it cannot decode
        return f"the byte 0x{code - 0xDC00:02x}, expected UTF-8"
    return f"half of a character, \\u{code:04x}, expected both halves"
