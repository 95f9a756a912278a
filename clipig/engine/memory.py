"""How many runs fit, and how many at a time are fastest.

An estimate from the sizes in a plan and from one look at each encoder: how many
bytes its forward pass keeps for the backward pass, per view.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.engine.styles import embed_with_maps
from clipig.engine.update import moments_of
from clipig.errors import DeviceError
from clipig.ops.constraints.style import StyleStatistic, statistic
from clipig.plan.plan import Plan, TargetPlan

FLOAT = 4
CANVAS_COPIES = 12
"""Pictures of the canvas's size alive at the peak of a step: parameter, gradient, the copy
before the step, up to three moments, the shown image and its resized copies, and their gradients"""
VIEW_COPIES = 14
"""Tensors of the encoder's input size alive per view: noise with its making, each pixelwise
step, coordinates, and gradients"""
LEAST = 4
"""Images of the canvas's size alive at the peak of a step of the simplest canvas and optimizer, to
which come the optimizer's moments: 4.0 for `pixels` with sgd, 6.0 with adam, measured"""
SHARE = 0.8
"""of the free memory that may be used; the rest is for what the estimate leaves out"""
CPU_VIEWS = 160
"""About how many views per step are made at once on a CPU (a choice, see docs/performance.md)"""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a plan needs on its device, weights not counted.

    run     for each run
    views   of `run`, what the activations of the encoders take
    each    what one view takes in the largest encoder
    """

    run: int
    views: int
    each: int


@dataclass(frozen=True)
class MemoryFit:
    """How to cut the runs of a plan: `group` at a time, `chunk` views in the encoder at a time."""

    group: int
    chunk: int | None


def view_bytes(encoder: Encoder, kinds: tuple[StyleStatistic, ...] = ()) -> int:
    """Bytes that the encoder keeps for the backward pass, per view; measured once.

    With `kinds` also what these statistics of its early layers keep.
    """
    known: dict[Any, int] = _KNOWN
    info = encoder.info
    key = (info.name, info.checksum, str(encoder.dtype), encoder.device.type, kinds)
    if key not in known:
        known[key] = max(_kept(encoder, 2, kinds) - _kept(encoder, 1, kinds), 1)
    return known[key]


_KNOWN: dict[Any, int] = {}


def _kept(encoder: Encoder, views: int, kinds: Sequence[StyleStatistic]) -> int:
    """Bytes of all tensors that autograd saves in a forward pass of some views."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # so that no address is used twice
        return tensor

    kept: list[Tensor] = []
    side = encoder.info.size
    pixels = torch.zeros(views, 3, side, side, device=encoder.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        if kinds:
            maps = embed_with_maps(encoder, pixels)[1]
            for kind in kinds:
                for m in maps:
                    statistic(kind, m).square()  # its distance from a goal
        else:
            encoder.encode_image(pixels)
    return sum(seen.values())


def footprint(plan: Plan, encoders: Sequence[Encoder]) -> Footprint:
    """What one run of a plan takes in its most expensive phase, in bytes."""
    most = Footprint(1, 1, max(view_bytes(e) for e in encoders))
    for phase in plan.phases:
        everything = sum(t.views for t in phase.targets)
        pixels = sum(side**2 for side, _ in set(plan.view_sets))
        seen = [
            (t.views, [view_bytes(encoders[i], _kinds(t)) for i in t.encoders])
            for t in phase.targets if t.features or t.styles
        ]
        views = sum(count * sum(each) for count, each in seen)
        each = max((max(each) for _, each in seen), default=most.each)
        canvas = CANVAS_COPIES * 3 * phase.size[0] * phase.size[1] * FLOAT
        shown = VIEW_COPIES * everything * 3 * pixels * FLOAT
        if canvas + shown + views > most.run:
            most = Footprint(canvas + shown + views, views, each)
    return most


def _kinds(target: TargetPlan) -> tuple[StyleStatistic, ...]:
    """The statistics that a target's styles ask for."""
    return tuple(sorted({node.statistics for _, node in target.styles}))


def least_bytes(plan: Plan) -> int:
    """Bytes that one run of a plan cannot do without, whatever its canvas: measured, in `LEAST`."""
    copies = LEAST + sum(moments_of(plan.experiment.optimizer).values())
    height, width = max((p.size for p in plan.phases), key=math.prod)
    return copies * 3 * height * width * FLOAT


def check_memory(plan: Plan, device: torch.device, free: int | None = None) -> None:
    """Refuse a plan of which not even one run fits, before anything is allocated.

    Args:
        plan: Of any number of runs.
        device: Where it is to run.
        free: Free bytes; None: measured.

    Raises:
        DeviceError: With the bytes that are needed and free.
    """
    need, room = least_bytes(plan), free_memory(device) if free is None else free
    if need > room:
        height, width = max((p.size for p in plan.phases), key=math.prod)
        raise DeviceError(
            f"an image of {width}x{height} needs at least {need / 2**30:.1f} GiB and there are "
            f"{room / 2**30:.1f} GiB; a smaller resolution would fit"
        )


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception of torch says that memory is exhausted."""
    return isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault)


@contextlib.contextmanager
def memory_faults() -> Iterator[None]:
    """Turn torch's exceptions about exhausted memory into a `DeviceError`."""
    try:
        yield
    except RuntimeError as e:
        if not is_out_of_memory(e):
            raise
        raise DeviceError(
            "the memory is exhausted; a smaller resolution or batch_size would need less"
        ) from e


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return min([_system_memory(), *_container_memory()])


def _system_memory() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def _container_memory() -> list[int]:
    """What a control group leaves, if it limits the memory at all."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = int((root / "memory.max").read_text())
        return [limit - int((root / "memory.current").read_text())]
    return []


def fit(
    plan: Plan, encoders: Sequence[Encoder], limit: int | None = None, free: int | None = None
) -> MemoryFit:
    """How many runs of a plan to do at a time.

    On a CPU groups are no larger than speed asks for. If not even one run fits,
    its views go through the encoder in chunks.

    Args:
        plan: The plan.
        encoders: Its encoders, loaded.
        limit: Bytes that may be used; None: a share of the free memory.
        free: Free bytes; None: measured.
    """
    need = footprint(plan, encoders)
    device = encoders[0].device
    room = int((free_memory(device) if free is None else free) * SHARE)
    if limit is not None:
        room = min(room, limit)
    most = min(plan.runs, room // need.run)
    if most < 1:
        left = room - (need.run - need.views)
        views = max(p.views for p in plan.phases)
        return MemoryFit(1, min(max(1, left // need.each), max(views - 1, 1)))
    if device.type == "cpu":
        most = min(most, max(1, CPU_VIEWS // max(1, max(p.views for p in plan.phases))))
    groups = math.ceil(plan.runs / most)
    return MemoryFit(math.ceil(plan.runs / groups), None)
