"""States of several runs, taken apart and put together: survivors go on in new company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

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


def split_state(state: State) -> list[State]:
    """One state per run, on the CPU."""
    count = len(state.alive)
    return [_row(state, slice(i, i + 1), count) for i in range(count)]


def join_states(states: Sequence[State]) -> State:
    """The state of a batch of these runs. They must have done the same number of steps."""
    first = states[0]
    if any(s.step != first.step or s.size != first.size for s in states):
        raise ValueError("states of different steps or sizes cannot share a batch")
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
