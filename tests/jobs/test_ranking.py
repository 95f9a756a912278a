"""Rankings: what is chosen, what survives an interruption, what can be made again alone."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from clipig.config.load import load
from clipig.config.schema import Experiment
from clipig.errors import ClipigError
from clipig.files import claim_folder, locked
from clipig.jobs.batches import Batch, Job, Scoring, make
from clipig.jobs.estimate import Estimate
from clipig.jobs.folder import Folder, RunRecord
from clipig.jobs.fresh_views import describe_look, fresh_similarity
from clipig.jobs.halving import rungs
from clipig.jobs.pace import measure
from clipig.jobs.ranking import rank
from clipig.jobs.ranking_report import agreement
from clipig.jobs.stages import Ranking, RankSettings, run_seed
from clipig.rng import derive_seed
from clipig.session import Session
from tests.support.ranking import contents, environment, invoke, table

RECIPE = """
epochs: 6
resolution: 16
model: embedded
optimizer: adam
init: {mean: .5, std: .1, resolution: 4}
targets:
  - batch_size: 3
    features:
      - text: a penguin made of piano.
    transforms:
      - pad: {size: 4, mode: edge}
      - random_rotate: {degree: -20 20, center: 0 1}
      - noise: 1/10
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def settle(experiment: Experiment, runs: int) -> list[Experiment]:
    return [experiment.model_copy(update={"seed": run_seed(7, k)}) for k in range(runs)]


def small(recipe: Path, folder: Path, **settings: Any) -> Ranking:
    experiment = load(recipe)
    wanted = {"runs": 7, "top": 2, "bottom": 1, "short_epochs": 6, "views": 6, "group": 3}
    return Ranking(
        RankSettings("small", "prompt", 7, **{**wanted, **settings}), experiment, experiment,
        Folder(folder),
    )


def test_the_best_and_the_worst_are_finished(
    recipe: Path, tmp_path: Path, session: Session
) -> None:
    folder = tmp_path / "out"
    result = invoke(
        "rank", recipe, "--runs", 7, "--top", 2, "--bottom", 1, "--short-epochs", 3,
        "--final-epochs", 5, "--batch", 3, "--seed", 7, "--views", 6, "--judge", "judge",
        "-o", folder, "-q",
    )
    assert result.exception is None, result.exception
    rows = table(folder)
    assert len(rows) == 7
    scores = {n: float(row["short"]) for n, row in rows.items()}
    order = sorted(scores, key=lambda n: -scores[n])
    finished = {n for n, row in rows.items() if row["final"]}
    assert finished == {order[0], order[1], order[-1]}
    assert [n for n in rows] == order
    assert all(row["short_held_out"] for row in rows.values())
    for row in rows.values():
        assert (folder / row["picture"]).is_file()
    assert (folder / "contact_sheet.png").is_file()
    page = (folder / "index.html").read_text()
    assert f"#{order[0]}" in page
    assert "--seed" in page
    assert f"#{order[0]}" in result.stdout


def test_seeds_are_those_of_runs(recipe: Path, tmp_path: Path, session: Session) -> None:
    ranked = rank(session, small(recipe, tmp_path))
    assert ranked.short["0000"].seed == 7
    assert ranked.short["0004"].seed == derive_seed(7, 4)
    experiment = load(recipe, overrides=["seed=7", "runs=7"])
    assert [e.seed for e in session.settle(experiment)] == [
        ranked.short[name].seed for name in sorted(ranked.short)
    ]


def test_one_run_alone_is_its_row(recipe: Path, tmp_path: Path, session: Session) -> None:
    everything = rank(session, small(recipe, tmp_path / "all"))
    one = rank(session, small(recipe, tmp_path / "one", only=(4,)))
    a, b = everything.short["0004"], one.short["0004"]
    assert list(one.short) == ["0004"]
    assert a.seed == b.seed
    assert a.fresh == pytest.approx(b.fresh, abs=1e-3)
    experiment = load(recipe, overrides=[f"seed={a.seed}"])
    result = session.run(experiment)
    from clipig.images import load_image

    kept = load_image(tmp_path / "all" / a.picture)
    assert (kept - result.images[0]).abs().max() < 0.01


def test_finals_begin_with_the_candidate(recipe: Path, tmp_path: Path, session: Session) -> None:
    from clipig.jobs.stages import final_job, short_jobs

    ranking = small(recipe, tmp_path)
    ranked = rank(session, ranking)
    row = ranked.short[ranked.best[0]]
    job = final_job(ranking, row)
    assert job.experiment.init.image == str(tmp_path / row.picture)
    restarted = small(recipe, tmp_path / "again", restart=True)
    assert final_job(restarted, row).experiment.init == ranking.final.init
    assert final_job(restarted, row).experiment.seed == row.seed
    again = rank(session, restarted)
    name = again.best[0]
    assert again.final[name].fresh == pytest.approx(again.short[name].fresh, abs=1e-3)
    assert len(short_jobs(ranking)) == 7


def test_fresh_views_are_neither_those_of_the_run_nor_of_another_seed(
    recipe: Path, session: Session
) -> None:
    runs = settle(load(recipe), 2)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    same = picture.expand(2, -1, -1, -1)
    a = fresh_similarity(session, runs, same, 6)
    assert a == fresh_similarity(session, runs, same, 6)
    assert a[0] != a[1]
    assert a != fresh_similarity(session, runs, same, 6, purpose="other")
    assert a[1] == pytest.approx(fresh_similarity(session, runs[1:], same[1:], 6)[0], abs=1e-4)
    many = fresh_similarity(session, runs, same, 600)
    assert many[0] == pytest.approx(many[1], abs=8)  # one view's deviation is 30


def test_views_are_those_of_the_last_moment_that_wants_something(session: Session) -> None:
    text = {"epochs": 10, "resolution": 16, "model": "embedded", "targets": [
        {"features": [{"text": "a"}], "end": "50%"},
        {"features": [{"text": "b", "weight": -1}]},
    ]}
    experiment = load(text).model_copy(update={"seed": 1})
    picture = torch.rand(1, 3, 16, 16)
    one = {**text, "targets": text["targets"][:1]}  # type: ignore[index]
    alone = load(one).model_copy(update={"seed": 1})
    found = fresh_similarity(session, [experiment], picture, 1)
    assert found == pytest.approx(fresh_similarity(session, [alone], picture, 1), abs=1e-4)
    nothing = load({**text, "targets": text["targets"][1:]})  # type: ignore[index]
    with pytest.raises(ClipigError, match="nothing with a positive weight"):
        fresh_similarity(session, [nothing.model_copy(update={"seed": 1})], picture, 1)


def test_a_judge_sees_the_same_picture_and_scores_otherwise(
    recipe: Path, session: Session
) -> None:
    runs = settle(load(recipe), 1)
    picture = torch.rand(1, 3, 16, 16)
    assert fresh_similarity(session, runs, picture, 6) != fresh_similarity(
        session, runs, picture, 6, "judge"
    )


@pytest.mark.parametrize(("runs", "top", "epochs"), [
    (512, 6, 20), (16, 2, 10), (7, 2, 6), (2, 1, 1), (3, 3, 5), (1, 1, 20), (1000, 1, 3),
])
def test_halving_keeps_to_the_budget(runs: int, top: int, epochs: int) -> None:
    ladder = rungs(runs, top, epochs)
    assert ladder[0].runs == runs
    assert ladder[-1].runs >= min(top, runs)
    spent, before = 0, 0
    for one in ladder:
        assert one.steps > before
        spent += one.runs * (one.steps - before)
        before = one.steps
    assert 0.9 * runs * epochs < spent <= runs * epochs
    for a, b in itertools.pairwise(ladder):
        assert b.runs == -(-a.runs // 2)


def test_halving_goes_on_where_the_run_was(recipe: Path, tmp_path: Path, session: Session) -> None:
    ladder = rungs(8, 2, 4)
    experiment = load(recipe, overrides=[f"epochs={ladder[-1].steps}"])
    settings = RankSettings("small", "p", 7, 8, 2, 1, 4, 5, views=6, halving=True, group=3)
    ranking = Ranking(settings, experiment, load(recipe), Folder(tmp_path))
    ranked = rank(session, ranking)
    assert len(ranked.short) == 8
    assert ranked.steps[ranked.best[0]] == ladder[-1].steps
    assert sorted(ranked.steps.values()) == sorted(
        one.steps for a, b in zip(ladder, [*ladder[1:], None], strict=True)
        for one in [a] * (a.runs - (b.runs if b else 0))
    )
    assert ranked.steps[ranked.worst[0]] == ladder[0].steps
    best = ranked.short[ranked.best[0]]
    whole = session.run(experiment.model_copy(update={"seed": best.seed}))
    from clipig.images import load_image

    assert (load_image(tmp_path / best.picture) - whole.images[0]).abs().max() < 0.01
    assert not list(tmp_path.rglob("*.safetensors"))


def test_states_can_change_company(recipe: Path, session: Session) -> None:
    runs = settle(load(recipe), 4)
    jobs = tuple(Job(str(k), e) for k, e in enumerate(runs))
    scoring = Scoring(None, 3)
    whole = make(session, Batch("x", jobs, scoring))
    half = make(session, Batch("x", jobs, scoring, until=3, keep=True))
    states = [m.state for m in half]
    order = [3, 1]
    rest = make(session, Batch(
        "x", tuple(jobs[i] for i in order), scoring,
        states=tuple(states[i] for i in order),  # type: ignore[misc]
    ))
    for i, m in zip(order, rest, strict=True):
        assert m.picture is not None
        assert whole[i].picture is not None
        assert (m.picture.int() - whole[i].picture.int()).abs().max() <= 1


def test_one_bad_job_does_not_stop_the_others(session: Session, recipe: Path) -> None:
    good = load(recipe)
    bad = load({**good_dict(), "targets": [
        {**good_dict()["targets"][0], "features": [{"text": "word " * 90}]}
    ]})
    jobs = tuple(
        Job(n, e.model_copy(update={"seed": 1})) for n, e in (("a", good), ("b", bad), ("c", good))
    )
    made = make(session, Batch("x", jobs, Scoring(None, 3)))
    assert [m.name for m in made] == ["a", "b", "c"]
    assert [bool(m.error) for m in made] == [False, True, False]
    assert "tokens" in made[1].error
    assert made[1].picture is None


def good_dict() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(RECIPE)
    return found


def test_a_run_that_diverges_is_reported(session: Session, recipe: Path) -> None:
    wild = load(recipe, overrides=["learnrate=1e38", "optimizer=sgd", "canvas=pyramid"])
    made = make(session, Batch("x", (Job("a", wild.model_copy(update={"seed": 1})),)))
    assert "diverged" in made[0].error
    assert made[0].fresh is None
    assert made[0].picture is not None


def test_an_interruption_loses_one_batch(
    recipe: Path, tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rank(session, small(recipe, tmp_path / "a"))
    made = []
    real = make

    def stop(session: Session, batch: Batch, tick: Any = None) -> Any:
        if len(made) == 2 and batch.name == "00002":
            raise KeyboardInterrupt
        made.append(batch.name)
        return real(session, batch, tick)

    monkeypatch.setattr("clipig.jobs.batches.make", stop)
    with pytest.raises(KeyboardInterrupt):
        rank(session, small(recipe, tmp_path / "b"))
    assert len(Folder(tmp_path / "b").rows("short")) == 6
    made.append("gone on")
    again = rank(session, small(recipe, tmp_path / "b"))
    assert made == ["00000", "00001", "gone on", "00002", "00000"]
    for name, row in whole.short.items():
        assert (row.fresh, row.last) == (again.short[name].fresh, again.short[name].last)
    assert whole.best == again.best
    assert [r.fresh for r in whole.final.values()] == [r.fresh for r in again.final.values()]


def test_a_damaged_record_is_made_again(recipe: Path, tmp_path: Path, session: Session) -> None:
    ranking = small(recipe, tmp_path)
    first = rank(session, ranking)
    path = ranking.folder.record("short", "00001")
    for text in ("", "{", '{"format": 99, "rows": []}', '{"format": 1, "rows": [{}]}', "[]"):
        path.write_text(text)
        again = rank(session, ranking)
        assert {n: r.fresh for n, r in again.short.items()} == {
            n: r.fresh for n, r in first.short.items()
        }


def test_nothing_is_overwritten(recipe: Path, tmp_path: Path, session: Session) -> None:
    words = ("rank", recipe, "--runs", 2, "--top", 1, "--bottom", 0, "--short-epochs", 1,
             "--final-epochs", 1, "--seed", 1, "--views", 3, "-q", "-o", tmp_path / "out")
    for _ in range(3):
        assert invoke(*words).exception is None
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"out", "out-2", "out-3"}
    before = contents(tmp_path / "out")
    assert invoke(*words, "--resume").exception is None
    assert contents(tmp_path / "out") == before
    empty = tmp_path / "empty"
    empty.mkdir()
    assert claim_folder(empty) == empty


def test_a_resume_refuses_other_settings(recipe: Path, tmp_path: Path, session: Session) -> None:
    words = ("rank", recipe, "--runs", 2, "--top", 1, "--bottom", 0, "--short-epochs", 1,
             "--final-epochs", 1, "--views", 3, "-q", "-o", tmp_path / "out")
    assert invoke(*words).exception is None
    assert invoke("rank", "--resume", "-q", "-o", tmp_path / "out").exception is None
    other = invoke("rank", "--resume", "--runs", 5, "-o", tmp_path / "out").exception
    assert "was begun with --runs 2, not 5" in str(other)
    settings = tmp_path / "out" / "settings.json"
    text = settings.read_text()
    settings.write_text(text.replace('"sha256:0', '"sha256:1'))
    trained = invoke("rank", "--resume", "-o", tmp_path / "out").exception
    assert "other weights" in str(trained)
    settings.write_text("{}")
    damaged = invoke("rank", "--resume", "-o", tmp_path / "out").exception
    assert isinstance(damaged, ClipigError)


def test_a_resume_refuses_other_recipes(recipe: Path, tmp_path: Path, session: Session) -> None:
    words = ("rank", recipe, "--runs", 2, "--top", 1, "--bottom", 0, "--short-epochs", 1,
             "--final-epochs", 1, "--views", 3, "-q", "-o", tmp_path / "out")
    assert invoke(*words).exception is None
    assert invoke(*words, "--resume").exception is None
    for more, key in (
        (("--text", "a red heart"), "text: saved a penguin made of piano., now a red heart"),
        (("--set", "resolution=24"), "resolution: saved 16, now 24"),
        (("--model", "judge"), "model"),
    ):
        fault = invoke(*words, "--resume", *more).exception
        assert isinstance(fault, ClipigError)
        assert key in str(fault)
        assert "for a new ranking" in str(fault)


def test_a_judge_that_guides_is_refused(recipe: Path, tmp_path: Path, session: Session) -> None:
    for name in ("rank", "grid"):
        config = recipe
        if name == "grid":
            config = tmp_path / "grid.yaml"
            config.write_text(f"axes: {{seed: [1, 2]}}\nrecipe: {recipe.name}\n")
        fault = invoke(name, config, "--judge", "embedded", "-o", tmp_path / name).exception
        assert isinstance(fault, ClipigError)
        assert "a held-out score needs another one" in str(fault)
        assert not (tmp_path / name).exists()


def test_a_ranking_is_made_by_one_process_at_a_time(
    recipe: Path, tmp_path: Path, session: Session
) -> None:
    words = ("rank", recipe, "--runs", 2, "--top", 1, "--bottom", 0, "--short-epochs", 1,
             "--final-epochs", 1, "--views", 3, "-q", "-o", tmp_path / "out")
    assert invoke(*words).exception is None
    with locked(tmp_path / "out" / ".lock", "held by the test"):
        fault = invoke(*words, "--resume").exception
    assert isinstance(fault, ClipigError)
    assert "another process is at work on this ranking" in str(fault)


def test_an_estimate_tries_as_many_runs_as_a_batch_has(
    recipe: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        "clipig.jobs.pace.estimate",
        lambda session, group: seen.append(len(group.rows)) or Estimate((1.0,), 8.0, 0),
    )
    experiments = settle(load(recipe), 8)
    assert measure(session, experiments, Scoring(None, 2)).optimising == 1.0
    assert seen == [8]


def test_dry_run_makes_nothing(recipe: Path, tmp_path: Path, session: Session) -> None:
    for more in ((), ("--halving",)):
        result = invoke("rank", recipe, "--dry-run", "--runs", 9, "-o", tmp_path / "out", *more)
        assert result.exception is None
        assert "short runs   9 x 20 epochs" in result.stdout
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "message"), [
    (("nosuch.yaml",), "nosuch.yaml"),
    (("--only", "x"), "expected numbers such as"),
    (("--only", "600"), "expected runs from 0 to 511"),
    (("--by", "held-out"), "needs a judge"),
    (("--judge", "nowhere"), "unknown model"),
    (("--text", " "), "expected a prompt"),
    (("--device", "abacus"), "unknown device"),
    (("--set", "epoch"), "expected KEY=VALUE"),
])
def test_bad_input_is_one_clear_message(
    words: tuple[str, ...], message: str, session: Session, recipe: Path
) -> None:
    first = () if words[0].endswith(".yaml") else (recipe,)
    fault = invoke("rank", *first, *words).exception
    assert isinstance(fault, ClipigError)
    assert message in str(fault)


def test_exit_codes(tmp_path: Path) -> None:
    done = run_program("rank", "nosuch.yaml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_agreement() -> None:
    one = agreement("x", [1.0, 2, 3, 4, 5], [1.0, 4, 9, 16, 25])
    assert one is not None
    assert one.spearman == pytest.approx(1)
    assert one.low == pytest.approx(1)
    assert 0.9 < one.pearson < 1
    rng = random.Random(0)
    x, y = ([rng.random() for _ in range(30)] for _ in range(2))
    from scipy.stats import pearsonr, spearmanr

    x[3] = x[4]  # ties share their rank
    two = agreement("x", x, y)
    assert two is not None
    assert two.spearman == pytest.approx(spearmanr(x, y).statistic)
    assert two.pearson == pytest.approx(pearsonr(x, y).statistic)
    assert two.low < two.spearman < two.high
    assert agreement("x", [1.0, 2], [1.0, 2]) is None
    assert agreement("x", [1.0] * 5, [1.0, 2, 3, 4, 5]) is None


def test_looks() -> None:
    grey = describe_look(torch.full((3, 8, 8), 0.5))
    assert (grey.contrast, grey.saturation, grey.detail) == (0, 0, 0)
    assert grey.brightness == pytest.approx(0.5)
    red = torch.zeros(3, 8, 8)
    red[0] = 1
    assert describe_look(red).saturation == 1
    stripes = (torch.arange(8) % 2).float().expand(3, 8, 8)
    assert describe_look(stripes).detail == pytest.approx(0.5)
    assert describe_look(torch.rand(3, 1, 1)).detail == 0


def test_rows_survive_a_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    from clipig.jobs.batches import Made

    made = [Made("a", 2**63 - 1, torch.zeros(3, 4, 4, dtype=torch.uint8), 1.0, 2.0, None,
                 describe_look(torch.zeros(3, 4, 4)), 1.0), Made("b", 0, error="no")]
    rows = folder.write("short", Batch("00000", ()), made)
    assert folder.rows("short") == {row.name: row for row in rows}
    assert isinstance(rows[0], RunRecord)


def run_program(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, env=environment(), **more
    )


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "clipig", *map(str, words)]


@pytest.mark.slow
def test_kill_and_resume_equals_an_undisturbed_run(recipe: Path, tmp_path: Path) -> None:
    words = ("rank", recipe, "--runs", 12, "--top", 2, "--bottom", 1, "--short-epochs", 8,
             "--final-epochs", 30, "--views", 6, "--batch", 2, "--seed", 5, "-q", "--resume")
    whole = run_program(*words, "-o", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "b").mkdir()
    words = (*words, "-o", "whole")
    rng = random.Random(1)
    stamps: dict[Path, int] = {}
    for attempt in range(4):
        process = subprocess.Popen(
            command(*words), cwd=tmp_path / "b", env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        records = tmp_path / "b" / "whole" / "parts"
        wanted = len(list(records.rglob("*.json"))) + 1
        while attempt < 2 and process.poll() is None:
            if len(list(records.rglob("*.json"))) >= wanted:
                time.sleep(rng.random() * 0.15)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        _, err = process.communicate()
        for path in records.rglob("*.json"):
            stamp = stamps.setdefault(path, path.stat().st_mtime_ns)
            assert stamp == path.stat().st_mtime_ns, "a complete batch was made again"
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert attempt == 2
    assert contents(tmp_path / "b" / "whole") == contents(tmp_path / "whole")
