"""The benchmarks run and print their tables; the figures are nobody's business here."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(("name", "arguments", "lines"), [
    ("step", ["--precision", "bf16", "--runs", "1", "2", "--seconds", "0", "--threads", "1"], 3),
    ("profile_step", ["--runs", "2", "--rounds", "1", "--rows", "5"], 7),
    ("precision", ["--runs", "2", "--epochs", "2", "--threads", "1"], 2),
    ("memory", ["--runs", "1"], 1),
])
def test_a_benchmark_prints_its_table(
    name: str, arguments: list[str], lines: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    assert all(any(c.isdigit() for c in line) for line in printed[-lines + 1:])
