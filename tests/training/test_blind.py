"""The blind naming protocol: sheets tell nothing, answers are scored fairly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from training import blind
from training.blind import Answer, Shown
from training.concepts import read_concepts

CAPTIONS = ["a penguin made of piano", "an owl", "a cat made of pizza", "a mouse"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for name in ("before.pt", "after.pt"):
        shades = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 8, 8) / 4
        torch.save({"pictures": shades.half(), "captions": CAPTIONS}, tmp_path / name)
        paths.append(tmp_path / name)
    return paths


def test_protocol_has_sixty_known_prompts() -> None:
    prompts = blind.protocol_prompts()
    names = {concept.name for concept in read_concepts()}
    assert len(prompts) == len(set(prompts)) == 60
    assert sum(bool(prompt.thing) for prompt in prompts) == 40
    assert {prompt.animal for prompt in prompts} | set(blind.THINGS) <= names
    assert prompts == blind.protocol_prompts()


def test_sheets_are_shuffled_by_the_seed_and_the_key_finds_the_pictures(
    files: list[Path], tmp_path: Path
) -> None:
    blind.make_sheets(files, tmp_path / "one", seed=3)
    blind.make_sheets(files, tmp_path / "two", seed=3)
    text = (tmp_path / "one/key.json").read_text()
    assert text == (tmp_path / "two/key.json").read_text()
    sheets = json.loads(text)["sheets"]
    assert {entry["file"] for entry in sheets.values()} == {"before.pt", "after.pt"}
    for letter, entry in sheets.items():
        image = Image.open(tmp_path / f"one/sheet-{letter}.png")
        for i, shown in enumerate(entry["pictures"]):
            number = [blind.split_caption(c)[0] for c in CAPTIONS].index(shown["animal"])
            pixel = image.getpixel((i * (blind.SIDE + 6) + 50, 50))
            assert pixel == (round(255 * number / 4),) * 3
        answers = (tmp_path / f"one/answers-{letter}.txt").read_text()
        assert not any(word in answers for word in ("penguin", "owl", "before", "after"))
    assert sheets["a"]["pictures"] != sheets["b"]["pictures"]


def test_sheets_overwrite_nothing(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "answers-b.txt").write_text("1: cat")
    with pytest.raises(SystemExit, match="exists"):
        blind.make_sheets(files, tmp_path, seed=3)
    assert (tmp_path / "answers-b.txt").read_text() == "1: cat"
    assert not (tmp_path / "key.json").exists()


def test_answers_are_scored_with_synonyms_and_gaps_are_wrong() -> None:
    shown = [Shown(1, "penguin", "piano"), Shown(2, "owl"), Shown(3, "cat", "burger")]
    answers = {1: Answer("duck", "a penguin", "musical keyboard"), 3: Answer("Kitty", "", "pizza")}
    results = blind.score(shown, answers)
    assert results == {
        "pairs: animal, first guess": [False, True],
        "pairs: animal, either guess": [True, True],
        "pairs: thing": [True, False],
        "nouns, first guess": [False],
        "nouns, either guess": [False],
    }
    assert "pairs: thing: 1 of 2 (9% to 91%)" in blind.report(results)


def test_command_scores_a_filled_in_file(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    blind.main(["sheets", *map(str, files), "--out", str(out)])
    entry = json.loads((out / "key.json").read_text())["sheets"]["b"]
    right = "".join(f"{s['number']}: {s['animal']} / / {s['thing']}\n" for s in entry["pictures"])
    (out / "answers-b.txt").write_text("# sheet b\n" + right)
    blind.main(["score", str(out / "answers-b.txt"), "--key", str(out / "key.json")])
    printed = capsys.readouterr().out
    assert printed.startswith(entry["file"])
    assert "pairs: animal, first guess: 2 of 2" in printed
    assert "nouns, first guess: 2 of 2" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# sheet a\npenguin", "x:2: expected `NUMBER"),
        ("# sheet a\n1: a / b / c / d", "at most three"),
        ("# sheet a\n1: a\n1: b", "answered twice"),
        ("1: a", "expected a line"),
    ],
)
def test_unreadable_answers_are_named(text: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        blind.read_answers(text, "x")


def test_answers_to_other_pictures_are_refused() -> None:
    with pytest.raises(SystemExit, match="no picture 9"):
        blind.score([Shown(1, "owl")], {9: Answer("owl")})
