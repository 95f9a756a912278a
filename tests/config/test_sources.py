"""What a config may be read from (D6, D11) and how much it may hold (D12, D23)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipig.config import load, load_text
from clipig.config.grid import load_grid, make_cell
from clipig.config.sources import fetch
from clipig.config.yaml_text import MAX_VALUES
from clipig.errors import ConfigError


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_device_is_no_config() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: found a device, expected a file"):
        fetch("/dev/zero")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_the_pipe_of_a_process_substitution_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"epochs: 7")
    os.close(writing)
    try:
        assert load(f"/dev/fd/{reading}").epochs.plain() == 7
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_closed_standard_input_is_one_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(ConfigError, match="<stdin>: standard input is closed"):
            load(name)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_run_without_standard_input_exits_with_2() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m clipig run - <&-', sys.executable],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("clipig: <stdin>: standard input is closed")


def test_a_config_of_too_many_values_is_refused() -> None:
    text = "a: [" + "1," * (MAX_VALUES + 1) + "]"
    with pytest.raises(ConfigError, match="found more than 250,000 values"):
        load_text(text)


def test_images_of_a_recipe_are_seen_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    (there / "a.png").touch()
    recipe = "init: {image: a.png}\nepochs: 1\ntargets: [{features: [{text: a}]}]\n"
    (there / "r.yaml").write_text(recipe)
    inline = "".join(f"  {line}\n" for line in recipe.splitlines())
    for number, text in enumerate(["recipe: there/r.yaml\n", f"recipe:\n{inline}"]):
        folder = (tmp_path, there)[number]
        (folder / "g.yaml").write_text("axes: {x: [1, 2]}\n" + text)
        cell = make_cell(load_grid(folder / "g.yaml"), (0,), 1)
        assert cell.experiment.init.image == str(there / "a.png")
