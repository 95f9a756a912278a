"""What was found by chance stays found: every case of the corpus, and the fuzzer itself."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import rounds
from tests.fuzz.__main__ import Row, Worker, print_table
from tests.fuzz.corpus import FOLDER, deadly, expected, kept
from tests.fuzz.guard import Limits, TooSlow, Untrue, guarded, kind, offline
from tests.fuzz.targets import TARGETS, Case, Target, run

LIMITS = Limits(seconds=20)
"""Generous: what takes too long is for `make fuzz` to find, tests run on busy machines."""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIPIG_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("CLIPIG_CHECKPOINT_SECONDS", "0")


@pytest.mark.parametrize(("name", "target", "case"), [
    pytest.param(name, target, case, id=name) for name, target, case in kept()
])
def test_a_case_of_the_corpus_holds_or_fails_as_expected(
    name: str, target: Target, case: Case, tmp_path: Path
) -> None:
    wanted = expected().get(name)
    what = ""
    if wanted is not None and wanted.dies:
        line = [sys.executable, "-m", "tests.fuzz", "--case", str(FOLDER / name)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode, "this is right now: delete its line in corpus/expected.yaml"
        assert done.returncode < 0 or wanted.finding in done.stderr
        return
    try:
        with offline():
            guarded(lambda: run(target, case, tmp_path / "case"), LIMITS)
    except Exception as fault:
        if wanted is None:
            raise
        what = kind(fault)
    if wanted is not None:
        assert what, "this is right now: delete its line in corpus/expected.yaml"
        assert what.startswith(wanted.finding)


def test_what_is_expected_is_in_the_corpus() -> None:
    assert set(expected()) <= {name for name, _, _ in kept()}
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} <= set(TARGETS)


@pytest.mark.parametrize("name", [n for n in TARGETS if not deadly(n)])
def test_a_round_finds_nothing_new(name: str, tmp_path: Path) -> None:
    count = max(5, TARGETS[name].share // 10)
    report = rounds.play(TARGETS[name], 1, count, tmp_path, LIMITS)
    assert report.cases >= count
    assert report.findings == {}


# -- the fuzzer -----------------------------------------------------------------------------------


def _target(check: object) -> Target:
    return Target("test", 1, ".txt", st.text("abc", max_size=9), check)  # type: ignore[arg-type]


def test_a_fault_is_found_and_made_small(tmp_path: Path) -> None:
    def check(case: str, folder: Path) -> None:
        if "b" in case:
            raise KeyError(case)

    report = rounds.play(_target(check), 3, 50, tmp_path, LIMITS)
    assert report.findings == {"KeyError": ("b", "KeyError: 'b'")}


def test_each_kind_of_fault_is_found(tmp_path: Path) -> None:
    def check(case: str, folder: Path) -> None:
        if "a" in case:
            raise Untrue(f"a stands at {case.index('a')}: {case}")
        if "c" in case:
            raise ZeroDivisionError

    found = rounds.play(_target(check), 3, 200, tmp_path, LIMITS).findings
    assert {k: case for k, (case, _) in found.items()} == {
        "Untrue: a stands at N": "a", "ZeroDivisionError": "c",
    }


def test_a_call_that_never_ends_is_stopped() -> None:
    def spin() -> None:
        while True:
            pass

    with pytest.raises(TooSlow, match=r"more than 0.2 s"):
        guarded(spin, Limits(seconds=0.2))
    with pytest.raises(TooSlow, match=r"nothing after 0.3 s"):
        guarded(lambda: time.sleep(1000), Limits(waiting=0.3))


MEMORY = """
import pytest
from tests.fuzz.guard import Limits, TooLarge, guarded

def fill(megabytes):
    assert len(bytearray(megabytes << 20).replace(b"\\0", b"\\1")) == megabytes << 20

with pytest.raises(TooLarge, match="MB, 50 are allowed"):
    guarded(lambda: fill(100), Limits(bytes=50 << 20))
with pytest.raises(TooLarge, match="more than 200 MB"):
    guarded(lambda: fill(1000), Limits(hard=200 << 20))
assert guarded(lambda: fill(10), Limits(bytes=50 << 20))
"""


def test_a_call_that_takes_memory_is_told() -> None:
    # in a process of its own: one that has freed much memory before takes no new one
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", MEMORY], cwd=root, check=True, timeout=120)


def test_a_process_that_dies_is_a_finding_with_its_case(tmp_path: Path) -> None:
    worker = Worker(tmp_path)

    def kill() -> None:
        while not worker.journal.read_bytes():
            time.sleep(0.01)
        worker.process.kill()

    threading.Thread(target=kill).start()
    assert worker.ask({"target": "formula", "seed": 1, "count": 100_000}) is None
    how, case = worker.end()
    assert how.startswith("ended with -9")
    assert case


def test_findings_are_printed_as_their_smallest_input(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(cases=5)
    row.find("KeyError", b"a: 1\nbb: 2", "first")
    row.find("KeyError", b"a: 1", "second")
    row.find("KeyError", b"a: 100", "third")
    row.find("Binary", b"\xff\xfe", "no text")
    print_table({"yaml": row}, 7, 1.0)
    said = capsys.readouterr().out
    assert "5 cases in 1 s, 2 findings; --seed 7" in said
    assert "yaml: KeyError\n  second\n  smallest input:\n  a: 1\n" in said
    assert "base64 //4=" in said
