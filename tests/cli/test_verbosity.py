"""`verbose` in a config means what its documentation says (E6); notes of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from clipig import cli
from clipig.errors import ConfigError

CONFIG = (
    "model: embedded\nepochs: 2\nresolution: 8\nseed: 1\nverbose: {}\n"
    "targets: [{{features: [{{text: 'a {{cat}}'}}]}}]\n"
)


def errors_of(folder: Path, verbose: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What `clipig run` prints on stderr."""
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(verbose))
    command = ["run", str(path), "-o", f"{folder}/out/"]
    assert cli.group.main(command, standalone_mode=False) in (None, 0)
    found = capsys.readouterr()
    assert found.out.strip().endswith(".png")
    return found.err


def test_0_prints_nothing_but_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors_of(tmp_path, 0, capsys) == ""


def test_the_table_of_targets_is_printed_from_2_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = ["weight" in errors_of(tmp_path, verbose, capsys) for verbose in (1, 2, 3)]
    assert tables == [False, True, True]


def test_blanks_that_nothing_fills_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "note: {cat} stays in the prompt" in errors_of(tmp_path, 1, capsys)


def test_a_huge_config_in_a_picture_is_refused(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("clipig config", "targets: [" + "[]," * 500_000 + "]")
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(path, pnginfo=texts)
    with pytest.raises(ConfigError, match="found a config of 1,500,011 bytes, at most 262,144"):
        cli.group.main(["reproduce", str(path)], standalone_mode=False)
