"""What tests of many runs share: a session of tiny models, commands in this process, results."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipig import cli
from clipig.errors import ClipigError
from clipig.session import Session
from tests.support.tiny_encoder import TinyEncoder


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Every model is a tiny one; the name decides which."""
    def find(name: str, **_: Any) -> Any:
        if name == "nowhere":
            raise ClipigError("unknown model 'nowhere'")
        info = TinyEncoder(1 if name == "judge" else 0).info
        return type(info)(name, info.size, info.width, info.context, info.reason, info.checksum)

    def build(info: Any, *_: Any) -> Any:
        tiny = TinyEncoder(1 if info.name == "judge" else 0)
        tiny._info = info
        return tiny

    monkeypatch.setattr("clipig.encoders.resolve", find)
    monkeypatch.setattr("clipig.encoders.load", build)
    return Session()


def invoke(*words: object) -> Result:
    """A command in this process, faults as `main` shows them."""
    result = CliRunner().invoke(cli.group, [str(w) for w in words], standalone_mode=False)
    return result


def table(folder: Path) -> dict[int, dict[str, str]]:
    with (folder / "ranking.csv").open() as file:
        return {int(row["run"]): row for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[str, bytes]:
    """Pictures and scores; texts that hold a time are left out."""
    found = contents_of_pictures(folder)
    for number, row in table(folder).items():
        row.pop("seconds")
        found[f"row {number}"] = json.dumps(row).encode()
    return found


def contents_of_pictures(folder: Path) -> dict[str, bytes]:
    """The pixels of all PNG files below a folder."""
    return {
        path.relative_to(folder).as_posix(): Image.open(path).tobytes()
        for path in sorted(folder.rglob("*.png"))
    }


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
