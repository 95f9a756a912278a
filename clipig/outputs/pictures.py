"""Writes images with metadata, snapshots, the trace and checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from clipig.config.schema import Experiment
from clipig.engine.events import Event, Finished, Step, Unsettled
from clipig.errors import InputError, OutputError, UsageError
from clipig.files import atomic_write, make_folder, read_bytes
from clipig.images import save_indexed_png, save_png
from clipig.ops.canvases import Picture
from clipig.outputs.checkpoints import SavedRun, save_state
from clipig.outputs.metadata import PREFIX, metadata
from clipig.outputs.places import RunFiles
from clipig.session import Group


class Files:
    """Sink that writes all files of one call of `clipig run`, except the config.

    Args:
        place: Names of the files.
        experiments: One per run.
        config: Text of the resolved config, which exists as a file already.
        interval: Steps (int) or seconds (float) between snapshots; 0: no snapshots.
        patience: Minimum seconds between checkpoints, which are removed at the end; None:
            $CLIPIG_CHECKPOINT_SECONDS, or 10.
        saved: Values of the checkpoint from which the run is resumed.
    """

    def __init__(
        self, place: RunFiles, experiments: Sequence[Experiment], config: str,
        interval: int | float = 20.0, patience: float | None = None, saved: SavedRun | None = None,
    ):
        now = time.monotonic()
        self.stages = saved.stages if saved else ""
        self.place, self.rows, self.config = place, len(experiments), config
        self.interval = interval
        self.patience = _patience() if patience is None else patience
        self.done = list(saved.done) if saved else []
        self.pictures: dict[int, Path] = {}
        self.more: list[Path] = []
        """additional image files: transparent and indexed versions"""
        self.similarities: dict[int, float] = {}
        self._began = now - (saved.seconds if saved else 0.0)
        since = saved.since_snapshot if saved else None
        self._shot: float | None = None if since is None else now - since
        self._saved = now
        self._last: tuple[Group, Step] | None = None
        self._pending: list[tuple[Group, Step]] = []

    def __call__(self, group: Group, event: Event) -> None:
        if isinstance(event, Step):
            self._last = (group, event)
            self._pending.append((group, event))
            if self._due(event):
                self._write_snapshots(group, event)
            if time.monotonic() - self._saved >= self.patience:
                self._checkpoint(group, event)
        elif isinstance(event, Finished):
            for i, row in enumerate(group.rows):
                self._write(group, event.picture, i, row, float(event.similarity[i]), event.epochs)
            self.done += group.rows
            self._last = None
            self._flush()
            if len(self.done) == self.rows:
                self.place.checkpoint.unlink(missing_ok=True)

    def close(self, interrupted: bool) -> None:
        """Write image and resume state of an interrupted run, and the rest of the trace."""
        if interrupted and self._last is not None:
            group, event = self._last
            picture = event.picture()
            for i, row in enumerate(group.rows):
                self._write(group, picture, i, row, float(event.similarity[i]), event.epoch + 1)
            with contextlib.suppress(Unsettled):  # keep the last checkpoint
                self._checkpoint(group, event)
        self._flush()

    @property
    def seconds(self) -> float:
        """Time spent on the run, including the time before a resume."""
        return time.monotonic() - self._began

    def _due(self, event: Step) -> bool:
        if not self.interval:
            return False
        now = time.monotonic()
        if isinstance(self.interval, int):  # depends on the step only, so a resume changes nothing
            due = (event.step - 1) % self.interval == 0
        else:
            due = self._shot is None or now - self._shot >= self.interval
        if due:
            self._shot = now
        return due

    def _write_snapshots(self, group: Group, event: Step) -> None:
        picture = event.picture()
        for i, row in enumerate(group.rows):
            path = self.place.snapshot(row, self.rows, event.epoch)
            make_folder(path.parent)
            save_png(_rgba(picture, i), path, overwrite=True)

    def _write(
        self, group: Group, picture: Picture, i: int, row: int, similarity: float, epochs: int
    ) -> None:
        path = self.place.picture(row, self.rows)
        make_folder(path.parent)
        if not self.place.config.exists():  # the folder was deleted during the run
            atomic_write(self.place.config, self.config)
        texts = describe(group, i, similarity, epochs, self.seconds)
        if self.stages:
            texts[f"{PREFIX}stages"] = self.stages
        save_png(picture.rgb[i].clamp(0, 1), path, texts, overwrite=True)
        if "alpha" in picture.layers:
            cut = path.with_name(f"{path.stem}.transparent.png")
            save_png(_rgba(picture, i), cut, texts, overwrite=True)
            self.more.append(cut)
        if picture.indexed is not None:
            numbers, palettes = picture.indexed()
            small = path.with_name(f"{path.stem}.indexed.png")
            save_indexed_png(numbers[i], palettes[i], small, texts, overwrite=True)
            self.more.append(small)
        self.pictures[row], self.similarities[row] = path, similarity

    def _checkpoint(self, group: Group, event: Step) -> None:
        self._flush()
        if not self.place.config.exists():
            atomic_write(self.place.config, self.config)
        since = None if self._shot is None else time.monotonic() - self._shot
        saved = SavedRun(tuple(group.rows), tuple(self.done), self.seconds, self.stages, since)
        save_state(self.place.checkpoint, event.state(), self.config, saved.texts())
        self._saved = time.monotonic()

    def _flush(self) -> None:
        """Append the pending steps to the trace."""
        lines = [json.dumps(_record(group, event)) for group, event in self._pending]
        if not lines:
            return
        make_folder(self.place.folder)
        try:
            with self.place.trace.open("a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as fault:
            raise OutputError(f"{self.place.trace}: cannot be written: {fault.strerror}") from fault
        # an interruption before this line writes them twice, which `cut_trace` fixes;
        # clearing first would lose them
        self._pending.clear()


def _patience() -> float:
    """Seconds between checkpoints."""
    try:
        return float(os.environ.get("CLIPIG_CHECKPOINT_SECONDS", "10"))
    except ValueError:
        raise UsageError("CLIPIG_CHECKPOINT_SECONDS is not a number") from None


def _record(group: Group, event: Step) -> dict[str, object]:
    """One record of the trace. Values are lists if the group has several runs."""
    several = len(group.rows) > 1

    def numbers(tensor: Tensor) -> object:
        values = [round(v, 5) for v in tensor.tolist()]
        return values if several else values[0]

    record: dict[str, object] = {
        "epoch": event.epoch, "t": round(event.t, 6), "learnrate": round(event.rate, 8),
        "resolution": [event.size[1], event.size[0]],
        "similarity": numbers(event.similarity), "loss": numbers(event.loss),
    }
    return {"runs": list(group.rows), **record} if several else record


def cut_trace(path: Path, step_epoch: int) -> None:
    """Remove the lines of a trace that a resumed run writes again, and duplicates.

    Lines that are not records, for example truncated by a crash, are removed, too.

    Args:
        path: The trace; it may be missing.
        step_epoch: First epoch to remove.

    Raises:
        OutputError: The file cannot be read or written.
    """
    try:
        data = read_bytes(path) if os.path.lexists(path) else b""
    except InputError as fault:
        raise OutputError(str(fault)) from fault
    kept = {}
    for line in data.decode("utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            if record["epoch"] < step_epoch:
                kept[str(record.get("runs")), record["epoch"]] = line
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    atomic_write(path, "".join(f"{line}\n" for line in kept.values()))


def describe(
    group: Group, i: int, similarity: float, epochs: int, seconds: float
) -> dict[str, str]:
    """Build the PNG texts of run `i` of a group; see `metadata`."""
    return metadata(
        group.plan.experiments[i], group.encoders, similarity,
        f"{epochs} of {group.plan.epochs}", seconds,
    )


def _rgba(picture: Picture, i: int) -> Tensor:
    """Image of a run: `[3, H, W]`, or `[4, H, W]` if the canvas has alpha."""
    import torch

    rgb = picture.rgb[i].clamp(0, 1)
    cut = picture.layers.get("cutout")
    if "alpha" not in picture.layers:
        return rgb
    return torch.cat([rgb if cut is None else cut[i].clamp(0, 1), picture.layers["alpha"][i]])
