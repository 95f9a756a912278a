"""The reference is current, complete, and its examples load."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from clipig.config import dump, load_text
from clipig.config.parts import Feature, Init, Model, PostProc, Target
from clipig.config.reference import (
    TITLES,
    describe,
    entry,
    listing,
    main,
    pages,
    parts,
    tables,
    takes,
)
from clipig.config.schema import Experiment
from clipig.ops.base import Op

FOLDER = Path(__file__).parents[2] / "docs/reference"
OPS = [
    pytest.param(kind, cls, id=f"{kind}-{name}")
    for kind, table in tables().items() for name, cls in table.items()
]


@pytest.mark.parametrize("name", sorted(pages()))
def test_pages_are_current(name: str) -> None:
    told = "out of date: run `python -m clipig.config.reference docs/reference`"
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], told


def test_no_page_is_left_over() -> None:
    assert {p.name for p in FOLDER.iterdir()} == set(pages())


def test_writing(tmp_path: Path) -> None:
    main([str(tmp_path / "a"), str(tmp_path / "schema.json")])
    assert {p.name for p in (tmp_path / "a").iterdir()} == set(pages())
    assert (tmp_path / "schema.json").is_file()


def test_the_tables_are_there() -> None:
    assert set(tables()) == set(TITLES)
    assert all(len(table) > 3 for table in tables().values())
    with pytest.raises(KeyError):
        listing("models")


@pytest.mark.parametrize(("kind", "cls"), OPS)
def test_every_op_has_words_and_an_example_that_loads(kind: str, cls: type[Op]) -> None:
    words, example = parts(cls)
    assert words
    assert example, "no Example: in the docstring"
    place = {
        "transforms": "targets:\n  - transforms:\n", "constraints": "targets:\n  - constraints:\n",
        "postproc": "postproc:\n",
    }.get(kind, "")
    text = place + textwrap.indent(example, "      " if "  -" in place else "")
    experiment = load_text(text, cls.name)
    assert cls.name in dump(experiment, full=True) or kind == "schedules"  # are written out
    assert experiment != Experiment() or "canvas: pixels" in text or "adam" in text


@pytest.mark.parametrize(("kind", "cls"), OPS)
def test_every_key_is_described(kind: str, cls: type[Op]) -> None:
    text = entry(cls)
    assert text.startswith(f"## {cls.name}")
    for name, info in cls.model_fields.items():
        assert info.description, f"{cls.name}.{name} has no words"
        assert f"- `{name}` ({takes(cls, name)}; " in text
        assert takes(cls, name)


@pytest.mark.parametrize("cls", [Experiment, Target, Feature, Init, Model, PostProc])
def test_every_key_of_a_config_is_described(cls: type) -> None:
    page = pages()["config.md"]
    for name, info in cls.model_fields.items():
        assert info.description
        assert describe(cls, name) in page


def test_types_in_words() -> None:
    blur, table = tables()["transforms"]["blur"], tables()["transforms"]
    sizes = "1 or 2 whole numbers from 0 to 4096, or formulas of time, size, learning rate"
    assert takes(blur, "kernel_size") == sizes
    assert takes(blur, "sigma").startswith("1 or 2 numbers of at least 0, or formulas of")
    assert takes(table["pad"], "mode") == "`fill`, `edge`, `wrap`"
    assert takes(Target, "transforms") == "a list of [transforms](transforms.md)"
    assert takes(Target, "features") == "a list of [Feature](#feature)"
    assert takes(Target, "start") == "a moment such as `20`, `0.5`, `50%` or a formula"
    assert takes(Experiment, "optimizer") == "one of the [optimizers](optimizers.md)"
    assert takes(Experiment, "epochs") == "a whole number from 1 to 10000000"
    assert takes(Init, "image_tensor") == "nested lists of numbers"
    assert describe(blur, "sigma").endswith("0.3 * ((kernel_size - 1) / 2 - 1) + 0.8")
