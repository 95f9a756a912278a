"""Chooses output paths of a run: free names, never an existing file of the user."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from clipig.errors import OutputError
from clipig.files import locked, make_folder, numbered, reason, remove_litter, slug, user_path

RENDERS = "renders"


@dataclass(frozen=True)
class RunFiles:
    """Paths of the files of one call of `clipig run`; all names begin with the same stem."""

    folder: Path
    stem: str

    @property
    def config(self) -> Path:
        return self.folder / f"{self.stem}.yaml"

    @property
    def trace(self) -> Path:
        return self.folder / f"{self.stem}.trace.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.stem}.checkpoint"

    def working(self) -> AbstractContextManager[None]:
        """Lock the run while it is computed. Raises `OutputError` if another process does so."""
        return locked(
            self.folder / f".{self.stem}.lock",
            f"{self.folder / self.stem}: this run is being made by another process",
        )

    def picture(self, row: int, rows: int) -> Path:
        """Path of a run's PNG: `stem.png`, or `stem_012.png` if there are several runs."""
        if rows == 1:
            return self.folder / f"{self.stem}.png"
        return self.folder / f"{self.stem}_{row:0{max(3, len(str(rows - 1)))}d}.png"

    def snapshot(self, row: int, rows: int, epoch: int) -> Path:
        """Path of an intermediate image: `stem.snapshots/00120.png`."""
        folder = self.folder / f"{self.picture(row, rows).stem}.snapshots"
        return folder / f"{epoch:05d}.png"

    def animation(self, row: int, rows: int, kind: str) -> Path:
        """Path of an animation: `stem.mp4`."""
        return self.picture(row, rows).with_suffix(f".{kind}")


def choose(output: str | None, name: str) -> RunFiles:
    """Interpret the user's output option.

    Args:
        output: `DIR/`, `FILE.png`, or None for `renders/NAME/NAME`.
        name: Name of the experiment.

    Raises:
        OutputError: The file has a suffix other than `.png`.
    """
    if not output or output == "./":
        return RunFiles(Path(RENDERS) / slug(name), slug(name))
    path = user_path(output)
    if output.endswith(("/", os.sep)) or os.path.isdir(path):
        return RunFiles(path, slug(name))
    suffix = path.suffix.lower()
    if suffix not in ("", ".png"):
        raise OutputError(f"{output}: clipig writes .png files, not {suffix}")
    return RunFiles(path.parent, path.stem if suffix else path.name)


def claim(place: RunFiles) -> RunFiles:
    """Create the folder and reserve a free stem in it (`stem`, `stem-2`, `stem-3` ...).

    Every file of a run begins with its stem, so a stem is free if no file begins with it.
    Creating the config file (empty) reserves the stem against other processes.

    Raises:
        OutputError: The folder, or a file in it, cannot be created.
    """
    make_folder(place.folder)
    remove_litter(place.folder)
    for path in numbered(place.folder / place.stem):
        found = RunFiles(place.folder, path.name)
        try:
            if _taken(found):
                continue
            os.close(os.open(found.config, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except (OSError, ValueError) as fault:
            raise OutputError(f"{place.folder}: cannot be written: {reason(fault)}") from fault
        return found
    raise AssertionError("names never end")


def _taken(place: RunFiles) -> bool:
    """Whether a file of that stem exists: `art.png`, `art_012.png`, `art.transparent.png`."""
    pattern = re.compile(re.escape(place.stem) + r"(_\d+)?(\..*)?", re.I | re.S)
    return any(pattern.fullmatch(entry.name) for entry in os.scandir(place.folder))


def unfinished(place: RunFiles) -> RunFiles | None:
    """The latest interrupted run of this stem, recognized by its checkpoint, or None."""
    if not os.path.isdir(place.folder):
        return None
    pattern = re.compile(re.escape(place.stem) + r"(-\d+)?$")
    found = [
        p for p in place.folder.glob("*.checkpoint") if pattern.match(p.name[: -len(".checkpoint")])
    ]
    if not found:
        return None
    newest = max(found, key=lambda p: p.stat().st_mtime)
    return RunFiles(place.folder, newest.name[: -len(".checkpoint")])
