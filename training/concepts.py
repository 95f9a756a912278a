"""The table of concepts: what they are called and which icons show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipig.encoders.embedded.vocabulary import split_words

CONCEPTS_FILE = Path(__file__).with_name("concepts.txt")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (40, 160, 50),
    "blue": (40, 90, 220),
    "yellow": (250, 215, 40),
    "orange": (250, 140, 20),
    "purple": (135, 50, 180),
    "pink": (250, 130, 180),
    "brown": (125, 75, 35),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "cyan": (40, 200, 220),
    "gold": (215, 170, 55),
    "turquoise": (50, 190, 170),
}

TEMPLATE_WORDS = (
    "a an the of and photo picture drawing image painting illustration icon sketch face head "
    "made with texture next to on background in pattern many small big large close up plain "
    "gradient stripes checkerboard polka dots from covered colored shape shaped like "
    "grey violet dark light bright shiny style emoji cartoon some two three detail silhouette"
)


@dataclass(frozen=True)
class Concept:
    """One thing that can be drawn.

    names   the first is the usual one
    icons   (icon name, extra name or "") of every icon that shows it
    focus   one of the article's animals or things
    """

    names: tuple[str, ...]
    icons: tuple[tuple[str, str], ...]
    focus: bool = False

    @property
    def name(self) -> str:
        return self.names[0]


def read_concepts(path: Path = CONCEPTS_FILE) -> list[Concept]:
    """Parse the table; `concepts.txt` explains the notation."""
    concepts = []
    for line in path.read_text("utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        focus = line.startswith("*")
        left, _, right = line.lstrip("*").partition("=")
        names = tuple(name.strip() for name in left.split("/"))
        entries = right.split() or [names[0].replace(" ", "-")]
        icons = []
        for entry in entries:
            icon, _, extra = entry.partition("@")
            icons.append((icon, extra.replace("_", " ")))
        concepts.append(Concept(names, tuple(icons), focus))
    return concepts


def plural(name: str) -> str:
    """English plural of the last word; names that are plural already stay."""
    if name.endswith(("s", "fries", "rice", "corn", "chicken", "bread")) and not name.endswith(
        ("ss", "bus", "us")
    ):
        return name
    if name.endswith(("ch", "sh", "x", "ss", "us")) or name in ("mango", "potato", "tomato"):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def collect_words(concepts: list[Concept]) -> list[str]:
    """Every word that a caption can hold, sorted."""
    words = set(TEMPLATE_WORDS.split()) | set(COLORS)
    for concept in concepts:
        for name in (*concept.names, *(extra for _, extra in concept.icons)):
            words.update(split_words(name))
            words.update(split_words(plural(name)) if name else ())
    return sorted(words)
