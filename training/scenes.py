"""Draws what training pictures show, and says it in words. No pixels here."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from training.concepts import COLORS, plural
from training.sources import HELD_OUT, Bank

COLOR_NAMES = tuple(COLORS)
ANIMALS = 9  # the first concepts with a star in concepts.txt
SINGLE_CAPTIONS = (
    *["a {a}"] * 6,
    *["{a}"] * 3,
    "a photo of a {a}",
    "a picture of a {a}",
    "a drawing of a {a}",
    "an image of a {a}",
    "a painting of a {a}",
    "an illustration of a {a}",
    "the {a}",
    "an icon of a {a}",
)
CLOSE_CAPTIONS = ("a close up of a {a}", "{a} close up", "detail of a {a}")
MADE_CAPTIONS = (
    *["a {a} made of {b}"] * 8,
    *["{a} made of {b}"] * 2,
    "a {a} made from {b}",
    "a {a} with the texture of {b}",
    "a {a} with the texture of a {b}",
    "a photo of a {a} made of {b}",
    "a {b} {a}",
    "a {a} covered with {b}",
    "a {a} made of a {b}",
    "a {a} made of {b}. a {a} with the texture of {b}",
    "a {a} made of {b}. a {a} with the texture of a {b}",
)
BOTH_CAPTIONS = (
    *["a {a} and a {b}"] * 3,
    "{a} and {b}",
    "a {a} next to a {b}",
    "a photo of a {a} and a {b}",
)
TILE_CAPTIONS = (
    *["many {bs}", "{b} texture"] * 3,
    "many {b}",
    "a pattern of {bs}",
    "{b} pattern",
    "a texture of {b}",
)
TINT_CAPTIONS = (
    *["a {c} {a}"] * 3,
    "{c} {a}",
    "a photo of a {c} {a}",
    "a drawing of a {c} {a}",
)


class Kind(IntEnum):
    SINGLE = 0  # A on a background
    MADE = 1  # A made of B
    TINT = 2  # A in one colour
    BOTH = 3  # A and B
    TILES = 4  # many B
    COLOR = 5  # stripes, checks, dots or one colour; `a` is which, `color` and `b` the colours


@dataclass(frozen=True)
class Scene:
    """One training picture in words. `color` -1: not told. `first`, `second`: drawings."""

    kind: Kind
    a: int
    b: int
    color: int
    caption: str
    first: int = 0
    second: int = 0
    zoom: bool = False


def held_out(a: int, b: int) -> bool:
    """Whether the pair is kept out of training: 5 % of all ordered pairs."""
    return (a * 7919 + b * 104729) % 20 == 0


def mend_articles(text: str) -> str:
    """`a apple` becomes `an apple`."""
    return re.sub(r"\ba ([aeiou])", r"an \1", text)


class SceneDrawer:
    """Draws scenes at random: the same seed gives the same scenes.

    style_weights   how often each drawing style is taken, default 1
    held_out_style  take the drawings of this style, which training never sees
    """

    def __init__(
        self,
        bank: Bank,
        seed: int,
        style_weights: dict[str, float] | None = None,
        held_out_style: str | None = None,
    ):
        self.rng = random.Random(seed)
        self.concepts = bank.concepts
        self.extra = bank.extra
        self.drawings: list[list[int]] = [[] for _ in bank.concepts]
        self.weights: list[list[float]] = [[] for _ in bank.concepts]
        weights = style_weights or {}
        for i, (concept, style) in enumerate(zip(bank.concept.tolist(), bank.style, strict=True)):
            weight = weights.get(style, 1.0)
            wanted = style == held_out_style if held_out_style else style not in HELD_OUT
            if wanted and weight > 0:
                self.drawings[concept].append(i)
                self.weights[concept].append(weight)
        self.drawable = [i for i, drawings in enumerate(self.drawings) if drawings]
        self._frequency = [2.5 if bank.concepts[i].focus else 1.0 for i in self.drawable]
        focus = [i for i, concept in enumerate(bank.concepts) if concept.focus]
        self.animals = [i for i in focus[:ANIMALS] if self.drawings[i]]
        self.things = [i for i in focus[ANIMALS:] if self.drawings[i]]

    def draw(self, count: int) -> list[Scene]:
        """`count` scenes for training, many of them next to their hard negatives."""
        scenes: list[Scene] = []
        while len(scenes) < count:
            chance = self.rng.random()
            if chance < 0.34:
                scenes += self._made_with_negatives()
            elif chance < 0.70:
                scenes.append(self._single(self._concept()))
            elif chance < 0.82:
                scenes.append(self._tint())
            elif chance < 0.95:
                scenes.append(self._tiles(self._concept()))
            else:
                scenes.append(self._color())
        return scenes[:count]

    def draw_test(self, count: int) -> list[Scene]:
        """`count` held-out pairs (all, if there are fewer), "a A made of B", each once."""
        drawable = self.drawable
        pairs = [(a, b) for a in drawable for b in drawable if a != b and held_out(a, b)]
        chosen = self.rng.sample(pairs, min(count, len(pairs)))
        names = [concept.name for concept in self.concepts]
        return [
            self._scene(Kind.MADE, a, b, 0, f"a {names[a]} made of {names[b]}") for a, b in chosen
        ]

    def draw_nouns(self, count: int) -> list[Scene]:
        """The first `count` concepts that can be drawn, each once, "a A"."""
        return [
            self._scene(Kind.SINGLE, a, a, -1, f"a {self.concepts[a].name}")
            for a in self.drawable[:count]
        ]

    def _scene(self, kind: Kind, a: int, b: int, color: int, text: str) -> Scene:
        first, second = self._drawing(a), self._drawing(b)
        return Scene(kind, a, b, color, mend_articles(text), first, second)

    def _made_with_negatives(self) -> list[Scene]:
        rng = self.rng
        if rng.random() < 0.3 and self.animals and self.things:
            a, b = rng.choice(self.animals), rng.choice(self.things)
        else:
            a, b = self._concept(), self._concept()
        if a == b or held_out(a, b) or held_out(b, a):
            return []
        scenes = [self._made(a, b)]
        if rng.random() < 0.45:
            scenes.append(self._made(b, a))
        if rng.random() < 0.25:
            c = self._concept()
            pair = (a, c) if rng.random() < 0.5 else (c, b)
            if c not in (a, b) and not held_out(*pair):
                scenes.append(self._made(*pair))
        if rng.random() < 0.2:
            pair = (a, b) if rng.random() < 0.5 else (b, a)
            text = rng.choice(BOTH_CAPTIONS).format(a=self._name(pair[0]), b=self._name(pair[1]))
            scenes.append(self._scene(Kind.BOTH, *pair, 0, text))
        if rng.random() < 0.15:
            scenes.append(self._single(a))
        if rng.random() < 0.1:
            scenes.append(self._tiles(b))
        return scenes

    def _made(self, a: int, b: int) -> Scene:
        first, second = self._drawing(a), self._drawing(b)
        of = self._name(b, second)
        if self.rng.random() < 0.35:
            of = plural(of)
        text = self.rng.choice(MADE_CAPTIONS).format(a=self._name(a, first), b=of)
        return Scene(Kind.MADE, a, b, 0, mend_articles(text), first, second)

    def _single(self, a: int) -> Scene:
        first = self._drawing(a)
        color, zoom = -1, False
        text = self.rng.choice(SINGLE_CAPTIONS).format(a=self._name(a, first))
        chance = self.rng.random()
        if chance < 0.18:
            color = self.rng.randrange(len(COLOR_NAMES))
            text += f" on a {COLOR_NAMES[color]} background"
        elif chance < 0.30:
            zoom = True
            if self.rng.random() < 0.7:
                text = self.rng.choice(CLOSE_CAPTIONS).format(a=self._name(a, first))
        return Scene(Kind.SINGLE, a, a, color, mend_articles(text), first, first, zoom)

    def _tint(self) -> Scene:
        a, color = self._concept(), self.rng.randrange(len(COLOR_NAMES))
        name = self._name(a)
        if self.rng.random() < 0.25:
            text = self.rng.choice(SINGLE_CAPTIONS).format(a=name)
            return self._scene(Kind.TINT, a, a, -1, text)
        text = self.rng.choice(TINT_CAPTIONS).format(a=name, c=COLOR_NAMES[color])
        return self._scene(Kind.TINT, a, a, color, text)

    def _tiles(self, b: int) -> Scene:
        drawing = self._drawing(b)
        name = self._name(b, drawing)
        text = self.rng.choice(TILE_CAPTIONS).format(b=name, bs=plural(name))
        return Scene(Kind.TILES, b, b, 0, mend_articles(text), drawing, drawing)

    def _color(self) -> Scene:
        c, d = self.rng.sample(range(len(COLOR_NAMES)), 2)
        one, two = COLOR_NAMES[c], COLOR_NAMES[d]
        texts = (
            f"plain {one} background",
            f"{one} and {two} stripes",
            f"a {one} and {two} checkerboard",
            f"{one} polka dots on a {two} background",
            one,
        )
        which = self.rng.randrange(len(texts))
        return Scene(Kind.COLOR, which, d, c, mend_articles(texts[which]))

    def _concept(self) -> int:
        return self.rng.choices(self.drawable, self._frequency)[0]

    def _drawing(self, concept: int) -> int:
        return self.rng.choices(self.drawings[concept], self.weights[concept])[0]

    def _name(self, concept: int, drawing: int | None = None) -> str:
        if drawing is not None and self.extra[drawing] and self.rng.random() < 0.4:
            return self.extra[drawing]
        names = self.concepts[concept].names
        if len(names) > 1 and self.rng.random() < 0.35:
            return self.rng.choice(names[1:])
        return names[0]


def also_true(scenes: Sequence[Scene]) -> Tensor:
    """`[N, N]` bool: caption j is true of picture i although it is not its own."""
    kind, a, b, color = (
        torch.tensor([getattr(scene, key) for scene in scenes])
        for key in ("kind", "a", "b", "color")
    )
    zoom = torch.tensor([scene.zoom for scene in scenes])
    caption_number = {text: i for i, text in enumerate({s.caption for s in scenes})}
    text = torch.tensor([caption_number[scene.caption] for scene in scenes])
    row, column = (slice(None), None), (None, slice(None))
    told = (color[column] == color[row]) | (color[column] == -1)
    same = (kind[row] == kind[column]) & (a[row] == a[column]) & (b[row] == b[column]) & told
    same &= zoom[row] | ~zoom[column]
    same |= text[row] == text[column]
    objects = kind != Kind.COLOR
    plain = ((kind == Kind.SINGLE) | (kind == Kind.TINT)) & (color == -1) & ~zoom
    shows = (a[row] == a[column]) & (kind[row] != Kind.TILES)
    shows |= (kind[row] == Kind.BOTH) & (b[row] == a[column])
    same |= objects[row] & plain[column] & shows
    tiles = (kind[row] == Kind.MADE) & (kind[column] == Kind.TILES) & (b[row] == b[column])
    return (same | tiles) & ~torch.eye(len(scenes), dtype=torch.bool)
