"""Grids: which cells, which prompts, what is made again and what is not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipig.config.grid import LoadedGrid, load_grid, make_cell
from clipig.errors import ClipigError, ConfigError, UsageError
from clipig.images import read_metadata
from clipig.jobs.batches import Scoring
from clipig.jobs.folder import Folder
from clipig.jobs.grid import GridRun, finished, jobs_of, make_cells, make_grid, open_batches, select
from clipig.rng import derive_seed
from clipig.session import Session
from tests.config.test_words import PLAIN_MADE_OF, PROMPTS
from tests.support.ranking import contents_of_pictures, invoke

GRID = """
title: Test
axes:
  animal: [cat, elephant]
  thing: [harp, {name: oil, words: {a thing: oil}}]
  method:
    - {name: one, recipe: tiny.yaml, text: "a {animal} made of {thing}. with {a thing}"}
    - {name: two, recipe: tiny.yaml, set: {epochs: 3}}
"""
TINY = """
epochs: 2
resolution: 16
model: embedded
targets:
  - batch_size: 2
    features:
      - text: a {animal} of {a thing}
    transforms:
      - random_shift: .1
      - resize: 16
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def prompts(loaded: LoadedGrid) -> dict[tuple[str, ...], str]:
    cells = [make_cell(loaded, index, 0) for index in loaded.coordinates()]
    return {c.labels: c.experiment.targets[0].features[0].text or "" for c in cells}


def test_cells(folder: Path) -> None:
    loaded = load_grid(folder / "grid.yaml")
    assert len(loaded.coordinates()) == 8
    assert prompts(loaded) == {
        ("cat", "harp", "one"): "a cat made of harp. with a harp",
        ("cat", "harp", "two"): "a cat of a harp",
        ("cat", "oil", "one"): "a cat made of oil. with oil",
        ("cat", "oil", "two"): "a cat of oil",
        ("elephant", "harp", "one"): "an elephant made of harp. with a harp",
        ("elephant", "harp", "two"): "an elephant of a harp",
        ("elephant", "oil", "one"): "an elephant made of oil. with oil",
        ("elephant", "oil", "two"): "an elephant of oil",
    }
    cell = make_cell(loaded, (1, 0, 1), 5)
    assert cell.experiment.epochs.plain() == 3
    assert cell.experiment.seed == derive_seed(5, "cell", "elephant", "harp", "two")
    assert set(loaded.cell_names().values()) >= {"cat-harp-one", "elephant-oil-two"}


def test_the_articles_grid_has_its_prompts() -> None:
    loaded = load_grid("grid_article")
    found = prompts(loaded)
    assert len(found) == 1620
    assert len(PROMPTS) == 90
    for (animal, thing, method), text in found.items():
        article = "an" if animal == "elephant" else "a"
        made = f"{article} {animal} made of {PLAIN_MADE_OF.get(thing, thing)}."
        texture = f" {article} {animal} with the texture of {PROMPTS[thing]}."
        assert text == (made + texture if method == "method 1" else made)
    first, second = (make_cell(loaded, (0, 0, k), 0).experiment for k in (0, 1))
    assert (first.epochs.plain(), second.epochs.plain()) == (200, 300)


def test_the_small_grid_speaks_of_each_part() -> None:
    loaded = load_grid("grid_small")
    assert len(loaded.coordinates()) == 24
    cell = make_cell(loaded, (3, 2), 0)
    texts = {f.text for t in cell.experiment.targets for f in t.features if f.text}
    assert "an elephant made of avocado" in {t.rstrip(".") for t in texts}
    assert any(t.startswith("an elephant") and "avocado" not in t for t in texts)


def test_any_key_can_be_an_axis(tmp_path: Path) -> None:
    lines = TINY.replace("{a thing}", "a {thing}").strip().splitlines()
    (tmp_path / "g.yaml").write_text(
        "axes:\n  seed: [1, 2]\n  learnrate: [.5, 't']\n  targets.0.batch_size: [3, 4]\n"
        f"recipe:\n{''.join('  ' + line + chr(10) for line in lines)}"
        "  let: {animal: cat, thing: harp}\nset: {epochs: 4}\nlet: {thing: oil}\n"
    )
    loaded = load_grid(tmp_path / "g.yaml")
    cell = make_cell(loaded, (1, 1, 0), 0).experiment
    assert cell.seed == 2
    assert cell.learnrate.plain() == "t"
    assert cell.targets[0].batch_size.plain() == 3
    assert cell.epochs.plain() == 4
    assert cell.targets[0].features[0].text == "a cat of an oil"
    same = loaded.grid.model_copy(update={"seeds": "same"})
    assert same.seeds == "same"


def test_grid_seed_is_not_that_of_other_cells(folder: Path) -> None:
    text = GRID + "seeds: same\n"
    (folder / "same.yaml").write_text(text)
    loaded = load_grid(folder / "same.yaml")
    assert {make_cell(loaded, i, 9).experiment.seed for i in loaded.coordinates()} == {9}
    (folder / "tiny.yaml").write_text(TINY + "seed: 4\n")
    each = load_grid(folder / "grid.yaml")
    assert len({make_cell(each, i, 9).experiment.seed for i in each.coordinates()}) == 8


@pytest.mark.parametrize(("text", "message"), [
    ("recipe: tiny.yaml", "axes"),
    ("axes: {}", "no axes"),
    ("axes: {a: []}", "without values"),
    ("axes: {a: [1, 1]}\nrecipe: tiny.yaml", "'1' twice"),
    ("axes: {a: [1]}\nrecpie: tiny.yaml", "grid.yaml:2:1: recpie: found an unknown key; did you"),
    ("axes: {a: [1, {name: x, txt: y}]}", "an unknown key; did you mean 'text'"),
    ("targets: []", "this looks like a config"),
    ("axes: {a: [1]}\nrecipe: tiny.yaml\ntext: a {b}", "grid.yaml:3:7: found the unknown blank"),
    ("axes: {a: [[1]]}", "a mapping with `name`"),
    ("axes: {a: [{recipe: x}]}", "without `name`"),
    ("axes: [a]", "grid.yaml"),
    ("axes: {a: [1], b: [1", "grid.yaml"),
    ("axes:\n  a: [1]\n  a: [2]\n", "grid.yaml:3:3"),
    ("axes: {a: " + str(list(range(400))) + ", b: " + str(list(range(400))) + "}", "160000 cells"),
    ("", "axes"),
])
def test_bad_grids(folder: Path, text: str, message: str) -> None:
    (folder / "grid.yaml").write_text(text)
    with pytest.raises(ConfigError) as e:
        load_grid(folder / "grid.yaml")
    assert message in str(e.value)


@pytest.mark.parametrize(("text", "message"), [
    ("axes: {a: [1]}", "no recipe"),
    ("axes: {a: [1]}\nrecipe: nosuch.yaml", "nosuch.yaml"),
    ("axes: {a: [1]}\nrecipe: tiny.yaml\nset: {epoch: 3}", "epoch"),
    ("axes: {learnrate: [fast]}\nrecipe: tiny.yaml", "learnrate"),
    ("axes: {a: [1]}\nrecipe: bad.yaml", "bad.yaml:2:9"),
    ("axes: {a: [1]}\nrecipe: {epochs: x}", "epochs"),
])
def test_bad_cells(folder: Path, text: str, message: str, session: Session) -> None:
    (folder / "bad.yaml").write_text("resolution: 8\nepochs: many\n")
    (folder / "grid.yaml").write_text(text)
    fault = invoke("grid", folder / "grid.yaml", "-o", folder / "out").exception
    assert isinstance(fault, ConfigError)
    assert message in str(fault)
    assert not (folder / "out").exists()


def test_selection(folder: Path) -> None:
    loaded = load_grid(folder / "grid.yaml")
    assert len(select(loaded, ["animal=cat"])) == 4
    assert len(select(loaded, ["animal=cat", "thing=harp,oil", "method=one"])) == 2
    assert len(select(loaded, ["animal=cat", "animal=elephant"])) == 8
    parts = [select(loaded, shard=f"{i}/3") for i in (1, 2, 3)]
    assert sorted(index for part in parts for index in part) == loaded.coordinates()
    assert len(select(loaded, limit=3)) == 3
    for bad in (["anmal=cat"], ["animal=cta"], ["animal"]):
        with pytest.raises(UsageError, match="--only"):
            select(loaded, bad)
    for shard in ("0/3", "4/3", "x", "1/0"):
        with pytest.raises(UsageError, match="--shard"):
            select(loaded, shard=shard)


def run_of(folder: Path, name: str = "grid.yaml", out: str = "out") -> GridRun:
    return GridRun(load_grid(folder / name), 3, Folder(folder / out), Scoring(None, 4), 3)


def make_all(session: Session, run: GridRun, limit: int | None = None) -> Any:
    jobs = jobs_of(session, make_cells(session, run, run.loaded.coordinates()))[:limit]
    rows: Any = {}
    for rows in make_grid(session, run, jobs):  # noqa: B007
        pass
    return rows


def test_what_is_done_stays(folder: Path, session: Session) -> None:
    run = run_of(folder)
    jobs = jobs_of(session, make_cells(session, run, run.loaded.coordinates()))
    assert len(open_batches(run, jobs)[0]) == 4
    rows = make_all(session, run)
    assert len(rows) == 8
    assert open_batches(run, jobs)[0] == []
    (folder / "grid.yaml").write_text(GRID.replace("[cat, elephant]", "[cat, elephant, pig]"))
    wider = run_of(folder)
    more = jobs_of(session, make_cells(session, wider, wider.loaded.coordinates()))
    left = [job.name for batch in open_batches(wider, more)[0] for job in batch.jobs]
    assert sorted(left) == sorted(j.name for j in more if j.name.startswith("pig"))
    (folder / "grid.yaml").write_text(GRID.replace("epochs: 3", "epochs: 4"))
    changed = run_of(folder)
    other = jobs_of(session, make_cells(session, changed, changed.loaded.coordinates()))
    assert len(finished(changed, other)) == 4


def test_cells_do_not_depend_on_their_company(folder: Path, session: Session) -> None:
    rows = make_all(session, run_of(folder))
    alone = make_all(session, run_of(folder, out="alone"), limit=1)
    name = next(iter(alone))
    assert alone[name].seed == rows[name].seed
    assert alone[name].fresh == pytest.approx(rows[name].fresh, abs=1e-3)


def test_a_failed_cell_is_reported(folder: Path, session: Session) -> None:
    long = "word " * 90
    (folder / "grid.yaml").write_text(
        f"axes:\n  thing: [harp, {{name: long, words: {{thing: {long}}}}}, oil]\n"
        "recipe: tiny.yaml\ntext: '{thing}'\n"
    )
    out = folder / "out"
    result = invoke("grid", folder / "grid.yaml", "-o", out, "--views", 4, "--seed", 1)
    assert result.exception is None, result.exception
    assert "failed: long" in result.stderr
    assert "tokens" in result.stderr
    assert {p.stem for p in (out / "pictures").glob("*.png")} == {"harp", "oil"}
    data = (out / "data.js").read_text()
    assert '"failed"' in data
    again = invoke("grid", folder / "grid.yaml", "-o", out, "--resume")
    assert "0 steps" not in again.stderr
    assert "failed: long" in again.stderr


def test_the_command(folder: Path, session: Session) -> None:
    out = folder / "out"
    words = ("grid", folder / "grid.yaml", "-o", out, "--views", 4, "--seed", 1, "-q")
    plan = invoke(*words, "--dry-run")
    assert "cells    8 of 8" in plan.stdout
    assert not out.exists()
    result = invoke(*words, "--only", "animal=cat")
    assert result.exception is None, result.exception
    assert result.stdout.strip() == str(out / "index.html")
    assert len(list((out / "pictures").glob("*.png"))) == 4
    data = (out / "data.js").read_text()
    cells = json.loads(data[data.index('{"format"') : data.rindex(";")])["cells"]
    assert sorted(c[1] for c in cells) == ["done"] * 4 + ["missing"] * 4
    assert invoke(*words, "--resume").exception is None
    assert len(list((out / "pictures").glob("*.png"))) == 8
    assert {p.name for p in out.glob("contact_sheet*.png")} == {
        "contact_sheet_one.png", "contact_sheet_two.png",
    }
    assert invoke(*words).exception is None
    assert (folder / "out-2" / "index.html").is_file()
    a, b = (contents_of_pictures(folder / name / "pictures") for name in ("out", "out-2"))
    assert a == b
    other = invoke("grid", folder / "grid.yaml", "-o", out, "--seed", 2, "--resume").exception
    assert isinstance(other, UsageError)


def test_pictures_can_be_made_again(folder: Path, session: Session) -> None:
    out = folder / "out"
    invoke("grid", folder / "grid.yaml", "-o", out, "--views", 4, "--seed", 1, "-q")
    picture = out / "pictures" / "cat-harp-two.png"
    result = invoke("reproduce", picture, "-o", f"{folder}/again/")
    assert result.exception is None, result.exception
    assert "identical" in result.stderr


def test_unknown_grid() -> None:
    fault = invoke("grid", "grid_smal").exception
    assert isinstance(fault, ClipigError)
    assert "grid_small" in str(fault)


@pytest.mark.slow
def test_kill_and_resume_equals_an_undisturbed_run(folder: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "clipig", "grid", "grid.yaml", "--views", "4", "--seed", "1",
               "-q", "--batch", "1", "--resume", "-o"]
    subprocess.run([*command, "whole"], cwd=folder, env=environment, check=True,
                   capture_output=True)
    records = folder / "b" / "parts"
    rng = random.Random(2)
    stamps: dict[Path, int] = {}
    for attempt in range(3):
        process = subprocess.Popen(
            [*command, "b"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        wanted = len(list(records.rglob("*.json"))) + 2
        while attempt < 2 and process.poll() is None:
            if len(list(records.rglob("*.json"))) >= wanted:
                time.sleep(rng.random() * 0.1)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        process.wait()
        for path in records.rglob("*.json"):
            stamp = stamps.setdefault(path, path.stat().st_mtime_ns)
            assert stamp == path.stat().st_mtime_ns, "a complete batch was made again"
    assert process.returncode == 0
    assert contents_of_pictures(folder / "b/pictures") == contents_of_pictures(
        folder / "whole/pictures"
    )


def test_options_of_the_command_line_change_every_cell(folder: Path, session: Session) -> None:
    out = folder / "out"
    done = invoke("grid", folder / "grid.yaml", "-o", out, "--views", 4, "--seed", 1, "-q",
                  "--text", "a {thing} and a {animal}", "-e", 1, "-r", "24x16",
                  "--set", "targets.0.batch_size=5", "--only", "animal=cat")
    assert done.exception is None, done.exception
    for path in (out / "pictures").glob("*.png"):
        texts = read_metadata(path)
        assert texts["clipig epochs"] == "1 of 1"
        assert texts["Description"] in ("a harp and a cat", "an oil and a cat", "oil and a cat")
        assert "batch_size: 5\n" in texts["clipig config"]
        assert Image.open(path).size == (24, 16)
    fault = invoke("grid", folder / "grid.yaml", "--set", "epochs").exception
    assert "expected KEY=VALUE" in str(fault)
