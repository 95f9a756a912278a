"""Text that enters is valid Unicode, whatever brought it."""

from __future__ import annotations

import json

import pytest

from clipig.config import load, load_text
from clipig.config.prompts import set_text
from clipig.errors import ConfigError, InputError
from clipig.values.text import valid_text

PENGUIN = "a penguin \U0001f427"
CONFIG = {"epochs": 3, "targets": [{"features": [{"text": PENGUIN}]}]}


def test_pairs_are_joined() -> None:
    assert valid_text("\ud83d\udc27 \U0001f427 é") == "\U0001f427 \U0001f427 é"


@pytest.mark.parametrize(("text", "message"), [
    ("ab\ud83d", r"half of a character, \\ud83d, expected both halves at character 3"),
    ("\udc27\ud83d", r"\\udc27"),
    ("a\udcff cat", "the byte 0xff, expected UTF-8 at character 2"),
])
def test_halves_are_refused_with_their_position(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        valid_text(text)


@pytest.mark.parametrize("size", [0, 1 << 17])
def test_json_as_json_dumps_writes_it(size: int) -> None:
    text = json.dumps({**CONFIG, "let": {"x": "y" * size}} if size else CONFIG)
    assert "\\ud83d" in text
    assert load_text(text).targets[0].features[0].text == PENGUIN


def test_half_a_pair_in_a_config_is_refused_at_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text('targets: [{features: [{text: "a \\ud83d"}]}]', "c.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (1, 30)
    assert "half of a character" in problem.message


def test_half_a_pair_from_python_and_the_command_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="half of a character"):
        load({"targets": [{"features": [{"text": "a \ud83d"}]}]})
    with pytest.raises(ConfigError, match=r"--text: .*the byte 0xff"):
        set_text(load(CONFIG), "a\udcff cat")
    joined = set_text(load(CONFIG), "a \ud83d\udc27")
    assert joined.targets[0].features[0].text == "a \U0001f427"
