"""Batches that stop and go on are the same runs as those that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clipig.config.load import load_text
from clipig.config.schema import Experiment
from clipig.engine.execution import Execution
from clipig.jobs.batches import Batch, Job, Made, make
from clipig.session import Session

PLAIN = {
    "epochs": 6,
    "resolution": 24,
    "model": "embedded",
    "init": {"mean": 0.5, "std": 0.1},
    "targets": [{
        "batch_size": 2,
        "features": [{"text": "a penguin"}],
        "transforms": [{"random_rotate": "-20 20"}, {"noise": "1/10"}],
    }],
}


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Black on the left: nothing may change there."""
    image = Image.new("L", (24, 24))
    image.paste(255, (12, 0, 24, 24))
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def experiments(more: dict[str, Any], count: int = 4) -> list[Experiment]:
    import json

    one = load_text(json.dumps({**PLAIN, **more}))
    return [one.model_copy(update={"seed": 11 + k}) for k in range(count)]


def jobs(chosen: list[Experiment]) -> tuple[Job, ...]:
    return tuple(Job(f"run-{e.seed}", e) for e in chosen)


def in_two_parts(session: Session, chosen: list[Experiment]) -> list[Made]:
    """Stopped after two steps; goes on in other company (the last runs first)."""
    first = make(session, Batch("a", jobs(chosen), until=2, keep=True))
    states = [made.state for made in first if made.state is not None]
    assert len(states) == len(chosen)
    turned = jobs(chosen)[::-1]
    return make(session, Batch("b", turned, states=tuple(states[::-1])))[::-1]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"mask": "MASK"},
        {"model": ["embedded", {"name": "embedded-judge", "weight": 0.5}]},
        {"ema": 0.8},
        {"optimizer": "adadelta", "resolution": "12 if t < .5 else 24"},
    ],
    ids=["plain", "mask", "ensemble", "ema", "growing"],
)
def test_stopped_and_continued_runs_equal_whole_ones(more: dict[str, Any], mask: Path) -> None:
    more = {**more, **({"mask": str(mask)} if "mask" in more else {})}
    chosen = experiments(more)
    whole = make(Session(device="cpu", precision="fp32"), Batch("w", jobs(chosen)))
    parts = in_two_parts(Session(device="cpu", precision="fp32"), chosen)
    for a, b in zip(whole, parts, strict=True):
        assert not a.error and not b.error
        assert a.picture is not None and b.picture is not None
        assert torch.equal(a.picture, b.picture)
        assert a.last == b.last


def test_short_runs_keep_to_the_mask(mask: Path) -> None:
    chosen = experiments({"mask": str(mask)}, 1)
    session = Session(device="cpu", precision="fp32")
    made = make(session, Batch("a", jobs(chosen), until=4))[0].picture
    start = make(session, Batch("b", jobs(chosen), until=1))[0].picture
    assert made is not None and start is not None
    assert torch.equal(made[..., :11], start[..., :11])
    assert not torch.equal(made[..., 13:], start[..., 13:])


def test_memory_options_reach_runs_that_are_stopped_early() -> None:
    session = Session(device="cpu", precision="fp32", group=1, settings=Execution(chunk=1))
    chosen = experiments({})
    seen = {len(group.rows) for group, _ in session.render(chosen, until=2)}
    assert seen == {1}
    plain = make(Session(device="cpu", precision="fp32"), Batch("a", jobs(chosen), until=3))
    small = make(session, Batch("b", jobs(chosen), until=3))
    for a, b in zip(plain, small, strict=True):
        assert a.picture is not None and b.picture is not None
        assert (a.picture.int() - b.picture.int()).abs().max() <= 1
