"""Saves a run's resume state as one file, so that it survives Ctrl-C, kill -9 or power loss.

The file is a safetensors file (tensors and texts, nothing executable) and is written
atomically. The resolved config lies beside the image; the checkpoint holds its hash, so
that a state is never continued with another config.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clipig.engine.state import State
from clipig.errors import InputError, OutputError
from clipig.files import atomic_write, open_input

FORMAT = "clipig-checkpoint-1"


def fingerprint(text: str) -> str:
    """SHA-256 of a config's text, in hex; identifies the config in a checkpoint."""
    return hashlib.sha256(text.encode()).hexdigest()


def save_state(path: Path, state: State, config: str, extra: dict[str, str] | None = None) -> None:
    """Write a resume state atomically; an older one at `path` is replaced.

    Args:
        path: The checkpoint.
        state: From `Step.state`.
        config: Text of the resolved config.
        extra: More texts to save, by key.

    Raises:
        OutputError: The file cannot be written.
    """
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


@dataclass(frozen=True)
class SavedRun:
    """Values that a checkpoint of `clipig run` holds besides the state of its batch."""

    rows: tuple[int, ...]
    """runs of the batch, as indices of the config's runs"""
    done: tuple[int, ...] = ()
    """indices of the runs that are already finished"""
    seconds: float = 0.0
    """time spent so far"""
    stages: str = ""
    """describes the configs of earlier parts of the run, empty if all used this one"""
    since_snapshot: float | None = None
    """seconds since the last snapshot, None if there was none"""

    def texts(self) -> dict[str, str]:
        """These values as texts of a checkpoint, for `read_saved_run`."""
        since = {} if self.since_snapshot is None else {
            "since_snapshot": f"{self.since_snapshot:.3f}"
        }
        return {
            "rows": json.dumps(self.rows), "done": json.dumps(self.done),
            "seconds": f"{self.seconds:.3f}", "stages": self.stages, **since,
        }


def read_saved_run(path: Path, about: Mapping[str, str], runs: int, batch: int) -> SavedRun:
    """Check and read the texts of a run's checkpoint.

    Args:
        path: The checkpoint, for messages.
        about: Its texts, from `load_state`.
        runs: Number of runs of the config.
        batch: Number of runs of the state.

    Returns:
        The checked values.

    Raises:
        OutputError: A text is missing, of another type or out of range; the message names it.
    """
    rows = _indices(path, about, "rows", runs)
    done = _indices(path, about, "done", runs)
    if len(rows) != batch:
        raise OutputError(f"{path}: rows: found {len(rows)} runs, expected the state's {batch}")
    if both := sorted(set(rows) & set(done)):
        raise OutputError(f"{path}: done: run {both[0]} is unfinished, too (rows)")
    since = _seconds(path, about, "since_snapshot") if "since_snapshot" in about else None
    return SavedRun(
        rows, done, _seconds(path, about, "seconds"), about.get("stages", ""), since
    )


def _indices(path: Path, about: Mapping[str, str], key: str, runs: int) -> tuple[int, ...]:
    """A list of distinct indices below `runs`. Raises `OutputError`."""
    text = about.get(key, "nothing")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or not all(type(row) is int and 0 <= row < runs for row in found)
        or len(set(found)) < len(found)
    ):
        raise OutputError(
            f"{path}: {key}: found {text[:80]}, expected a list of indices from 0 to {runs - 1}"
        )
    return tuple(found)


def _seconds(path: Path, about: Mapping[str, str], key: str) -> float:
    text = about.get(key, "nothing")
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise OutputError(f"{path}: {key}: found {text[:80]}, expected seconds, 0 or more")
    return found


def load_state(path: Path, config: str) -> tuple[State, dict[str, str]]:
    """Read a state and check that it belongs to a config.

    Args:
        path: The checkpoint.
        config: Text of the config beside it.

    Returns:
        The state and all texts that were saved with it.

    Raises:
        OutputError: The file does not exist, is damaged, or belongs to another config.
    """
    try:
        open_input(path).close()  # refuses a pipe, on which the reader would block
    except InputError as fault:
        raise OutputError(str(fault)) from fault
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as fault:
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
        step = int(about["step"])
        alive, average = tensors["alive"], tensors.get("average")
        if step < 0 or height < 1 or width < 1:
            raise ValueError("step or size out of range")
        if alive.ndim != 1 or not len(alive) or (average is not None and average.ndim != 4):
            raise ValueError("alive or average of another shape")
        state = State(
            step, (int(height), int(width)), _below(tensors, "canvas/"), optimizer,
            average, alive.to(torch.bool), fair,
        )
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as fault:
        raise OutputError(f"{path}: is damaged ({fault})") from fault
    return state, about


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
