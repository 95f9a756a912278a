"""Plans that are too large are refused before the work is done; long and wide ones are planned."""

from __future__ import annotations

from typing import Any

import pytest

from clipig.config.runs import spread
from clipig.config.schema import Experiment
from clipig.errors import ConfigError
from clipig.plan import limits
from clipig.plan.compiler import compile
from clipig.plan.grouping import run_sets
from tests.support.tiny_encoder import TinyEncoder

CAT = {"features": [{"text": "a cat"}], "transforms": [{"noise": 0.1}]}
INFOS = [TinyEncoder().info]


def experiment(**keys: Any) -> Experiment:
    return Experiment.model_validate(
        {"resolution": 16, "targets": [CAT], "seed": 1, **keys}
    )


def test_ten_million_epochs_are_planned_without_a_look_at_each() -> None:
    windows = {"postproc": [{"blur": 3, "start": "25%", "end": 5_000_000}]}
    (found,) = run_sets([experiment(epochs=10_000_000, **windows)])
    assert [(s.first, s.last) for s in found.timings[0].spans] == [
        (0, 2_500_000), (2_500_000, 5_000_001), (5_000_001, 10_000_000)]
    plan = compile([experiment(epochs=10_000_000, **windows)], INFOS, found.timings)
    assert plan.rates.data.numel() == 1 and plan.time(9_999_999) == 1


def test_formulas_over_ten_million_epochs_are_refused_with_an_estimate() -> None:
    with pytest.raises(ConfigError, match=r"20,000,000 values in 10,000,000 epochs.* 3 minutes"):
        run_sets([experiment(epochs=10_000_000, learnrate="1-t",
                             targets=[{**CAT, "weight": "1+t"}])])


def test_formulas_that_differ_between_runs_are_counted_for_each(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [experiment(learnrate=f"1+{k}*t") for k in range(20)]
    assert len(run_sets(runs)) == 1
    monkeypatch.setattr(limits, "MAX_EVALUATIONS", 5999)
    with pytest.raises(ConfigError, match="6,000 values"):
        run_sets(runs)


def test_tables_of_random_values_are_refused_before_they_are_made() -> None:
    wide = {**CAT, "batch_size": 4096, "transforms": [{"noise": "random()*t"}]}
    with pytest.raises(ConfigError, match=r"4\.6 GiB"):
        compile([experiment(epochs=100_000, targets=[wide])], INFOS)


def test_experiments_of_too_many_parts_are_refused() -> None:
    many = [{"text": f"cat {k}"} for k in range(limits.MAX_PARTS)]
    with pytest.raises(ConfigError, match="expected at most 10,000"):
        run_sets([experiment(targets=[{"features": many}])])


def test_many_runs_are_planned_in_pieces_that_share_one_timing() -> None:
    found = run_sets(spread(experiment(runs=3000)))
    assert [len(s.rows) for s in found] == [1024, 1024, 952]
    assert len({id(t) for s in found for t in s.timings}) == 1
    assert [row for s in found for row in s.rows] == list(range(3000))
