"""Named learning rates: what they are at each step, and how they are written."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from clipig.config import dump, load, load_text
from clipig.config.jsonschema import json_schema
from clipig.config.schema import Experiment
from clipig.encoders import resolve
from clipig.errors import ConfigError
from clipig.ops.schedules import SCHEDULES
from clipig.plan.clock import clock_of
from clipig.plan.compiler import compile
from clipig.plan.grouping import split

STEPS = 101


def rates(text: str, **keys: object) -> list[float]:
    """The learning rate at each of 101 steps, the optimizer's base left out."""
    experiment = load({**keys, "epochs": STEPS}, overrides=[f"learnrate={text}"])
    clock = clock_of(experiment)
    assert not clock.problems
    return [c["learnrate"] / experiment.optimizer.base for c in clock.contexts]


@pytest.mark.parametrize(
    ("text", "start", "middle", "end"),
    [
        ("constant", 1, 1, 1), ("constant: .5", 0.5, 0.5, 0.5), ("linear: 2", 2, 1, 0),
        ("cosine", 1, 0.5, 0), ("exponential: 1", 1, 0.1, 0.01),
        ("cosine: {peak: .5, floor: .1}", 0.5, 0.3, 0.1),
        ("exponential: {peak: 4, floor: 1}", 4, 2, 1), ("one_cycle: {warmup: 50%}", 0.04, 1, 0),
    ],
)
def test_rates(text: str, start: float, middle: float, end: float) -> None:
    found = rates(f"{{{text}}}" if ":" in text else text)
    assert (found[0], found[50], found[100]) == pytest.approx((start, middle, end), abs=1e-9)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_warmup_rises_to_the_peak_and_then_nothing_rises(name: str) -> None:
    found = rates(f"{{{name}: {{peak: 2, warmup: 20%}}}}")
    assert found[20] == pytest.approx(max(found)) == pytest.approx(2)
    assert found[0] < 0.1
    assert all(a < b for a, b in itertools.pairwise(found[:21]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(found[20:]))
    assert all(math.isfinite(r) and r >= 0 for r in found)


def test_as_torch_has_them() -> None:
    """The field's own schedules over the same steps."""
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    last = STEPS - 1
    pairs = {
        "{cosine: {floor: .1}}": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, last, 0.1),
        "{linear: {floor: .1}}": torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, last),
        "{exponential: {floor: .1}}": torch.optim.lr_scheduler.ExponentialLR(
            optimizer, 0.1 ** (1 / last)
        ),
        "one_cycle": torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=STEPS, pct_start=31 / STEPS, cycle_momentum=False
        ),
    }
    for text, scheduler in pairs.items():
        optimizer.param_groups[0].update(lr=1.0)
        if text == "one_cycle":
            optimizer.param_groups[0].update(lr=1 / 25)
        told = []
        for _ in range(STEPS):
            told.append(optimizer.param_groups[0]["lr"])
            if len(told) < STEPS:
                optimizer.step()
                scheduler.step()
        assert rates(text) == pytest.approx(told, abs=1e-4), text


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("key", ["learnrate", "learnrate_scale"])
def test_a_schedule_is_a_formula_once_it_is_read(name: str, key: str) -> None:
    texts = [f"{key}: {name}", f"{key}: {{{name}: }}", f"{key}: {{{name}: 1}}"]
    found = [load_text(text) for text in texts]
    assert found[0] == found[1] == found[2]
    again = load_text(dump(found[0], full=True))
    assert again == found[0]
    assert getattr(again, key).names <= {"time", "time_step"}


def test_the_recipes_formula_has_a_name() -> None:
    """`.1 + .9*(.5 + .5*cos(pi*t))`, which the recipes write out."""
    assert rates("{cosine: {floor: .1}}") == pytest.approx(rates(".1 + .9*(.5 + .5*cos(pi*t))"))


def test_merging_and_overrides() -> None:
    base = {"learnrate": {"cosine": {"peak": 0.5}}}
    assert load(base, {"learnrate": "linear"}) == load({"learnrate": "linear"})
    assert load(base, {"learnrate": {"linear": None}}) == load({"learnrate": "linear"})
    assert load(base, {"learnrate": {"cosine": {"floor": 0.1}}}) == load(
        {"learnrate": {"cosine": {"peak": 0.5, "floor": 0.1}}}
    )
    assert load(base, overrides=["learnrate.cosine.floor=.1"]) == load(
        base, {"learnrate": {"cosine": {"floor": 0.1}}}
    )


def test_runs_of_a_batch_may_have_their_own() -> None:
    texts = ["cosine", "{cosine: {peak: .5, warmup: 10%}}", "{linear: .25}", ".75", "exponential"]
    runs = [run(text) for text in texts]
    assert split(runs) == [[0, 1, 2, 3, 4]]
    table = compile(runs, [resolve("embedded")]).rates
    for row, text in enumerate(texts):
        alone = compile([run(text)], [resolve("embedded")]).rates
        for step in (0, 1, 10, 19):
            assert table.at(step)[row].item() == alone.at(step)[0].item()


def test_time_is_that_of_the_whole_run_whatever_the_resolution_does() -> None:
    runs = [run("cosine"), run("cosine", resolution="16 if t < .5 else 32")]
    one, two = (compile([r], [resolve("embedded")]) for r in runs)
    assert (len(one.phases), len(two.phases)) == (1, 2)
    assert all(one.rates.at(s).equal(two.rates.at(s)) for s in range(20))


def run(text: str, resolution: str = "16") -> Experiment:
    return load(
        {"epochs": 20, "seed": 1, "targets": [{"features": [{"text": "a"}]}]},
        overrides=[f"learnrate={text}", f"resolution=[{resolution}]"],
    )


def test_the_schema_knows_them() -> None:
    known = json_schema()["$defs"]
    assert {f"schedule.{name}" for name in SCHEDULES} <= set(known)
    assert "floor" not in known["schedule.constant"]["properties"]


def test_a_negative_number_stays_allowed() -> None:
    """The article's own `learnrate` has no limits; a schedule's has."""
    assert load_text("learnrate: -1").learnrate.numbers() == (-1,)
    with pytest.raises(ConfigError, match="at least 0"):
        load_text("learnrate: {constant: -1}")
