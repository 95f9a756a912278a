"""The public names, the Python blocks of the README, and every command that a page shows."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from PIL import Image

import clipig
from clipig.cli import group
from clipig.images import read_metadata

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.S | re.M)
SHELL = sorted({
    line.split(" #")[0].strip()
    for page in PAGES
    for kind, block in FENCE.findall(page.read_text("utf-8"))
    for line in block.splitlines()
    if kind in ("", "sh") and line.startswith("clipig ")
})


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


def test_pages_show_python_and_commands() -> None:
    assert len(PYTHON) == 2
    assert len(SHELL) >= 25
    assert "clipig rank --runs 512 --top 6" in SHELL


def parsed(line: str) -> dict[str, object]:
    """The options of a command line, by the command's own parser; nothing is run or opened."""
    name, *words = shlex.split(re.sub(r"(?<= )[A-Z]+(?= |$)", "1", line))[1:]  # SEED stands for one
    command = group.get_command(click.Context(group), name)
    assert command is not None, line
    context = click.Context(command, info_name=name)
    options, _, _ = command.make_parser(context).parse_args(words)
    for param in command.params:
        plain = isinstance(param.type, click.Choice | click.types.IntParamType)
        if plain and options.get(str(param.name)) is not None:
            options[str(param.name)] = param.type_cast_value(context, options[str(param.name)])
    return options


@pytest.mark.parametrize("line", SHELL)
def test_commands_of_the_pages_are_understood(line: str) -> None:
    parsed(line)


def test_a_command_that_is_not_understood_would_be_noticed() -> None:
    for line in ("clipig run a --nope", "clipig run a --video avi", "clipig run a --epochs x"):
        with pytest.raises(click.UsageError):
            parsed(line)


def test_pictures_saved_from_python_can_be_made_again(tmp_path: Path) -> None:
    small = clipig.load_text(
        "{model: embedded, epochs: 3, resolution: 16, runs: 2, seed: 5,"
        " targets: [{features: [{text: a heart}]}]}"
    )
    result = clipig.run(small)
    paths = clipig.save(result, tmp_path / "out")
    for path, image in zip(paths, result.images, strict=True):
        texts = read_metadata(path)
        assert texts["clipig epochs"] == "3 of 3"
        again = clipig.run(clipig.load_text(texts["clipig config"]))
        assert torch.equal(again.images[0], image)


def test_a_result_shows_itself_in_a_notebook() -> None:
    one = clipig.Result(torch.rand(1, 3, 8, 8), (0.0,), (1,))
    several = clipig.Result(torch.rand(5, 3, 8, 8), (0.0,) * 5, (1,) * 5)
    for result, size in ((one, (8, 8)), (several, (32, 22))):
        shown = result._repr_png_()
        assert shown is not None
        assert Image.open(io.BytesIO(shown)).size == size
    assert [p.size for p in several.pil()] == [(8, 8)] * 5


def test_run_takes_names_and_says_what_else_it_expects() -> None:
    with pytest.raises(clipig.ConfigError, match="did you mean 'penguin_piano'"):
        clipig.run("penguin_pino")
    with pytest.raises(clipig.ClipigError, match="expected an experiment"):
        clipig.run(3)  # type: ignore[arg-type]
    with pytest.raises(clipig.ClipigError, match="model: found object"):
        clipig.run(clipig.load("pyramid"), model=object())  # type: ignore[arg-type]
