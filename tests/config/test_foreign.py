"""Configs of strangers: what they would open is known before it is opened."""

from __future__ import annotations

import pytest

from clipig.config import load_text
from clipig.config.foreign import MAX_FOREIGN, foreign, load_foreign
from clipig.errors import ConfigError

CONFIG = """
model: [embedded, ViT-B/32, /dev/zero]
mask: http://example.org/mask.png
init: {image: a.png}
targets:
  - features: [{image: b.png}, {text: a cat}]
    constraints: [{style: {image: c.png}}]
"""


def test_paths_addresses_and_unknown_models_are_listed() -> None:
    experiment = load_text(CONFIG)
    named = ["a.png", "http://example.org/mask.png", "b.png", "c.png"]
    assert foreign(experiment, {"ViT-B/32"}) == [*named, "/dev/zero"]
    assert foreign(experiment) == [*named, "ViT-B/32", "/dev/zero"]


def test_a_config_that_names_nothing_gives_an_empty_list() -> None:
    assert foreign(load_text("targets: [{features: [{text: a cat}]}]")) == []


def test_a_huge_config_is_refused_before_it_is_read() -> None:
    with pytest.raises(ConfigError, match="at most 262,144 are read"):
        load_foreign("a: [" + "1, " * (MAX_FOREIGN // 3) + "1]", "a.png")
