"""The keys of `model:`: towers in two files, the activation, a list of models."""

from __future__ import annotations

import pytest

from clipig.config.dump import dump
from clipig.config.load import load_text
from clipig.errors import ConfigError

REST = "targets: [{features: [{text: a cat}]}]\n"


def model(text: str) -> tuple[str, str | None]:
    (found,) = load_text(f"model: {text}\n{REST}").model
    return found.name, found.activation


def test_two_towers_are_one_model() -> None:
    pair = "{image: clip_vision_h.safetensors, text: clip_h.safetensors, activation: gelu}"
    assert model(pair) == ("clip_vision_h.safetensors+clip_h.safetensors", "gelu")
    experiment = load_text(f"model: [{pair}, embedded]\n{REST}")
    assert [m.name for m in experiment.model] == [
        "clip_vision_h.safetensors+clip_h.safetensors", "embedded"
    ]
    assert load_text(dump(experiment)).model == experiment.model


@pytest.mark.parametrize(("text", "message"), [
    ("{image: a.safetensors}", "both towers are needed"),
    ("{text: a.safetensors}", "both towers are needed"),
    ("{image: 3, text: a.safetensors}", "both towers are needed"),
    ("{name: embedded, image: a, text: b}", "either `name`, or `image` and `text`"),
    ("{name: a.pt, activation: gellu}", "gelu"),
])
def test_keys_that_do_not_fit_together(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_text(f"model: {text}\n{REST}")
    assert "model" in caught.value.problems[0].key
