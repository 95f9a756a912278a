"""The program `clipig` in a process of its own, with a small config that takes a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SMALL = """
model: embedded
epochs: 4
resolution: 16
seed: 3
snapshot_interval: 0
targets:
  - batch_size: 2
    features:
      - text: a red heart
    transforms:
      - random_rotate: {degree: -20 20, center: 0 1}
      - noise: .1
"""


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: this package, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def command(*words: object) -> list[str]:
    """The words that start the program."""
    return [sys.executable, "-m", "clipig", *map(str, words)]


def program(
    *words: object, cwd: Path, env: dict[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end; outputs are bytes unless told otherwise."""
    return subprocess.run(
        command(*words), cwd=cwd, env=environment(**(env or {})), timeout=120,
        **{"capture_output": True, **more},
    )


def in_shell(line: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A shell line in which `clipig` is the program: for redirections of its streams."""
    whole = line.replace("clipig", f"{sys.executable} -m clipig", 1)
    return subprocess.run(
        ["bash", "-c", whole], cwd=cwd, env=environment(**env), timeout=120, capture_output=True
    )
