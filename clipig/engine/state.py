"""The resume state: its parts, a check against a plan, splitting and joining by runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from clipig.errors import StateError
from clipig.ops.kernels.sampling import Shape


@dataclass(frozen=True)
class State:
    """All that R runs need to go on: tensors and numbers, safe to save."""

    step: int
    """steps done"""
    size: Shape
    """`(height, width)` of the canvas in pixels"""
    canvas: Mapping[str, Tensor]
    """its parameters by name, `[R, ...]`"""
    optimizer: Mapping[str, Mapping[str, Tensor]]
    """the optimizer's moments by parameter name and key"""
    average: Tensor | None
    """the running mean of pictures, `[R, 3, H, W]`, if the experiment has an `ema`"""
    alive: Tensor
    """`[R]` bool: false for a run that diverged"""
    fair: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    """what `feature_scale` found at the start, by target and encoder, `[R, F]`"""


K = TypeVar("K", str, tuple[int, int])


@dataclass(frozen=True)
class StateForm:
    """What the state of a plan must be like after some steps."""

    runs: int
    """of the plan"""
    steps: int
    """of the plan"""
    size: Shape
    """of the image after the last step that was made"""
    canvas: Mapping[str, Tensor]
    """parameters and buffers of those shapes and dtypes"""
    moments: Mapping[str, bool]
    """the optimizer's moments; whether each has the shape of its parameter"""
    average: tuple[int, ...] | None
    """shape of the running mean, if there is one"""
    fair: Mapping[tuple[int, int], tuple[int, ...]]
    """shapes of the factors by target and encoder"""


def check_state(state: State, form: StateForm) -> None:
    """Raise `StateError`, which names the value, for a state that does not have a form."""
    if not 0 <= state.step <= form.steps:
        raise StateError(f"step: found {state.step}, expected 0 to {form.steps}")
    if tuple(state.size) != tuple(form.size):
        raise StateError(f"size: found {state.size}, expected {form.size} after {state.step} steps")
    _check("alive", state.alive, (form.runs,), torch.bool)
    _check_names("canvas", state.canvas, form.canvas)
    for name, tensor in state.canvas.items():
        _check(f"canvas/{name}", tensor, form.canvas[name].shape, form.canvas[name].dtype)
        _check_finite(f"canvas/{name}", tensor)
    for name, moments in state.optimizer.items():
        if name not in form.canvas:
            raise StateError(f"optimizer: found {name!r}, expected {_listed(form.canvas)}")
        _check_names(f"optimizer/{name}", moments, form.moments)
        for key, tensor in moments.items():
            like = form.canvas[name].shape if form.moments[key] else ()
            _check(f"optimizer/{name}/{key}", tensor, like)
            # moments of a run that diverged may be anything
            _check_finite(f"optimizer/{name}/{key}", tensor[state.alive] if like else tensor)
    if (state.average is None) != (form.average is None):
        found, wanted = ("none", "one") if state.average is None else ("one", "none")
        raise StateError(f"average: found {found}, expected {wanted}")
    if state.average is not None and form.average is not None:
        _check("average", state.average, form.average)
        _check_finite("average", state.average)
    fair = {f"{t}/{e}": tensor for (t, e), tensor in state.fair.items()}
    shapes = {f"{t}/{e}": shape for (t, e), shape in form.fair.items()}
    _check_names("fair", fair, shapes)
    for name, tensor in fair.items():
        _check(f"fair/{name}", tensor, shapes[name])
        _check_finite(f"fair/{name}", tensor)


def _check_names(key: str, found: Iterable[str], expected: Iterable[str]) -> None:
    if set(found) != set(expected):
        raise StateError(f"{key}: found {_listed(found)}, expected {_listed(expected)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "nothing"


def _check(
    key: str, tensor: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> None:
    if tensor.layout != torch.strided or tensor.dtype != dtype:
        raise StateError(f"{key}: found {tensor.dtype}, expected {dtype}")
    if tuple(tensor.shape) != tuple(shape):
        raise StateError(f"{key}: found the shape {list(tensor.shape)}, expected {list(shape)}")


def _check_finite(key: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise StateError(f"{key}: found a value that is not finite")


def split_state(state: State) -> list[State]:
    """One state per run, on the CPU."""
    count = len(state.alive)
    return [_row(state, slice(i, i + 1), count) for i in range(count)]


def join_states(states: Sequence[State]) -> State:
    """The state of a batch of these runs. They must have done the same number of steps."""
    first = states[0]
    if any(s.step != first.step or s.size != first.size for s in states):
        raise StateError("states of different steps or sizes cannot share a batch")
    return State(
        first.step, first.size,
        _joined([s.canvas for s in states]),
        {name: _joined([s.optimizer[name] for s in states]) for name in first.optimizer},
        None if first.average is None else torch.cat([_need(s.average) for s in states]),
        torch.cat([s.alive for s in states]),
        _joined([s.fair for s in states]),
    )


def _row(state: State, rows: slice, count: int) -> State:
    def cut(tensors: Mapping[K, Tensor]) -> dict[K, Tensor]:
        return {
            k: (v[rows] if _by_run(v, count) else v).detach().cpu().clone()
            for k, v in tensors.items()
        }

    return State(
        state.step, state.size, cut(state.canvas),
        {name: cut(moments) for name, moments in state.optimizer.items()},
        None if state.average is None else state.average[rows].detach().cpu().clone(),
        state.alive[rows].cpu().clone(), cut(state.fair),
    )


def _by_run(tensor: Tensor, count: int) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == count


def _joined(parts: Sequence[Mapping[K, Tensor]]) -> dict[K, Tensor]:
    return {
        name: torch.cat([p[name] for p in parts]) if first.ndim else first
        for name, first in parts[0].items()
    }


def _need(average: Tensor | None) -> Tensor:
    assert average is not None
    return average
