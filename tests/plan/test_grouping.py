"""Which experiments share a plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clipig.config.schema import Experiment
from clipig.plan.compiler import compile
from clipig.plan.grouping import run_sets, split, timings
from tests.support.tiny_encoder import TinyEncoder

CAT = {"features": [{"text": "a cat"}], "transforms": [{"noise": 0.1}]}


def experiment(seed: int = 0, **keys: Any) -> Experiment:
    return Experiment.model_validate(
        {"epochs": 6, "resolution": 16, "targets": [CAT], "seed": seed, **keys}
    )


def noise(text: str) -> dict[str, Any]:
    return {"targets": [{**CAT, "transforms": [{"noise": text}]}]}


@pytest.mark.parametrize(("one", "other"), [
    (noise("random()*.1"), noise("random()*.3")),
    ({}, {"epochs": 7, "start_epoch": 1}),
    ({"init": {"resolution": 4}}, {"init": {"resolution": 8}}),
    ({"resolution": "8+8*t"}, {}),
])
def test_runs_that_one_plan_cannot_serve_are_kept_apart(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert split([experiment(1, **one), experiment(2, **other)]) == [[0], [1]]


def test_random_values_of_each_run_follow_its_own_formula() -> None:
    runs = [experiment(1, **noise("random()*.1")), experiment(1, **noise("random()*.3"))]
    strengths = []
    for found in run_sets(runs):
        plan = compile([runs[i] for i in found.rows], [TinyEncoder().info], found.timings)
        strengths.append(plan.phases[0].targets[0].ops[0].tables["std"].data.flatten())
    torch.testing.assert_close(3 * strengths[0], strengths[1])


def test_runs_that_time_treats_alike_share_their_timing() -> None:
    runs = [experiment(seed, output=f"{seed}/") for seed in range(5)]
    runs.append(experiment(5, learnrate=2))
    found = timings(runs)
    assert len({id(t) for t in found[:5]}) == 1 and found[5] is not found[0]
    assert split(runs) == [[0, 1, 2, 3, 4, 5]]


def test_a_timing_that_is_handed_over_gives_the_same_plan() -> None:
    runs = [experiment(seed, learnrate="1-t", resolution="8 if t<.5 else 16") for seed in (1, 2)]
    (found,) = run_sets(runs)
    infos = [TinyEncoder().info]
    ours, theirs = compile(runs, infos, found.timings), compile(runs, infos)
    assert [(p.first, p.last, p.size) for p in ours.phases] == [
        (p.first, p.last, p.size) for p in theirs.phases] == [(0, 3, (8, 8)), (3, 6, (16, 16))]
    assert ours.rates.data.equal(theirs.rates.data)
