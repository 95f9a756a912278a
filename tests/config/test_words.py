"""Articles: the general rule, and the article's 90 things."""

from __future__ import annotations

import pytest

from clipig.config.words import article, fix_articles, with_article

_AN = "accordion, apple, avocado, eggplant, eraser, orange"
_NONE = (
    "basil, burger, calamari, coldness, comfort, corkscrew, cursive letters, cymbals, "
    "fried chicken, fries, peace, polygons, rosemary, rubik’s cube, sardines, spiral, sushi, "
    "tarragon, tempura, tuba, violin, warmth"
)
_A = (
    "baguette, banana, beetroot, broom, burrito, cabbage, cake, carpet, carrot, chili, coconut, "
    "coral reef, croissant, cuckoo clock, cucumber, faucet, fossil, garlic, geiger counter, "
    "glacier, gourd, grater, harmonica, harp, hospital, kettle, lettuce, lotus root, "
    "lychee, mango, mangosteen, maple leaf, meatloaf, motorcycle, mushroom, parsnip, peach, piano, "
    "pickle, pie, pineapple, pizza, plate, potato chip, pretzel, raspberry, russian doll, salami, "
    "soda can, submarine, taco, tamale, tank, tissue, tissue box, toaster, tomato, turnip, waffle, "
    "watermelon, xylophone, loaf of bread"
)
PROMPTS = {
    **{t: f"an {t}" for t in _AN.split(", ")},
    **{t: t for t in _NONE.split(", ")},
    **{t: f"a {t}" for t in _A.split(", ")},
}
"""How the original's second sentence names each thing (notes on its script, 10.4)."""
PLAIN_MADE_OF = {"loaf of bread": "a loaf of bread"}
ODD = {"burger", "corkscrew", "rubik’s cube", "spiral", "tuba", "violin"}
"""Things that the original names without an article, though they are countable."""


@pytest.mark.parametrize(("thing", "named"), sorted(PROMPTS.items()))
def test_things(thing: str, named: str) -> None:
    assert with_article(thing) == (f"a {thing}" if thing in ODD else named)


@pytest.mark.parametrize(("word", "expected"), [
    ("avocado", "an"), ("harp", "a"), ("hour", "an"), ("honest man", "an"), ("unicorn", "a"),
    ("umbrella", "an"), ("European", "a"), ("one-way street", "a"), ("uninteresting box", "an"),
    ("Apple", "an"), ("x", "a"), ("ukulele", "a"), ("usual thing", "a"), ("heir", "an"), ("", "a"),
])
def test_sound(word: str, expected: str) -> None:
    assert article(word) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("a elephant made of a avocado.", "an elephant made of an avocado."),
    ("A elephant and an cat", "An elephant and a cat"),
    ("an cat with a hour", "a cat with an hour"),
    ("cat", "cat"), ("", ""), ("banana a", "banana a"),
])
def test_fix(text: str, expected: str) -> None:
    assert fix_articles(text) == expected


@pytest.mark.parametrize(("noun", "expected"), [
    ("a loaf", "a loaf"), ("the sea", "the sea"), ("glass", "a glass"), ("cactus", "a cactus"),
    ("cables", "cables"), ("canvas", "a canvas"), (" oil drum ", "an oil drum"),
])
def test_with_article(noun: str, expected: str) -> None:
    assert with_article(noun) == expected
