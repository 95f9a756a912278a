"""Runs of one command: their seeds, their places in the row, and each of them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import clipig
from clipig.cli import main
from clipig.config import dump, load, load_text
from clipig.config.grid import load_grid, make_cell
from clipig.config.runs import row_keys, spread
from clipig.config.schema import Experiment
from clipig.errors import ConfigError
from clipig.images import read_metadata
from clipig.jobs import batches
from clipig.plan.grouping import split
from clipig.rng import derive_seed

MORPH: dict[str, Any] = {
    "model": "embedded", "epochs": 3, "resolution": 16, "seed": 5, "runs": 3, "seeds": "same",
    "targets": [{
        "batch_size": 2, "select": "mix", "transforms": [{"noise": {"std": [".1*row + .1*t"]}}],
        "features": [{"text": "a cat", "weight": "1 - row"}, {"text": "a lion", "weight": "row"}],
    }],
}


def weights(experiment: Experiment) -> list[object]:
    return [f.weight.plain() for f in experiment.targets[0].features]


def test_row_goes_from_0_to_1() -> None:
    runs = spread(load(MORPH))
    assert [weights(e) for e in runs] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert {(e.runs, e.row, e.seeds) for e in runs} == {(1, None, "each")}
    assert [e.seed for e in runs] == [5, 5, 5]
    assert not any(map(row_keys, runs))


def test_row_of_one_run_and_row_that_is_given() -> None:
    assert weights(spread(load(MORPH, {"runs": 1}))[0]) == [1, 0]
    for runs in (1, 3):
        found = spread(load(MORPH, {"runs": runs}, overrides=["row=1/4"]))
        assert [weights(e) for e in found] == [[0.75, 0.25]] * runs


def test_seeds() -> None:
    experiment = load(MORPH, {"seeds": "each"})
    assert [e.seed for e in spread(experiment)] == [5, derive_seed(5, 1), derive_seed(5, 2)]


def test_it_may_stand_wherever_a_formula_may() -> None:
    text = """
    seed: 1
    runs: 3
    model: [{name: a, weight: 1 + row}]
    resolution: [16 + 16*row, 16]
    learnrate: cosine
    learnrate_scale: .5 + row
    canvas: {pyramid: {levels: [1, 2]}}
    init: {mean: "[row, .5, 1 - row]", std: random()*row}
    targets:
      - batch_size: 1 + int(2*row)
        start: .2*row
        weight: 1/(row + 1)
        features: [{text: a, weight: "(row if sim < 20 else 1-row)*t"}]
        transforms: [{mul: 1-row/2}]
        constraints: [{tv: {weight: row}}]
    """
    experiment = load_text(text)
    assert set(row_keys(experiment)) == {
        "model[0].weight", "resolution", "learnrate_scale", "init.mean", "init.std",
        "targets[0].batch_size", "targets[0].start", "targets[0].weight",
        "targets[0].features[0].weight", "targets[0].transforms[0].mul.factor",
        "targets[0].constraints[0].tv.weight",
    }
    first, middle, last = spread(experiment)
    assert middle.resolution.numbers() == (24, 16)
    assert middle.init.mean.numbers() == (0.5, 0.5, 0.5)
    assert middle.init.std.random and not middle.init.std.names
    assert middle.targets[0].start.at == 0.1
    assert last.targets[0].batch_size.numbers() == (3,)
    weight = middle.targets[0].features[0].weight
    assert weight.plain() == "((1/2) if sim < 20 else 1-(1/2))*t"
    for run in (first, middle, last):
        assert not row_keys(run)
        assert load_text(dump(run)) == run


def test_the_whole_row_can_be_written_down() -> None:
    experiment = load(MORPH)
    again = load_text(dump(experiment))
    assert again == experiment and spread(again) == spread(experiment)


def test_rows_share_a_batch_unless_shapes_or_encoders_differ() -> None:
    assert split(spread(load(MORPH))) == [[0, 1, 2]]
    assert split(spread(load(MORPH, overrides=["resolution=[16+16*row, 16]"]))) == [[0], [1], [2]]
    two = ["model=[{name: embedded, weight: 1 + row}, {name: embedded}]"]
    assert split(spread(load(MORPH, overrides=two))) == [[0], [1], [2]]


def test_batched_equals_alone() -> None:
    session = clipig.Session()
    together = session.run(load(MORPH)).images
    for k, run in enumerate(session.settle(load(MORPH))):
        assert torch.equal(session.run(run).images[0], together[k])
        again = load(MORPH, {"runs": 1}, overrides=[f"row={k}/2"])
        assert torch.equal(session.run(again).images[0], together[k])
    assert not torch.equal(together[0], together[1])


def test_the_ends_are_the_prompts_alone() -> None:
    session = clipig.Session()
    plain = load(MORPH, {"runs": 1}, overrides=["targets.0.transforms.0.noise.std=.1*t"])
    alone = plain.model_copy(update={"targets": [
        plain.targets[0].model_copy(update={"features": [
            load({"targets": [{"features": [{"text": "a cat"}]}]}).targets[0].features[0]
        ]})
    ]})
    one, two = session.run(load(MORPH)).images[0], session.run(alone).images[0]
    assert torch.allclose(one, two, atol=2e-3)


def test_numbers_that_leave_their_range_are_told_with_their_run() -> None:
    experiment = load(MORPH, overrides=["targets.0.batch_size=2 - 2*row"])
    with pytest.raises(ConfigError) as caught:
        spread(experiment)
    text = str(caught.value)
    assert "targets[0].batch_size: found '2 - 2*(1)', expected a whole number from 1 to" in text
    assert "'2 - 2*row' at row 1" in text


def test_not_for_what_is_known_before_the_runs() -> None:
    with pytest.raises(ConfigError, match="'row' is not available here"):
        load(MORPH, overrides=["epochs=10*row"])
    with pytest.raises(ConfigError, match=r"row: found 2, expected a number from 0 to 1"):
        load(MORPH, overrides=["row=2"])


def test_cells_and_ranked_runs_need_to_be_told() -> None:
    session = clipig.Session()
    with pytest.raises(ConfigError) as caught:
        batches.settle(session, load(MORPH))
    assert "targets[0].features[1].weight: found `row`" in str(caught.value)
    settled = batches.settle(session, load(MORPH, overrides=["row=.25"]))
    assert weights(settled) == [0.75, 0.25]


def test_an_axis_of_a_grid_may_be_a_row(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(dump(load(MORPH)), encoding="utf-8")
    path = tmp_path / "g.yaml"
    path.write_text("axes: {row: [0, .5, 1]}\nrecipe: recipe.yaml\nseeds: same\n", encoding="utf-8")
    grid = load_grid(path)
    cells = [make_cell(grid, index, 7) for index in grid.coordinates()]
    settled = [batches.settle(clipig.Session(), c.experiment) for c in cells]
    assert [weights(e) for e in settled] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert {e.seed for e in settled} == {7}


def test_run_and_reproduce(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = tmp_path / "m.yaml", tmp_path / "out"
    recipe.write_text(dump(load(MORPH)), encoding="utf-8")
    main(["run", str(recipe), "-q", "-o", f"{out}/"])
    pictures = sorted(out.glob("m_*.png"))
    assert len(pictures) == 3
    stored = load_text(read_metadata(pictures[1])["clipig config"])
    assert weights(stored) == [0.5, 0.5] and stored.seed == 5
    assert load(out / "m.yaml") == load(MORPH), "the whole row is in the config beside the pictures"
    capsys.readouterr()
    main(["reproduce", str(pictures[1]), "-o", f"{tmp_path}/again/"])
    assert "identical" in capsys.readouterr().err


def test_the_command_line_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "m.yaml"
    recipe.write_text(dump(load(MORPH)), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["rank", str(recipe), "--dry-run"])
    told = capsys.readouterr().err
    assert "targets[0].features[1].weight: found `row`" in told and "--set row=.5" in told
    with pytest.raises(SystemExit):
        main(["run", str(recipe), "--set", "targets.0.batch_size=2 - 2*row"])
    assert "--set targets.0.batch_size: targets[0].batch_size: found" in capsys.readouterr().err
