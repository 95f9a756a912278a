"""Whatever is done with stdin, stdout and stderr: the picture is kept, nothing is a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import torch

from clipig.cli.streams import printable
from clipig.files import csv_cell
from clipig.images import read_metadata, save_png
from tests.support.program import SMALL, in_shell, program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.parametrize("closing", ["2>&-", ">&-", ">&- 2>&- <&-"])
def test_a_run_with_closed_streams_makes_its_picture(folder: Path, closing: str) -> None:
    done = in_shell(f"clipig run small.yaml -o out/ {closing}", folder)
    assert done.returncode == 0, done.stderr
    assert read_metadata(folder / "out/small.png")["clipig seed"] == "3"
    assert (folder / "out/small.yaml").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_one_message(folder: Path) -> None:
    done = in_shell("clipig run small.yaml -o out/ -q > /dev/full", folder)
    assert done.returncode == 2
    assert b"the output cannot be written: no space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert (folder / "out/small.png").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_an_emoji_in_a_prompt_is_escaped_where_the_encoding_lacks_it(
    folder: Path, encoding: str
) -> None:
    (folder / "small.yaml").write_text(SMALL.replace("a red heart", "a penguin \U0001f427"))
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    assert program("run", "small.yaml", "-o", "a.png", "-q", cwd=folder, env=env).returncode == 0
    for words in (("info", "a.png"), ("run", "small.yaml", "--dry-run"),
                  ("rate", "a.png", "-t", "a penguin \U0001f427", "-m", "embedded")):
        done = program(*words, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        assert b"\\U0001f427" in done.stdout, words


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_file_name_that_is_no_text_costs_no_result(folder: Path) -> None:
    (folder / "in").mkdir()
    save_png(torch.zeros(3, 8, 8), folder / "a.png")
    shutil.copy(folder / "a.png", os.fsencode(folder / "in") + b"/caf\xe9.png")
    done = program("rate", "in", "-t", "a heart", "-m", "embedded", "--json", "r.json",
                   "--csv", "r.csv", "--html", "page", cwd=folder)
    assert done.returncode == 0, done.stderr
    names = [i["image"] for i in json.loads((folder / "r.json").read_text())["images"]]
    assert names == ["in/caf\udce9.png"]
    assert "caf" in (folder / "r.csv").read_text()
    page = (folder / "page/index.html").read_text()
    assert "caf" in page  # its name is shown
    link = next(part for part in page.split('"') if part.startswith("pictures/"))
    assert os.path.exists(os.fsencode(folder / "page") + b"/" + unquote_to_bytes(link))


def test_metadata_are_shown_and_not_sent_to_the_terminal(folder: Path) -> None:
    evil = "\x1b]0;owned\x07 a\u202eb\u2066 \x9b2J tab\there"
    texts = {"clipig config": f"epochs: 1 # {evil}\n", "clipig model": evil, "Author": evil}
    save_png(torch.zeros(3, 4, 4), folder / "evil.png", texts)
    for more in ((), ("--config",), ("--json",)):
        shown = program("info", "evil.png", *more, cwd=folder).stdout.decode()
        assert not {"\x1b", "\x07", "\u202e", "\u2066", "\x9b"}.intersection(shown), more
        assert "owned" in shown


def test_printable_keeps_lines_and_tabs() -> None:
    assert printable("a\tb\nc é 猫") == "a\tb\nc é 猫"
    assert printable("\x1b[31m\x00\udcff") == "\\x1b[31m\\x00\\udcff"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_csv_cell_is_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text)])
    assert next(csv.reader(io.StringIO(out.getvalue(), newline="")))[0] == f"'{text}"
    assert csv_cell("a=b") == "a=b"


@pytest.mark.parametrize(("level", "bar", "table"), [
    (0, False, False), (1, True, False), (2, True, True), (3, True, True),
])
def test_verbose_says_as_much_as_its_number(
    folder: Path, level: int, bar: bool, table: bool
) -> None:
    told = program("run", "small.yaml", "--set", f"verbose={level}", "-o", "o/", cwd=folder)
    said = told.stderr.decode()
    assert ("epoch 4/4" in said) is bar
    assert ("a red heart" in said) is table
    assert told.stdout.decode().strip() == str(Path("o/small.png"))
    if level == 0:
        assert said == ""
