"""Words that stand for a good many keys; they are written out when a config is read."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "no-text": {"texts": ["text", "letters", "writing", "a watermark"], "weight": -0.3},
}
"""Features with a name of their own: the keys that they stand for."""

QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"epochs": 60, "resolution": 128},
    "good": {"epochs": 160, "resolution": 192},
    "best": {"epochs": 320, "resolution": 256, "ema": 0.9},
}
"""What each word sets at the top, where the config itself says nothing."""

VIEWS = {"draft": 4, "good": 8, "best": 16}
"""Views per step by quality."""

_TOP: dict[str, Any] = {
    "learnrate": {"cosine": {"peak": 3, "floor": 0.3}},
    "optimizer": {"adam": {"betas": [0.9, 0.99]}},
    "optimizer_state": "carry",
    "init": {"mean": 0.5, "std": 0.03},
    "canvas": {
        "pyramid": {
            "levels": [1, 2, 4, 8, 16, 32, 64], "interpolation": "bicubic",
        }
    },
}
_TRANSFORMS: list[Any] = [
    {"pad": {"size": ["width//4", "height//4"], "mode": "edge"}},
    {"random_rotate": [-8, 8]},
    {"random_scale": [0.94, 1.06]},
    {"random_translate": 0.08},
    {"center_crop": ["width", "height"]},
    {"random_contrast": [0.2, 0.5]},
    {"bwnoise": ".2-.15*t"},
]


def with_quality(raw: dict[str, Any]) -> dict[str, Any]:
    """`{quality: good, targets: ...}` with all that the word stands for.

    What the config says itself goes before: a target with `transforms` of its
    own keeps them, and everything else about it.
    """
    word = raw["quality"]
    rest = {key: value for key, value in raw.items() if key != "quality"}
    targets = raw.get("targets")
    if isinstance(targets, list):
        rest["targets"] = [_target(target, word) for target in targets]
    return {**_TOP, **QUALITIES[word], **rest}


def _target(raw: Any, word: str) -> Any:
    if not isinstance(raw, dict) or raw.get("transforms"):
        return raw
    views = raw.get("batch_size", VIEWS[word])
    added = {
        "batch_size": views, "weight": f"1/{VIEWS[word]}", "clamp": False,
        "constraints": [
            {"gray": {"weight": 0.008}},
            {"saturation": {"below": 0.005, "weight": 0.5}},
            {"blur": {"kernel_size": 11, "start": "30%"}},
        ],
    }
    return {**added, **raw, "transforms": _TRANSFORMS}
