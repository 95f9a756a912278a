"""The quality benchmark: valid, equally dear recipes, and a report of what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import quality
from benchmarks.quality_recipes import ABLATIONS, RECIPES, SUBJECTS, Subject
from clipig.config.schema import Experiment
from clipig.encoders.protocol import EncoderInfo
from clipig.images import save_png
from clipig.jobs.quality import QualityRow
from clipig.plan.compiler import compile

PAIR, ALONE = Subject("cat", "pizza"), Subject("owl")


def test_subjects() -> None:
    assert len(SUBJECTS) >= 30
    assert len({s.text for s in SUBJECTS}) == len(SUBJECTS)
    assert PAIR.text == "a cat made of pizza"
    assert ALONE.text == "an owl"


@pytest.mark.parametrize("name", RECIPES | ABLATIONS)
@pytest.mark.parametrize("subject", [PAIR, ALONE])
def test_recipes_cost_the_same(name: str, subject: Subject) -> None:
    config = (RECIPES | ABLATIONS)[name](subject, 800)
    experiment = Experiment.model_validate({**config, "seed": 0, "model": "embedded"})
    plan = compile([experiment], [EncoderInfo("tiny", 64, 8)])
    views = sum(
        (p.last - p.first) * sum(t.views for t in p.targets) for p in plan.phases
    )
    assert 740 <= views <= 800
    texts = [f.text for t in experiment.targets for f in t.features]
    assert subject.text in texts


def row(rank: int) -> QualityRow:
    return QualityRow("x", 20.0, rank, 50, 1 / rank, "y", -1.0, 0.01, 0.1, 0.05)


def test_summary_pairs_by_subject() -> None:
    found = {
        "old": [(PAIR, 0, row(4)), (PAIR, 1, row(2)), (ALONE, 0, row(1))],
        "new": [(PAIR, 0, row(1)), (PAIR, 1, row(1)), (ALONE, 0, row(1))],
    }
    table = quality.summary(found, "old")
    assert table["new"]["reciprocal"] == (1.0, 1.0, 1.0)
    # seeds first: (1/4 + 1/2) / 2 = .375, then (.375 + 1) / 2
    assert table["old"]["reciprocal"][0] == pytest.approx(0.6875)  # type: ignore[index]
    assert table["new"]["gain"][0] == pytest.approx(0.3125)  # type: ignore[index]
    assert table["old"]["first"] == pytest.approx(1 / 3)
    text = quality.markdown(table, {"new": 1.5}, "old")
    assert text.index("| new |") < text.index("| old |")
    assert "1.00 (1.00 to 1.00)" in text


def test_only_missing_pictures_are_made(tmp_path: Path) -> None:
    subjects = [PAIR, ALONE]
    assert len(quality.missing(tmp_path, "pyramid", subjects, 2)) == 4
    path = quality.place(tmp_path, "pyramid", PAIR, 0)
    path.parent.mkdir()
    save_png(torch.rand(3, 8, 8), path)
    left = quality.missing(tmp_path, "pyramid", subjects, 2)
    assert len(left) == 3
    assert (PAIR, 0) not in left
    assert [len(b) for b in quality.batches(left, 1)] == [1, 1, 1]
    assert [len(b) for b in quality.batches(left, 6)] == [1, 2]


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to a report, and again without making a picture."""
    arguments = [
        "quality.py", "--out", str(tmp_path), "--subjects", "1", "--seeds", "1", "--budget", "8",
        "--recipes", "pyramid", "--judge", "embedded", "--against", "pyramid",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    quality.main()
    result = json.loads((tmp_path / "results.json").read_text())
    assert len(result["pictures"]) == 1
    assert (tmp_path / "sheet.png").exists()
    stamp = quality.place(tmp_path, "pyramid", SUBJECTS[0], 0).stat().st_mtime_ns
    quality.main()
    assert quality.place(tmp_path, "pyramid", SUBJECTS[0], 0).stat().st_mtime_ns == stamp
