"""Files on disk: names, and the only place that creates, locks or replaces a file."""

from __future__ import annotations

import re

LONGEST_NAME = 80


def slug(text: str) -> str:
    """A file name made of a text: letters, digits, `-` and `_`, at most 80."""
    return re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-")[:LONGEST_NAME] or "picture"
