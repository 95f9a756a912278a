"""Plans that do not fit into the memory are refused with what they need."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clipig.config.schema import Experiment
from clipig.engine import memory
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.errors import DeviceError
from clipig.jobs.estimate import estimate
from clipig.plan.compiler import compile
from clipig.plan.plan import Plan
from clipig.session import Session
from tests.support.tiny_encoder import TinyEncoder

BASE: dict[str, Any] = {"targets": [{"features": [{"text": "a cat"}]}], "seed": 1, "epochs": 10}


def plan(**keys: Any) -> Plan:
    return compile([Experiment.model_validate({**BASE, **keys})], [TinyEncoder().info])


def test_an_image_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    huge = plan(resolution=16384)
    assert memory.least_bytes(huge) == 6 * 3 * 16384**2 * 4
    with pytest.raises(DeviceError, match=r"16384x16384 needs at least 18\.0 GiB .* 4\.0 GiB"):
        memory.check_memory(huge, torch.device("cpu"), free=4 << 30)
    memory.check_memory(huge, torch.device("cpu"), free=20 << 30)


def test_the_largest_phase_counts() -> None:
    grows = plan(resolution="64 if t < .9 else 8192")
    assert memory.least_bytes(grows) == memory.least_bytes(plan(resolution=8192))


def test_a_run_and_an_estimate_are_refused_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 20)
    large, encoder = plan(resolution=512), TinyEncoder()
    with pytest.raises(DeviceError, match="512x512"):
        next(optimize(large, [encoder], encode_prompts(large, [encoder], PromptCache())))
    session = Session(device="cpu", model="embedded")
    groups = session.plan(session.settle(Experiment.model_validate({**BASE, "resolution": 512})))
    with pytest.raises(DeviceError, match="512x512"):
        estimate(session, groups[0])


def test_an_allocation_that_fails_is_told_as_what_it_is() -> None:
    with pytest.raises(DeviceError, match="memory"), memory.memory_faults():
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shape"), memory.memory_faults():
        torch.zeros(2) @ torch.zeros(3, 3)
