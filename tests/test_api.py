"""The public names, and every Python and shell block of the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("clipig ")
]


def test_every_public_name_is_there() -> None:
    for name in clipig.__all__:
        assert getattr(clipig, name) is not None
    assert sorted(clipig._HOMES) == sorted(clipig.__all__)


def test_importing_clipig_imports_no_torch() -> None:
    code = "import sys, clipig, clipig.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_of_the_readme(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], "README.md", "exec"), {})


def test_readme_shows_python_and_commands() -> None:
    assert len(PYTHON) == 2
    assert len(SHELL) >= 8


@pytest.mark.parametrize("line", SHELL)
def test_commands_of_the_readme_are_understood(line: str) -> None:
    """Arguments are parsed by the real commands (running them all is the walkthrough's task)."""
    import shlex

    import click

    from clipig.cli import group

    words = shlex.split(line)[1:]
    command = group.get_command(click.Context(group), words[0])
    assert command is not None, line
    command.make_context(words[0], words[1:], resilient_parsing=False).close()
