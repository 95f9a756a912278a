"""How two experiments differ, in the keys and values of their configs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from clipig.config.dump import dump
from clipig.config.schema import Experiment

NOT_THE_PICTURE = frozenset({"output", "snapshot_interval", "verbose", "device"})
"""Keys that say where and how, and change nothing of the image."""
_MISSING = "nothing"


@dataclass(frozen=True)
class Difference:
    """One key whose values differ, both as a config shows them."""

    key: str
    saved: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.key}: saved {self.saved}, now {self.wanted}"


def differences(saved: Experiment, wanted: Experiment) -> list[Difference]:
    """The keys that shape the image and differ, in the order of the config.

    Args:
        saved: The experiment that was begun.
        wanted: The one that is asked for now.

    Returns:
        One entry per differing value; empty if both make the same image.
    """
    old, new = _flat(saved), _flat(wanted)
    return [
        Difference(key, old.get(key, _MISSING), new.get(key, _MISSING))
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def _flat(experiment: Experiment) -> dict[str, str]:
    """Every value of the resolved config by its key path."""
    whole = yaml.safe_load(dump(experiment)) or {}
    kept = {key: value for key, value in whole.items() if key not in NOT_THE_PICTURE}
    return dict(_leaves("", kept))


def _leaves(path: str, node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), value)
    elif isinstance(node, list) and any(isinstance(v, dict | list) for v in node):
        for i, value in enumerate(node):
            yield from _leaves(f"{path}[{i}]", value)
    else:
        yield path, yaml.safe_dump(node, default_flow_style=True, width=1 << 20).split("\n...")[
            0
        ].strip()
