"""English articles: "a penguin", "an avocado"."""

from __future__ import annotations

import re

_AN = re.compile(r"\b([Aa])n?(\s+)(?=\w)(\w+)")
_SILENT_H = ("hour", "honest", "honor", "honour", "heir")
_LIKE_YOU = ("uni", "use", "usu", "eu", "ukulele", "one", "once", "ufo", "utensil", "uranium")
_UN_VOWEL = ("unin", "unim", "unid", "unill")


def article(word: str) -> str:
    """`a` or `an`, by the sound that a word most likely begins with."""
    low = word.lower()
    if low.startswith(_SILENT_H):
        return "an"
    if low.startswith(_LIKE_YOU) and not low.startswith(_UN_VOWEL):
        return "a"
    return "an" if low.startswith(("a", "e", "i", "o", "u")) else "a"


def fix_articles(text: str) -> str:
    """The text with every `a` and `an` before a word made right."""

    def right(match: re.Match[str]) -> str:
        fitting = article(match[3])
        first = fitting[0].upper() if match[1] == "A" else fitting[0]
        return first + fitting[1:] + match[2] + match[3]

    return _AN.sub(right, text)


UNCOUNTED = frozenset((
    "basil", "calamari", "coldness", "comfort", "fried chicken", "peace", "rosemary", "sushi",
    "tarragon", "tempura", "warmth",
))
"""Nouns without an article: those of the article's 90 things that are no plurals."""

_SINGULAR = frozenset(("bus", "canvas", "gas", "lens", "christmas"))


def with_article(noun: str) -> str:
    """`a harp`, `an avocado`, `sardines`, `basil`.

    A noun that has an article keeps it; plurals and `UNCOUNTED` nouns get none.
    """
    low = noun.strip().lower()
    if re.match(r"(an?|the|some)\s", low) or low in UNCOUNTED or _plural(low):
        return noun.strip()
    return f"{article(noun.strip())} {noun.strip()}"


def _plural(low: str) -> bool:
    last = low.split()[-1] if low.split() else ""
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR
