"""Which experiments can share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from clipig.config.schema import Experiment, Model
from clipig.ops.base import FrameTime, Value
from clipig.plan.clock import clock_of
from clipig.plan.timeline import timeline


def split(experiments: Sequence[Experiment]) -> list[list[int]]:
    """Indices of experiments that can share a batch, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    known: dict[str, Any] = {}
    for index, experiment in enumerate(experiments):
        text = repr(_form(experiment, whole=True))
        if text not in known:
            known[text] = repr((_form(experiment), timeline(experiment, clock_of(experiment))))
        groups.setdefault(known[text], []).append(index)
    return list(groups.values())


_OWN = frozenset({"seed", "runs", "output", "text", "texts", "image", "image_tensor"})
"""Fields in which the runs of a batch may differ freely, as long as all have them."""


def _form(node: Any, whole: bool = False) -> Any:
    """What must agree between the runs of a batch; `whole` keeps the numbers, too."""
    if isinstance(node, BaseModel):
        whole = whole or isinstance(node, Model)  # all rows of a batch weigh an encoder alike
        return type(node).__name__, [
            (name, getattr(node, name) is None if name in _OWN else
             _form(getattr(node, name), whole))
            for name in type(node).model_fields
        ]
    if isinstance(node, list | tuple):
        return [_form(item, whole) for item in node]
    if isinstance(node, Value) and not whole:
        if "similarity" in node.names:
            return node
        return ("random", bool(node.names)) if node.random else "numbers"
    if isinstance(node, FrameTime) and not whole:
        return "moment"  # its effect is in the timeline
    return node
