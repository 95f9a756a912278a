"""Helpers for tests that walk through the tables of ops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from clipig.ops.base import Op, numbers_of
from clipig.rng import Draw, ViewDraw

SEEDS = (11, 12, 13)


def params(op: Op, device: torch.device | str = "cpu") -> SimpleNamespace:
    """The fields of an op made of constants, as the engine binds them for a step."""
    marks = numbers_of(type(op))
    bound: dict[str, Any] = {}
    for name in type(op).model_fields:
        value = getattr(op, name)
        mark = marks.get(name)
        if value is None or mark is None:
            bound[name] = value
        elif mark.size:
            width, height = value.numbers()
            bound[name] = (height, width)
        elif mark.static:
            bound[name] = value.numbers()
        else:
            numbers = torch.tensor(value.numbers(), dtype=torch.float32, device=device)
            bound[name] = numbers.view(1, 1, -1)
    return SimpleNamespace(**bound)


def one_run(p: SimpleNamespace, run: int) -> SimpleNamespace:
    """The parameters of one of R runs."""
    return SimpleNamespace(**{
        k: v[run : run + 1] if isinstance(v, Tensor) and v.shape[0] > 1 else v
        for k, v in vars(p).items()
    })


def view_draw(
    seeds: tuple[int, ...] = SEEDS, views: int = 4, step: int = 5, stream: int = 77,
    device: torch.device | str = "cpu",
) -> ViewDraw:
    """Random numbers of one op; a new one for each use, as the engine makes it."""
    return ViewDraw(Draw(seeds, device), stream, step, views)


def subclasses(base: type) -> set[type]:
    """All classes below `base` that have a YAML key."""
    found: set[type] = set()
    for cls in base.__subclasses__():
        found |= subclasses(cls)
        if "name" in cls.__dict__:
            found.add(cls)
    return found


def picture(*shape: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Smooth random pictures within .1 and .9, `[*shape]`; the last two axes are height, width."""
    height, width = shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:-2], 6, 6, generator=generator)
    flat = coarse.reshape(-1, 1, 6, 6)
    fine = torch.nn.functional.interpolate(flat, (height, width), mode="bicubic")
    return (fine.clamp(0, 1) * 0.8 + 0.1).view(*shape).to(device)
