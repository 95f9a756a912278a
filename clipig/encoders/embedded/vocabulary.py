"""From text to the two tables of numbers that the text tower reads."""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers: "Rubik's cube" gives rubiks, cube."""
    text = re.sub("['’]", "", text.lower()).replace("ñ", "n")
    return re.findall(r"[a-z0-9]+", text)


class Vocabulary:
    """Known words, and hashed letter groups by which unknown words get a guess.

    In both tables 0 is padding; row 1 of the word table stands for unknown words.
    """

    def __init__(self, words: Sequence[str], buckets: int, groups: int, context: int):
        self.words = tuple(words)
        self.buckets, self.groups, self.context = buckets, groups, context
        self._index = {word: i + 2 for i, word in enumerate(self.words)}
        self._rows: dict[str, tuple[int, list[int]]] = {"": (0, [0] * groups)}

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Words `[P, context]` and letter groups `[P, context, groups]`, int64; longer is cut."""
        padded = [(split_words(text) + [""] * self.context)[: self.context] for text in texts]
        rows = [[self._row(word) for word in words] for words in padded]
        words = torch.tensor([[word for word, _ in row] for row in rows])
        return words, torch.tensor([[groups for _, groups in row] for row in rows])

    def unknown(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Words of the texts that are not known, each with up to three similar known ones."""
        words = dict.fromkeys(word for text in texts for word in split_words(text))
        missing = [word for word in words if word not in self._index]
        return {word: difflib.get_close_matches(word, self.words, 3) for word in missing}

    def _row(self, word: str) -> tuple[int, list[int]]:
        if word not in self._rows:
            marked = f"<{word}>"
            parts = [marked[i : i + n] for n in (3, 4) for i in range(max(1, len(marked) - n + 1))]
            hashes = [zlib.crc32(part.encode()) % self.buckets + 1 for part in parts[: self.groups]]
            padding = [0] * (self.groups - len(hashes))
            self._rows[word] = (self._index.get(word, 1), hashes + padding)
        return self._rows[word]
