"""Where a run writes: nothing is overwritten, nobody else is at work there."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from clipig.outputs.places import RunFiles, choose, claim
from tests.support.program import SMALL, command, environment, program


@pytest.mark.parametrize("name", [
    "art.png", "art.transparent.png", "art.indexed.png", "art.yaml", "art.trace.jsonl",
    "art.checkpoint", "art.webp", "art_003.png", "art_003.transparent.png", "art.svg", "ART.png",
])
def test_a_stem_is_taken_when_any_file_of_a_run_has_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("the user's")
    found = claim(RunFiles(tmp_path, "art"))
    assert found.stem == "art-2"
    assert (tmp_path / name).read_text() == "the user's"


@pytest.mark.parametrize("name", ["artist.png", "art-2x.png", "my-art.png", "art-7.png"])
def test_names_that_only_look_alike_take_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert claim(RunFiles(tmp_path, "art")).stem == "art"


def test_configs_with_names_of_another_script_have_places_of_their_own() -> None:
    assert choose(None, "猫") != choose(None, "犬")
    assert choose(None, "猫").stem == "猫"


def test_a_folder_that_vanishes_during_a_run_is_made_again_with_all_files(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 3000"))
    process = subprocess.Popen(
        command("run", "small.yaml", "-o", "out/", "-q"), cwd=tmp_path, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )
    made = tmp_path / "out/small.yaml"
    deadline = time.monotonic() + 60
    while not (made.exists() and made.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    subprocess.run(["rm", "-r", tmp_path / "out"], check=True)
    time.sleep(0.5)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert b"Traceback" not in told
    assert {"small.png", "small.yaml"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_a_run_that_is_being_made_is_resumed_by_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 100000"))
    env = {"CLIPIG_CHECKPOINT_SECONDS": "0.05"}
    process = subprocess.Popen(
        command("run", "small.yaml", "-o", "out/", "-q"), cwd=tmp_path, env=environment(**env),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out/small.checkpoint").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = program("run", "small.yaml", "-o", "out/", "--resume", cwd=tmp_path)
        assert second.returncode == 2
        assert b"is being made by another process" in second.stderr
    finally:
        process.kill()
        process.wait()
    lines = (tmp_path / "out/small.trace.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))
