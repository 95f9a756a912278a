"""Makes pictures with a model, has the judge name them, and lays them out on sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from clipig.config.load import Text, read
from clipig.encoders.embedded import EmbeddedEncoder
from clipig.session import Session, collect
from training.concepts import read_concepts
from training.scenes import ANIMALS, mend_articles

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Prompt:
    """What a picture shall show: `animal` alone, or made of `thing`."""

    animal: str
    thing: str = ""

    @property
    def caption(self) -> str:
        made = f" made of {self.thing}" if self.thing else ""
        return mend_articles(f"a {self.animal}{made}")


# file in configs/ and the texts in it that give way to the prompt
RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "method 1": (
        "method_1.yaml",
        ("a cat made of salami. a cat with the texture of a salami.", "a cat made of salami"),
    ),
    "method 2": ("method_2.yaml", ("a cat made of salami.", "a cat made of salami")),
    "pyramid": ("pyramid.yaml", ("a strawberry",)),
    "layers": ("penguin_piano.yaml", ()),
}


def make_pictures(
    recipe: str,
    prompts: Sequence[Prompt],
    model: str = "embedded",
    seed: int = 0,
    group: int = 10,
    overrides: Sequence[str] = (),
) -> Tensor:
    """`[P, 3, H, W]` in [0, 1], one picture per prompt, first try."""
    session = Session(model=model, device="cpu", group=group)
    experiments = []
    for prompt in prompts:
        file, replaced = RECIPES[recipe]
        text = (CONFIGS / file).read_text("utf-8")
        for old in replaced:
            text = text.replace(old, prompt.caption)
        extra = [f"seed={seed}", *overrides]
        if not replaced:
            extra.append(f"let={{animal: {prompt.animal}, thing: {prompt.thing}}}")
        experiments += session.settle(read(Text(text, recipe), overrides=extra).experiment)
    return collect(session.render(experiments), len(experiments)).images


def judge_ranks(
    judge: EmbeddedEncoder, pictures: Tensor, prompts: Sequence[Prompt], candidates: list[str]
) -> list[int]:
    """Place of each picture's own caption among the candidates, 1 is best."""
    size = judge.info.size
    small = F.interpolate(pictures, size=(size, size), mode="bicubic", antialias=True)
    with torch.no_grad():
        found = judge.encode_image(small.clamp(0, 1))
    texts = judge.encode_text(candidates)
    ranks = []
    for picture, prompt in zip(found, prompts, strict=True):
        scores = texts @ picture
        ranks.append(1 + int((scores > scores[candidates.index(prompt.caption)]).sum()))
    return ranks


def noun_captions(count: int = 400) -> list[str]:
    """`a X` for the article's animals and things and the first other concepts."""
    concepts = sorted(read_concepts(), key=lambda concept: not concept.focus)
    return [mend_articles(f"a {concept.name}") for concept in concepts[:count]]


def article_prompts() -> tuple[list[str], list[str]]:
    """The article's animals and things."""
    focus = [concept.name for concept in read_concepts() if concept.focus]
    return focus[:ANIMALS], focus[ANIMALS:]


def pair_captions() -> list[str]:
    """The 810 captions `a A made of B` of the article's grid."""
    animals, things = article_prompts()
    return [Prompt(animal, thing).caption for animal in animals for thing in things]


def save_sheet(
    path: Path, pictures: Tensor, labels: Sequence[str], columns: int, side: int = 128
) -> None:
    """Pictures with their labels underneath, as JPEG or PNG."""
    rows = -(-len(pictures) // columns)
    height = side + 14
    sheet = Image.new("RGB", (columns * (side + 2), rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    small = F.interpolate(pictures, size=(side, side), mode="bicubic", antialias=True)
    for i, (picture, label) in enumerate(zip(small.clamp(0, 1), labels, strict=True)):
        x, y = i % columns * (side + 2), i // columns * height
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels), (x, y))
        draw.text((x + 2, y + side + 1), label[: side // 5], fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)
