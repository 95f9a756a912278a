"""The clock: values that follow time, windows, random numbers from the seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clipig.config.load import load
from clipig.config.schema import Experiment
from clipig.errors import ConfigError
from clipig.ops.base import Moment
from clipig.plan.clock import Clock, clock_of, epochs_of
from clipig.plan.compiler import compile
from clipig.plan.grouping import split
from clipig.plan.plan import Plan
from tests.support.tiny_encoder import TinyEncoder

CAT = {"features": [{"text": "a cat"}]}


def experiment(seed: int = 0, **keys: Any) -> Experiment:
    return Experiment.model_validate(
        {"epochs": 10, "resolution": 16, "targets": [CAT], "seed": seed, **keys}
    )


def plan(*experiments: Experiment) -> Plan:
    return compile(experiments, [TinyEncoder().info])


@pytest.mark.parametrize(("start", "end"), [
    (0, 4), (3, 3), (2, 100), (9, 9), (0.0, 0.5), (1 / 3, 2 / 3), (0.5, 0.5), (1.0, 1.0),
    (2, 0.5), (0.25, 7), (8, 2),
])
@pytest.mark.parametrize("first", [0, 4])
def test_a_window_holds_the_steps_between_its_ends(
    start: float, end: float, first: int
) -> None:
    clock = Clock(10, first)

    def not_yet(moment: float, epoch: int) -> bool:
        return (epoch if isinstance(moment, int) else epoch / 9) < moment

    def over(moment: float, epoch: int) -> bool:
        return (epoch if isinstance(moment, int) else epoch / 9) > moment

    expected = [e - first for e in range(first, 10) if not not_yet(start, e) and not over(end, e)]
    found = clock.active(Moment(start), Moment(end), "")
    assert [s for s in range(len(clock)) if s in found] == expected


def test_a_window_may_be_a_formula() -> None:
    clock = Clock(10, 0)
    found = clock.active(Moment.read("t/2 + .25"), Moment(1.0), "")
    assert found == frozenset(range(5, 10)) and not clock.problems


@pytest.mark.parametrize(("keys", "key"), [
    ({"targets": [{**CAT, "batch_size": "8 + (1e308*(t+10) - 1e308*(t+10))"}]},
     "targets[0].batch_size"),
    ({"resolution": "16 + (1e308*(t+10) - 1e308*(t+10))"}, "resolution"),
    ({"targets": [{**CAT, "transforms": [{"pad": "1e308*(t+10) - 1e308*(t+10)"}]}]},
     "targets[0].transforms[0].pad.size"),
    ({"targets": [{**CAT, "start": "1e308*(t+10) - 1e308*(t+10)"}]}, "targets[0].start"),
    ({"targets": [{**CAT, "end": "[t, t]"}]}, "targets[0].end"),
])
def test_a_formula_without_a_usable_value_is_told_with_its_key_and_epoch(
    keys: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match="at epoch 0") as caught:
        plan(experiment(**keys))
    assert [p.key for p in caught.value.problems] == [key]


RANDOM: dict[str, dict[str, Any]] = {
    "learnrate": {"learnrate": "random()"},
    "learnrate over time": {"learnrate": "random()*(1-t) + .1"},
    "learnrate_scale": {"learnrate_scale": "uniform(.5, 2)"},
    "resolution": {"resolution": "randint(8, 400)"},
    "batch_size": {"targets": [{**CAT, "batch_size": "randint(1, 2000)"}]},
    "start": {"targets": [{**CAT, "start": "random()/2"}], "epochs": 1000},
    "end": {"targets": [{**CAT, "end": ".1 + random()/2"}], "epochs": 1000},
    "epochs": {"epochs": "randint(10, 2000)"},
}


def shapes(of: Experiment) -> object:
    made = plan(of)
    return (made.steps, made.rates.data.tolist(),
            [(p.first, p.last, p.size, [(t.views, t.repeats) for t in p.targets])
             for p in made.phases])


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_drawn_from_the_seed(name: str) -> None:
    keys = RANDOM[name]
    drawn = {repr(shapes(experiment(seed, **keys))) for seed in range(8)}
    assert len(drawn) > 4
    assert shapes(experiment(3, **keys)) == shapes(experiment(3, **keys))


def test_a_random_learnrate_is_one_number_unless_it_depends_on_time() -> None:
    once, each = (clock_of(experiment(1, learnrate=text)) for text in ("random()", "random()+0*t"))
    assert len({once.learnrate(s) for s in range(10)}) == 1
    assert len({each.learnrate(s) for s in range(10)}) == 10


def test_runs_keep_their_random_numbers_in_a_batch() -> None:
    runs = [experiment(seed, learnrate="random()*(1-t)+.1") for seed in (1, 2, 3)]
    together = plan(*runs).rates
    for row, run in enumerate(runs):
        alone = plan(run).rates
        assert all(alone.at(s)[0].equal(together.at(s)[row]) for s in range(10))


def test_runs_of_random_sizes_do_not_share_a_plan() -> None:
    runs = [experiment(seed, resolution="randint(8, 400)") for seed in (1, 2, 1)]
    assert split(runs) == [[0, 2], [1]]


def test_random_epochs_must_be_in_range() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        epochs_of(experiment(epochs="randint(-9, -1)"))


@pytest.mark.parametrize(("name", "field", "text"), [
    ("noise", "std", ".1-.2*t"), ("bwnoise", "std", ".1-.2*t"),
    ("uniform_noise", "std", ".1-.2*t"), ("rnoise", "std", ".1-.2*t"),
    ("fnoise", "std", ".1-.2*t"), ("pad", "size", "4 - 8*t"), ("border", "size", "4 - 8*t"),
    ("blur", "kernel_size", "3 - 9*t"), ("blur", "sigma", "1 - 2*t"),
    ("edge", "kernel_size", "3 - 9*t"), ("edge", "sigma", "1 - 2*t"),
    ("saturation", "factor", "1 - 2*t"), ("contrast", "factor", "1 - 2*t"),
    ("random_contrast", "factor", "1 - 2*t"), ("color_jitter", "brightness", ".1-.2*t"),
])
def test_a_strength_or_size_that_a_formula_takes_below_0_is_0(
    name: str, field: str, text: str
) -> None:
    extra = {"resolution": 8} if name == "rnoise" else {}
    transforms = [{name: {field: text, **extra}}]
    made = plan(experiment(targets=[{**CAT, "transforms": transforms}]))
    last = made.phases[-1].targets[0].ops[0].at(9)
    value = getattr(last, field)
    assert set(value if isinstance(value, tuple) else value.flatten().tolist()) == {0}
    with pytest.raises(ConfigError, match="found -1"):
        load({"targets": [{**CAT, "transforms": [{name: {field: -1, **extra}}]}]})


def test_a_random_strength_below_0_is_0() -> None:
    transforms = [{"noise": "random()*t-.5*t"}]
    made = plan(experiment(targets=[{**CAT, "transforms": transforms}]))
    std = torch.cat([made.phases[0].targets[0].ops[0].at(s).std.flatten() for s in range(10)])
    assert float(std.min()) == 0 < float(std.max())


def test_an_empty_entry_is_no_transform() -> None:
    found = load({"targets": [{**CAT, "transforms": [{}, {"blur": 3}, {}]}], "postproc": []})
    assert [op.name for op in found.targets[0].transforms] == ["blur"]


@pytest.mark.parametrize("options", [{}, {"magnitude": "fixed"}])
@pytest.mark.parametrize("resolution", [1, 2])
def test_a_fourier_canvas_without_waves_is_refused(
    options: dict[str, str], resolution: int
) -> None:
    with pytest.raises(ConfigError, match=r"canvas: found a grid of .* waves"):
        plan(experiment(canvas={"fourier": options}, resolution=resolution))
    plan(experiment(canvas={"fourier": options}, resolution="3 1"))

