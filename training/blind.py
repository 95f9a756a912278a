"""Blind naming: can someone who does not know the prompts say what a picture shows?

    python -m training.blind pictures --recipe pyramid --out training/runs/blind/pyramid.pt
    python -m training.blind sheets training/runs/blind/*.pt --out training/runs/blind --seed 7
    python -m training.blind score answers-a.txt --key training/runs/blind/key.json

`pictures` makes the 60 pictures of the protocol: 20 nouns, half of them hard (faces, legs,
thin parts), and 40 times "a A made of B". `sheets` shuffles each file's pictures by itself
and lays them out without names, as sheets a, b ... in an order that is shuffled too: what
was shown first or from which file a sheet comes cannot be seen. Nobody should see two
sheets of the same prompts. `key.json` tells which is which: keep it away from who answers.
The answers are one line a picture, numbers as on the sheet, nothing after the colon if
there is no guess:

    17: penguin / duck / piano

first guess, second guess, what it is made of. A missing line counts as wrong. A share is
given with its 95 % interval (Wilson).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from training.concepts import plural, read_concepts
from training.pictures import RECIPES, Prompt, article_prompts, make_pictures

EASY = (
    *("strawberry", "banana", "heart", "house", "umbrella"),
    *("mushroom", "pizza", "rocket", "cactus", "carrot"),
)
HARD = (
    *("horse", "monkey", "giraffe", "lion", "spider"),
    *("bicycle", "scissors", "chair", "owl", "guitar"),
)
THINGS = (
    *("piano", "pizza", "watermelon", "sushi", "carrot", "pineapple", "maple leaf"),
    *("rubiks cube", "broccoli", "strawberry", "waffle", "burger", "corn", "banana"),
)
PAIRS = 40
PAIR_SEED = 40
COLUMNS = 6
SIDE = 192


@dataclass(frozen=True)
class Shown:
    """One picture of a sheet: its number there and what it should show."""

    number: int
    animal: str
    thing: str = ""


@dataclass(frozen=True)
class Answer:
    """What somebody saw."""

    first: str = ""
    second: str = ""
    material: str = ""


def protocol_prompts() -> list[Prompt]:
    """The 60 prompts, always the same: 20 nouns, then 40 pairs that are drawn once for all."""
    animals, _ = article_prompts()
    every = [Prompt(animal, thing) for animal in animals for thing in THINGS]
    return [
        *(Prompt(noun) for noun in (*EASY, *HARD)),
        *random.Random(PAIR_SEED).sample(every, PAIRS),
    ]


def shuffle_files(count: int, seed: int) -> list[tuple[int, str]]:
    """Which file becomes sheet a, b ...: (index of the file, letter)."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return [(index, "abcdefghijklmnopqrstuvwxyz"[place]) for place, index in enumerate(order)]


def shuffle_pictures(count: int, seed: int, sheet: str) -> list[int]:
    """The order of a sheet's pictures, another one for every sheet."""
    order = list(range(count))
    random.Random(f"{seed} {sheet}").shuffle(order)
    return order


def split_caption(caption: str) -> tuple[str, str]:
    """(animal, thing) of "a A made of B", thing "" of "a A"."""
    animal, _, thing = re.sub(r"^an? ", "", caption).partition(" made of ")
    return animal, thing


def lay_out(pictures: Tensor) -> Image.Image:
    """`[N, 3, H, W]` in [0, 1] to one sheet; every picture has its number, nothing else."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + 6), rows * (SIDE + 20)), "white")
    draw = ImageDraw.Draw(sheet)
    small = torch.nn.functional.interpolate(
        pictures.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True
    )
    for i, picture in enumerate(small.clamp(0, 1)):
        x, y = i % COLUMNS * (SIDE + 6), i // COLUMNS * (SIDE + 20)
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels), (x + 3, y + 3))
        draw.text((x + 4, y + SIDE + 5), str(i + 1), fill="black")
    return sheet


def make_sheets(files: Sequence[Path], out: Path, seed: int) -> None:
    """Write `sheet-a.png` ..., `answers-a.txt` ... to fill in, and `key.json`."""
    if len(files) > 26:
        raise SystemExit(f"at most 26 files, not {len(files)}")
    kept = [torch.load(path, weights_only=True) for path in files]
    out.mkdir(parents=True, exist_ok=True)
    targets = [out / "key.json"]
    letters = shuffle_files(len(files), seed)
    targets += [out / f"sheet-{letter}.png" for _, letter in letters]
    targets += [out / f"answers-{letter}.txt" for _, letter in letters]
    for target in targets:
        if target.exists():
            raise SystemExit(f"{target} exists: choose another folder")
    key = {}
    for index, letter in letters:
        captions, pictures = kept[index]["captions"], kept[index]["pictures"]
        order = shuffle_pictures(len(captions), seed, letter)
        lay_out(pictures[order]).save(out / f"sheet-{letter}.png")
        shown = [Shown(i + 1, *split_caption(captions[k])) for i, k in enumerate(order)]
        key[letter] = {"file": files[index].name, "pictures": [asdict(s) for s in shown]}
        (out / f"answers-{letter}.txt").write_text(
            f"# sheet {letter}; first guess / second guess / made of\n"
            + "".join(f"{s.number}:\n" for s in shown),
            "utf-8",
        )
    (out / "key.json").write_text(json.dumps({"seed": seed, "sheets": key}, indent=1), "utf-8")


def read_answers(text: str, place: str) -> tuple[str, dict[int, Answer]]:
    """(sheet, answers by number) of an answers file."""
    found: dict[int, Answer] = {}
    sheet = ""
    for line_number, line in enumerate(text.splitlines(), 1):
        where = f"{place}:{line_number}"
        named = re.match(r"#\s*sheet ([a-z])\b", line)
        if named:
            sheet = named[1]
        if not line.strip() or line.startswith("#"):
            continue
        number, colon, rest = line.partition(":")
        if not colon or not number.strip().isdigit():
            raise SystemExit(f"{where}: expected `NUMBER: first / second / made of`: {line!r}")
        parts = [part.strip() for part in rest.split("/")]
        if len(parts) > 3:
            raise SystemExit(f"{where}: expected at most three parts, found {len(parts)}")
        if int(number) in found:
            raise SystemExit(f"{where}: picture {int(number)} is answered twice")
        found[int(number)] = Answer(*parts)
    if not sheet:
        raise SystemExit(f"{place}: expected a line `# sheet LETTER`")
    return sheet, found


def synonyms() -> dict[str, str]:
    """Every name and plural to its concept's usual name."""
    table: dict[str, str] = {}
    concepts = read_concepts()
    for concept in concepts:
        for name in concept.names:
            table[name] = concept.name
    for concept in concepts:
        for name in concept.names:
            table.setdefault(plural(name), concept.name)
    return table


def same(answer: str, wanted: str, table: dict[str, str]) -> bool:
    """Whether an answer names what was wanted, in other words or the plural perhaps."""
    plain = re.sub(r"^(an?|the) ", "", re.sub(r"[^a-z ]", "", answer.lower()).strip())
    return bool(plain) and table.get(plain, plain) == table.get(wanted, wanted)


def score(shown: Sequence[Shown], answers: dict[int, Answer]) -> dict[str, list[bool]]:
    """Right or wrong per picture, by question.

    Raises:
        SystemExit: An answer is to a picture that the sheet does not have.
    """
    numbers = {picture.number for picture in shown}
    if strange := sorted(set(answers) - numbers):
        raise SystemExit(f"the sheet has no picture {strange[0]}, only 1 to {len(numbers)}")
    table = synonyms()
    results: dict[str, list[bool]] = {}
    for picture in shown:
        answer = answers.get(picture.number, Answer())
        kind = "pairs: animal" if picture.thing else "nouns"
        first = same(answer.first, picture.animal, table)
        either = first or same(answer.second, picture.animal, table)
        results.setdefault(f"{kind}, first guess", []).append(first)
        results.setdefault(f"{kind}, either guess", []).append(either)
        if picture.thing:
            material = same(answer.material, picture.thing, table)
            results.setdefault("pairs: thing", []).append(material)
    return results


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", 1927.
    """
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def report(results: dict[str, list[bool]]) -> str:
    """One line a question: how many were right of how many, and the interval."""
    lines = []
    for question, right in results.items():
        low, high = wilson(sum(right), len(right))
        lines.append(f"{question}: {sum(right)} of {len(right)} ({low:.0%} to {high:.0%})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.blind",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    pictures = parts.add_parser("pictures", help="make the pictures of the protocol")
    pictures.add_argument("--recipe", choices=list(RECIPES), default="pyramid")
    pictures.add_argument("--model", default="embedded")
    pictures.add_argument("--seed", type=int, default=0)
    pictures.add_argument("--out", type=Path, required=True)
    sheets = parts.add_parser("sheets", help="shuffle pictures to sheets without names")
    sheets.add_argument("files", type=Path, nargs="+")
    sheets.add_argument("--out", type=Path, required=True)
    sheets.add_argument("--seed", type=int, default=7)
    scoring = parts.add_parser("score", help="score a file of answers")
    scoring.add_argument("answers", type=Path)
    scoring.add_argument("--key", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.part == "pictures":
        prompts = protocol_prompts()
        made = make_pictures(options.recipe, prompts, options.model, options.seed)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        captions = [prompt.caption for prompt in prompts]
        torch.save({"pictures": made.half(), "captions": captions}, options.out)
    elif options.part == "sheets":
        make_sheets(options.files, options.out, options.seed)
    else:
        sheet, answers = read_answers(options.answers.read_text("utf-8"), str(options.answers))
        key = json.loads(options.key.read_text("utf-8"))["sheets"]
        if sheet not in key:
            raise SystemExit(f"{options.key} has no sheet {sheet}, only {', '.join(sorted(key))}")
        shown = [Shown(**entry) for entry in key[sheet]["pictures"]]
        print(f"{key[sheet]['file']}\n{report(score(shown, answers))}")


if __name__ == "__main__":
    main()
