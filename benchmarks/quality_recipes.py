"""The recipes that `quality.py` compares: one function of a subject per recipe.

Each gives a config (as a mapping) that makes `budget` view evaluations of a
64-pixel model, whatever it does with them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
Config = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a picture should show: an animal, or an animal made of a thing."""

    animal: str
    thing: str = ""

    @property
    def text(self) -> str:
        """The whole prompt."""
        return f"{self.alone} made of {self.thing}" if self.thing else self.alone

    @property
    def alone(self) -> str:
        """The animal with its article."""
        return f"{'an' if self.animal[0] in 'aeiou' else 'a'} {self.animal}"


PAIRS = (
    "penguin/piano", "cat/pizza", "elephant/strawberry", "elephant/broccoli", "penguin/sushi",
    "cat/banana", "peacock/garlic", "kangaroo/waffle", "snail/violin", "pig/watermelon",
    "hedgehog/carrot", "elephant/tomato", "snail/pretzel", "penguin/pineapple", "cat/lettuce",
    "pig/avocado", "peacock/mango", "hedgehog/coconut", "kangaroo/trumpet", "tapir/accordion",
)
ALONE = (
    "penguin", "cat", "elephant", "strawberry", "pineapple", "pig", "snail", "red heart",
    "banana", "peacock", "sunflower", "airplane", "car", "tree", "fish", "owl",
)
SUBJECTS = tuple(
    [Subject(*pair.split("/")) for pair in PAIRS] + [Subject(name) for name in ALONE]
)


def shipped(name: str, subject: Subject, steps: int) -> Config:
    """A config of the article with another prompt and number of steps."""
    config: Config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["epochs"] = steps
    config["targets"][0]["features"] = [{"text": subject.text}]
    return config


def views(
    size: int, noise: str = ".2-.15*t", contrast: str = ".2 .5", kind: str = "bwnoise"
) -> list[Config]:
    """The transforms that suit the embedded model, for a picture of `size` pixels."""
    chain: list[Config] = [
        {"pad": {"size": size // 4, "mode": "edge"}}, {"random_rotate": "-8 8"},
        {"random_scale": ".94 1.06"}, {"random_translate": 0.08}, {"center_crop": size},
        {"resize": 64},
    ]
    if contrast:
        chain.append({"random_contrast": contrast})
    if noise:
        chain.append({kind: noise})
    return chain


def rate(peak: float) -> str:
    """A learning rate that falls from its peak to a tenth."""
    return f"{peak}*(.1 + .9*(.5 + .5*cos(pi*t)))"


def base(
    subject: Subject, budget: int, canvas: Any, size: int = 192, count: int = 8, peak: float = 3.0
) -> Config:
    """One target on a canvas: what the modern recipes have in common."""
    return {
        "epochs": max(1, budget // count), "resolution": size, "canvas": canvas,
        "init": {"mean": 0.5, "std": 0.03},
        "learnrate": rate(peak),
        "optimizer": {"adam": {"betas": [0.9, 0.99]}},
        "targets": [{
            "batch_size": count, "clamp": False, "transforms": views(size),
            "features": [{"text": subject.text, "weight": f"1/{count}"}],
            "constraints": [
                {"gray": {"weight": f".008/{count}"}},
                {"saturation": {"below": 0.005, "weight": f".5/{count}"}},
                {"blur": {"kernel_size": 11, "weight": f"1/{count}", "start": "30%"}},
            ],
        }],
    }


PYRAMID = {"pyramid": {"levels": [1, 2, 4, 8, 16, 32, 64], "interpolation": "bicubic"}}


def pyramid(subject: Subject, budget: int) -> Config:
    """The pyramid canvas."""
    return base(subject, budget, copy.deepcopy(PYRAMID))


def layers(subject: Subject, budget: int) -> Config:
    """Mask, texture and shading; without a thing there is no texture to ask for."""
    config: Config = yaml.safe_load((CONFIGS / "penguin_piano.yaml").read_text())
    config.pop("let", None)  # the names in its prompts, all of which are replaced
    picture, silhouette, texture = config["targets"]
    picture["features"][0]["text"] = subject.text
    picture["features"][1]["text"] = subject.alone
    silhouette["features"][0]["text"] = subject.alone
    if subject.thing:
        texture["features"][0]["texts"] = [f"{subject.thing} texture", f"many {subject.thing}"]
    else:
        picture["features"].pop()
        config["targets"].pop()
    config["epochs"] = max(1, budget // sum(t["batch_size"] for t in config["targets"]))
    return config


def changed(config: Config, **keys: Any) -> Config:
    """The config with some keys of the target replaced, those of the whole by `top_...`."""
    for key, value in keys.items():
        if key.startswith("top_"):
            config[key.removeprefix("top_")] = value
        else:
            config["targets"][0][key] = value
    return config


def few_views(subject: Subject, budget: int) -> Config:
    """The pyramid with one view per step and eight times the steps."""
    return base(subject, budget, copy.deepcopy(PYRAMID), count=1)


def sgd(subject: Subject, budget: int) -> Config:
    """Pixels under SGD with a filtered gradient: what the pyramid does under SGD."""
    config = base(subject, budget, {"pixels": {"squash": "sigmoid", "precondition": 1.0}})
    config["optimizer"] = {"sgd": {"momentum": 0.9}}
    config["learnrate"] = rate(8)
    return config


Recipe = Callable[[Subject, int], Config]

RECIPES: dict[str, Recipe] = {
    "method 1": lambda s, n: shipped("method_1", s, max(1, n // 10)),
    "method 2": lambda s, n: shipped("method_2", s, max(1, n // 10)),
    "pixels": lambda s, n: base(s, n, {"pixels": {"squash": "sigmoid"}}),
    "pyramid": pyramid,
    "fourier": lambda s, n: base(
        s, n, {"fourier": {"spectrum": 96, "decay": 1.2, "rate": 6, "color": "rgb"}}, peak=1.0
    ),
    "maco": lambda s, n: base(
        s, n, {"fourier": {"magnitude": "fixed", "spectrum": 96, "decay": 1.3, "rate": 8}},
        peak=1.0,
    ),
    "siren": lambda s, n: base(
        s, n, {"siren": {"width": 48, "layers": 3, "w0": 8}}, size=64, peak=2.0
    ),
    "layers": layers,
    "palette": lambda s, n: base(s, n, {"palette": {"cells": 32, "colors": 8}}),
    "ensemble": pyramid,
}
"""The comparison of the canvases."""

ENSEMBLES = frozenset({"ensemble"})
"""Recipes guided by two models at once."""

ABLATIONS: dict[str, Recipe] = {
    "pyramid": pyramid,
    "no noise": lambda s, n: changed(pyramid(s, n), transforms=views(192, noise="")),
    "no contrast": lambda s, n: changed(pyramid(s, n), transforms=views(192, contrast="")),
    "no geometry": lambda s, n: changed(
        pyramid(s, n), transforms=[t for t in views(192) if set(t) & {
            "resize", "random_contrast", "bwnoise"}]
    ),
    "no constraints": lambda s, n: changed(pyramid(s, n), constraints=[]),
    "more contrast": lambda s, n: changed(pyramid(s, n), transforms=views(192, contrast=".4 1")),
    "more noise": lambda s, n: changed(pyramid(s, n), transforms=views(192, ".35-.25*t")),
    "colour noise": lambda s, n: changed(pyramid(s, n), transforms=views(192, kind="noise")),
    "rate 1": lambda s, n: changed(pyramid(s, n), top_learnrate=rate(1)),
    "rate 6": lambda s, n: changed(pyramid(s, n), top_learnrate=rate(6)),
    "release": lambda s, n: changed(
        pyramid(s, n), top_canvas={"pyramid": {**PYRAMID["pyramid"], "release": 0.25}}
    ),
    "one view": few_views,
    "decorrelated": lambda s, n: changed(
        pyramid(s, n), top_canvas={"pyramid": {**PYRAMID["pyramid"], "color": "decorrelated"}}
    ),
    "margin": lambda s, n: changed(pyramid(s, n), top_margin=0.1),
    "ema": lambda s, n: changed(pyramid(s, n), top_ema=0.95),
    "filtered sgd": sgd,
}
"""The pyramid, less or more one thing."""
