"""What the original accepted, and what a config needs, is not refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from clipig.config import load, load_text
from clipig.config.dump import dump
from clipig.config.grid import load_grid, make_cell
from clipig.config.prompts import set_text, unknown_blanks
from clipig.config.sources import everything, shipped
from clipig.errors import ConfigError

CAT = "targets: [{features: [{text: a cat}]}]\n"


def test_many_repeats_are_accepted() -> None:
    load_text("targets: [{features: [{text: a cat}], transforms: [repeat: 100]}]")


@pytest.mark.parametrize("entry", ["{end: 10%}", "{active: false}", "{}"])
def test_an_edit_with_only_a_window_does_nothing(entry: str) -> None:
    experiment = load_text(f"{CAT}postproc: [{entry}]")
    assert [e.transforms for e in experiment.postproc] == [[]]
    assert load_text(dump(experiment)) == experiment


def test_x_keys_hold_anchors() -> None:
    experiment = load_text("x-common: &c {text: a cat}\ntargets: [{features: [*c]}]\n")
    assert experiment.targets[0].features[0].text == "a cat"
    with pytest.raises(ConfigError, match="unknown key"):
        load_text(f"{CAT}init: {{x-a: 1}}")


def test_blanks_that_nothing_fills_are_known() -> None:
    plain = load_text("targets: [{features: [{text: 'a {thing} {b} {thing}'}]}]")
    assert unknown_blanks(plain) == ["{thing}", "{b}"]
    assert unknown_blanks(load_text(CAT)) == []
    filled = load_text("let: {thing: cat}\ntargets: [{features: [{text: 'a {thing}'}]}]")
    assert unknown_blanks(filled) == []


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ConfigError, match="--text: found ''"):
        set_text(load_text(CAT), "")


def test_braces_in_the_value_of_an_axis_are_literal(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(
        "axes: {animal: ['x{y}', {name: '{z}', words: {an animal: 'a {w}'}}]}\n"
        "x-note: 1\nrecipe: {epochs: 1, targets: [{features: [{text: '{animal}'}]}]}\n"
    )
    grid = load_grid(path)
    texts = [make_cell(grid, i, 1).experiment.targets[0].features[0].text
             for i in grid.coordinates()]
    assert texts == ["x{y}", "{z}"]


def test_images_are_seen_from_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir(), here.mkdir()
    (there / "a.png").touch()
    (there / "c.yaml").write_text("init: {image: a.png}\nmask: none.png\n" + CAT)
    monkeypatch.chdir(here)
    experiment = load(there / "c.yaml")
    assert experiment.init.image == str(there / "a.png")
    assert experiment.mask == "none.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_no_config(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="found a pipe, expected a file"):
        load(tmp_path / "c.yaml")


def test_the_list_has_all_configs_with_whole_sentences() -> None:
    known = shipped()
    assert set(known) == set(everything())
    assert known["grid_small"].startswith("clipig grid: ")
    assert not any(re.search(r"(\.|,|\d)$", text) for text in known.values())


def test_names_twice_on_a_long_axis_are_found(tmp_path: Path) -> None:
    names = ", ".join([*(f"n{i}" for i in range(3000)), "n7"])
    (tmp_path / "g.yaml").write_text(f"axes: {{a: [{names}]}}\nrecipe: method_1\n")
    with pytest.raises(ConfigError, match="found 'n7' twice"):
        load_grid(tmp_path / "g.yaml")


@pytest.mark.parametrize(("text", "message"), [
    ("targets: [" + "{features: [{text: a}]}," * 1001 + "]", "found 1,001 targets"),
    ("targets: [{features: [" + "{text: a}," * 10_001 + "]}]", "found 10,001 features in all"),
    (f"runs: 10001\n{CAT}", "from 1 to 10000"),
])
def test_configs_that_are_too_long_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_text(text)
    assert len(caught.value.problems) == 1
