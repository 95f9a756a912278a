"""Checkpoint files: what was tampered with is one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipig.engine.state import State
from clipig.errors import OutputError
from clipig.outputs.checkpoints import (
    FORMAT,
    SavedRun,
    fingerprint,
    load_state,
    read_saved_run,
    save_state,
)
from clipig.outputs.pictures import cut_trace

STATE = State(
    3, (8, 8), {"pixels": torch.zeros(2, 3, 8, 8)}, {}, torch.zeros(2, 3, 8, 8),
    torch.ones(2, dtype=torch.bool),
)
ABOUT = SavedRun((1, 2), (0,), 4.5, "epochs 20 until step 7", 1.25).texts()
HERE = Path("a.checkpoint")


def test_a_saved_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_state(tmp_path / "a", STATE, "epochs: 5", ABOUT)
    state, about = load_state(tmp_path / "a", "epochs: 5")
    assert state.step == 3
    assert state.size == (8, 8)
    assert read_saved_run(HERE, about, 4, 2) == SavedRun(
        (1, 2), (0,), 4.5, "epochs 20 until step 7", 1.25
    )


@pytest.mark.parametrize(("key", "text"), [
    ("rows", "[-1, 2]"), ("rows", "[1, 4]"), ("rows", "[1, 1]"), ("rows", "[1]"), ("rows", "x"),
    ("rows", "[true, 2]"), ("rows", "[1.0, 2]"), ("rows", "{}"), ("rows", "[" * 10000),
    ("done", "[1]"), ("done", "[-1]"), ("done", "null"), ("done", "7"),
    ("seconds", "soon"), ("seconds", "nan"), ("seconds", "-1"), ("seconds", "inf"),
    ("since_snapshot", "nan"),
])
def test_a_value_that_was_tampered_with_is_named(key: str, text: str) -> None:
    with pytest.raises(OutputError, match=f"{HERE}: {key}: "):
        read_saved_run(HERE, {**ABOUT, key: text}, 4, 2)


@pytest.mark.parametrize("key", ["rows", "done", "seconds"])
def test_a_value_that_is_missing_is_named(key: str) -> None:
    about = {k: v for k, v in ABOUT.items() if k != key}
    with pytest.raises(OutputError, match=f"{key}: found nothing"):
        read_saved_run(HERE, about, 4, 2)


@pytest.mark.parametrize("change", [
    {"step": "x"}, {"step": "-1"}, {"step": "9" * 5000}, {"size": "[8]"}, {"size": "8"},
    {"size": "[0, 8]"}, {"size": '["a", 8]'}, {"size": "[1e999, 8]"},
])
def test_a_state_with_texts_of_another_type_is_damaged(
    tmp_path: Path, change: dict[str, str]
) -> None:
    about = {"format": FORMAT, "step": "3", "size": "[8, 8]", "config": fingerprint("")}
    save_file({"alive": torch.ones(2)}, tmp_path / "a", {**about, **change})
    with pytest.raises(OutputError, match="is damaged"):
        load_state(tmp_path / "a", "")


@pytest.mark.parametrize("tensors", [
    {"other": torch.ones(2)}, {"alive": torch.tensor(True)}, {"alive": torch.ones(0)},
    {"alive": torch.ones(2), "average": torch.tensor(1.0)},
    {"alive": torch.ones(2), "fair/a/b": torch.ones(2)},
])
def test_a_state_with_tensors_missing_or_of_another_shape_is_damaged(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    about = {"format": FORMAT, "step": "3", "size": "[8, 8]", "config": fingerprint("")}
    save_file(tensors, tmp_path / "a", about)
    with pytest.raises(OutputError, match="is damaged"):
        load_state(tmp_path / "a", "")


def test_a_checkpoint_that_is_no_file_or_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(os.urandom(64))
    (tmp_path / "empty").touch()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for name in ("junk", "empty", "missing", ".", "pipe"):
        with pytest.raises(OutputError):
            load_state(tmp_path / name, "")


def test_a_trace_keeps_its_records_and_drops_what_is_none(tmp_path: Path) -> None:
    trace = tmp_path / "a.jsonl"
    good = [json.dumps({"epoch": e}) for e in range(5)]
    trace.write_bytes(b"\n".join([good[0].encode(), b"\xff\x00\xfe", b"[1]", b"7", *(
        line.encode() for line in good
    ), b'{"epo']))
    cut_trace(trace, 3)
    assert trace.read_text().splitlines() == good[:3]
    cut_trace(tmp_path / "missing", 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_trace_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="found a pipe"):
        cut_trace(tmp_path / "pipe", 3)
