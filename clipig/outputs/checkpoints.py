"""A run's state as one file, to go on after Ctrl-C, kill -9 or power loss.

A safetensors file (tensors and texts, nothing that could be executed) that
appears whole or not at all. The resolved config lies beside the picture; its
hash is kept here, so that a state is never continued with another config.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clipig.engine.state import State
from clipig.errors import OutputError
from clipig.files import atomic_write

FORMAT = "clipig-checkpoint-1"


def fingerprint(text: str) -> str:
    """What identifies a config in a checkpoint."""
    return hashlib.sha256(text.encode()).hexdigest()


def save_state(path: Path, state: State, config: str, extra: dict[str, str] | None = None) -> None:
    """Write a state for the config text `config`; replaces an older one. Raises `OutputError`."""
    tensors: dict[str, Tensor] = {"alive": state.alive}
    tensors.update({f"canvas/{k}": v for k, v in state.canvas.items()})
    tensors.update({f"fair/{t}/{e}": v for (t, e), v in state.fair.items()})
    for name, moments in state.optimizer.items():
        tensors.update({f"optimizer/{name}/{k}": v for k, v in moments.items()})
    if state.average is not None:
        tensors["average"] = state.average
    about = {
        "format": FORMAT, "step": str(state.step), "size": json.dumps(list(state.size)),
        "config": fingerprint(config), **(extra or {}),
    }
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, about)
    atomic_write(path, data)


def load_state(path: Path, config: str) -> tuple[State, dict[str, str]]:
    """The state that was saved for this config, and the extra texts. Raises `OutputError`."""
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as fault:
        raise OutputError(f"{path}: cannot be read: {fault}") from fault
    if about.get("format") != FORMAT:
        raise OutputError(f"{path}: not a checkpoint of this version of clipig")
    if about.get("config") != fingerprint(config):
        raise OutputError(f"{path}: belongs to another config than the one beside it")
    optimizer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            name, _, moment = rest.rpartition("/")
            optimizer.setdefault(name, {})[moment] = tensor
    try:
        height, width = json.loads(about["size"])
        fair = {
            (int(target), int(encoder)): tensor
            for key, tensor in _below(tensors, "fair/").items()
            for target, encoder in [key.split("/")]
        }
        state = State(
            int(about["step"]), (int(height), int(width)), _below(tensors, "canvas/"), optimizer,
            tensors.get("average"), tensors["alive"].to(torch.bool), fair,
        )
    except (KeyError, ValueError, TypeError) as fault:
        raise OutputError(f"{path}: is damaged ({fault})") from fault
    return state, about


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
