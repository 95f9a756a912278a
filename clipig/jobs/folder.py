"""A folder of many runs: images, thumbnails and a record of every complete batch.

A batch is complete once its record exists. The record is written last and atomically, so
whatever ends the program (Ctrl-C, kill -9, power loss) loses only the batches that were
running.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clipig.engine.state import State, join_states, split_state
from clipig.files import atomic_write, make_folder
from clipig.images import save_png, to_bytes
from clipig.jobs.batches import Batch, Made
from clipig.jobs.fresh_views import Look
from clipig.outputs.checkpoints import load_state, save_state

THUMB = 112
FORMAT = 1


@dataclass(frozen=True)
class RunRecord:
    """One finished job as stored in a record."""

    name: str
    seed: int
    last: float | None
    fresh: float | None
    held_out: float | None
    look: Look | None
    seconds: float
    error: str
    picture: str
    thumb: str
    """path relative to the folder, or empty; likewise `picture`"""
    key: str = ""


@dataclass(frozen=True)
class Folder:
    """Files of many runs below `root`, by stage, for example `short` and `final`."""

    root: Path

    def picture(self, stage: str, name: str) -> Path:
        return self.root / stage / f"{name}.png"

    def thumb(self, stage: str, name: str) -> Path:
        return self.root / "thumbs" / stage / f"{name}.jpg"

    def record(self, stage: str, batch: str) -> Path:
        return self.root / "parts" / stage / f"{batch}.json"

    def states(self, stage: str, batch: str) -> Path:
        return self.root / "parts" / stage / f"{batch}.safetensors"

    def write(self, stage: str, batch: Batch, made: Sequence[Made]) -> list[RunRecord]:
        """Write the results of a batch, its record last. Raises `OutputError`."""
        rows = []
        for m in made:
            picture, thumb = self.picture(stage, m.name), self.thumb(stage, m.name)
            if m.picture is not None:
                make_folder(picture.parent)
                make_folder(thumb.parent)
                save_png(m.picture.float() / 255, picture, m.texts, overwrite=True)
                save_thumb(m.picture.float() / 255, thumb)
            there = m.picture is not None
            rows.append(RunRecord(
                m.name, m.seed, m.last, m.fresh, m.held_out, m.look, round(m.seconds, 3), m.error,
                picture.relative_to(self.root).as_posix() if there else "",
                thumb.relative_to(self.root).as_posix() if there else "", m.key,
            ))
        record = self.record(stage, batch.name)
        make_folder(record.parent)
        kept = [m.state for m in made if m.state is not None]
        if kept:
            names = json.dumps([m.name for m in made if m.state is not None])
            save_state(self.states(stage, batch.name), join_states(kept), "", {"names": names})
        atomic_write(record, json.dumps(
            {"format": FORMAT, "rows": [asdict(row) for row in rows]}, indent=0
        ))
        return rows

    def rows(self, stage: str) -> dict[str, RunRecord]:
        """All finished jobs of a stage by name. Damaged records are ignored."""
        found = {}
        records = self.record(stage, "x").parent
        for path in sorted(records.glob("*.json")) if os.path.isdir(records) else ():
            for row in _read_rows(path):
                found[row.name] = row
        return found

    def load_states(self, stage: str) -> dict[str, State]:
        """Load the saved resume states of a stage, by name. Raises `OutputError`."""
        found: dict[str, State] = {}
        for path in sorted(self.states(stage, "x").parent.glob("*.safetensors")):
            state, about = load_state(path, "")
            found.update(zip(json.loads(about["names"]), split_state(state), strict=True))
        return found

    def drop_states(self, stage: str) -> None:
        """Remove the resume states of a stage."""
        for path in self.states(stage, "x").parent.glob("*.safetensors"):
            path.unlink(missing_ok=True)


def _read_rows(path: Path) -> Iterator[RunRecord]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            return
        for raw in data["rows"]:
            look = None if raw["look"] is None else Look(**raw["look"])
            yield RunRecord(**{**raw, "look": look})
    except (OSError, ValueError, KeyError, TypeError):
        return


def save_thumb(picture: Any, path: Path, side: int = THUMB) -> None:
    """Write a small JPEG of an image `[3, H, W]` in 0..1; its longer side has `side` pixels."""
    image = Image.fromarray(to_bytes(picture)).convert("RGB")
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    enlarge = factor >= 2
    kind = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    atomic_write(path, lambda file: image.resize(size, kind).save(file, "JPEG", quality=85))
