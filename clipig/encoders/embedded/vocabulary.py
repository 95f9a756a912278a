"""From text to the two tables of numbers that the text tower reads."""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = re.compile(r"[a-z0-9]+")


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers: "Rubik's cube" gives rubiks, cube."""
    text = text.lower().replace("’", "").replace("'", "").replace("ñ", "n")
    return _WORD.findall(text)


class Vocabulary:
    """Known words, and hashed letter groups by which unknown words get a guess.

    words     known words in the order of the word table; 0 is padding, 1 unknown
    buckets   number of hash values for letter groups; 0 is padding
    groups    letter groups kept per word
    context   greatest number of words in a text
    """

    def __init__(self, words: Sequence[str], buckets: int, groups: int, context: int):
        self.words = tuple(words)
        self.buckets, self.groups, self.context = buckets, groups, context
        self._index = {word: i + 2 for i, word in enumerate(self.words)}
        self._rows: dict[str, tuple[int, list[int]]] = {}

    def __contains__(self, word: str) -> bool:
        return word in self._index

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Words `[P, context]` and letter groups `[P, context, groups]`, int64.

        Words beyond the context are cut; the caller checks the length first.
        """
        empty = (0, [0] * self.groups)
        rows = []
        for text in texts:
            row = [self._row(word) for word in split_words(text)[: self.context]]
            rows.append(row + [empty] * (self.context - len(row)))
        words = torch.tensor([[word for word, _ in row] for row in rows])
        letters = torch.tensor([[groups for _, groups in row] for row in rows])
        return words, letters

    def unknown(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Words of the texts that are not known, each with up to three similar known ones."""
        missing = dict.fromkeys(
            word for text in texts for word in split_words(text) if word not in self._index
        )
        return {
            word: difflib.get_close_matches(word, self.words, n=3, cutoff=0.6) for word in missing
        }

    def _row(self, word: str) -> tuple[int, list[int]]:
        row = self._rows.get(word)
        if row is None:
            marked = f"<{word}>"
            hashes = [
                zlib.crc32(marked[i : i + n].encode()) % self.buckets + 1
                for n in (3, 4)
                for i in range(max(1, len(marked) - n + 1))
            ][: self.groups]
            row = (self._index.get(word, 1), hashes + [0] * (self.groups - len(hashes)))
            self._rows[word] = row
        return row
