"""Checkpoints of tiny models with random weights, and a cache of one's own for them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from clipig.encoders import names, weights
from clipig.encoders.names import OPENAI

ROOT = Path(__file__).parents[2]
State = dict[str, Tensor]


def _benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


random_checkpoint = _benchmark("random_checkpoint")


@pytest.fixture(scope="module")
def state() -> State:
    found: State = random_checkpoint.random_state_dict("tiny-ViT")
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPIG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights, "_probes", {})


def publish(path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Write a tiny model under the name and (patched) checksum of ViT-B/32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    data = path.read_bytes()
    entry = names.OpenAIModel(32, 32, "ViT-B-32.pt", 338, hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(OPENAI, "ViT-B/32", entry)
    return data
