"""Animations of runs: mp4 by imageio (extra `clipig[video]`), webp and gif by Pillow."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipig.engine.events import Event, Finished, Step
from clipig.errors import OutputError, UsageError
from clipig.images import to_pil
from clipig.session import Group

KINDS = ("mp4", "webp", "gif")
FRAMES = 150
"""Approximate number of frames of an animation."""


def check_kind(kind: str) -> None:
    """Check that animations of this kind can be written here.

    Raises:
        UsageError: The kind is unknown, or its extra is not installed.
    """
    if kind not in KINDS:
        raise UsageError(f"--video {kind}: unknown kind (allowed: {', '.join(KINDS)})")
    if kind == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UsageError(
            "--video mp4 needs the extra: pip install 'clipig[video]' (webp and gif work without)"
        )


class Animation:
    """Collects frames of every run and writes one file per run at the end.

    The animation of a resumed run begins at the step from which it was resumed.

    Args:
        kind: `mp4`, `webp` or `gif`.
        path: Returns the file of a run, given its index.
        rate: Frames per second.
    """

    def __init__(self, kind: str, path: Callable[[int], Path], rate: int = 25):
        check_kind(kind)
        self.kind, self.path, self.rate = kind, path, rate
        self.written: list[Path] = []
        self._frames: dict[int, list[Image.Image]] = {}

    def __call__(self, group: Group, event: Event) -> None:
        if isinstance(event, Step):
            every = max(1, group.plan.steps // FRAMES)
            if (event.step - 1) % every == 0:
                self._take(group, event)
        elif isinstance(event, Finished):
            for i, row in enumerate(group.rows):
                frames = self._frames.setdefault(row, [])
                frames += [to_pil(event.picture.rgb[i].clamp(0, 1))] * self.rate
            self._save(group.rows)

    def close(self, interrupted: bool) -> None:
        """Write the frames collected so far."""
        self._save(tuple(self._frames))

    def _take(self, group: Group, event: Step) -> None:
        rgb = event.picture().rgb.clamp(0, 1)
        for i, row in enumerate(group.rows):
            self._frames.setdefault(row, []).append(to_pil(rgb[i]))

    def _save(self, rows: tuple[int, ...]) -> None:
        for row in rows:
            frames = self._frames.pop(row, [])
            if not frames:
                continue
            width, height = frames[-1].size
            even = (width + width % 2, height + height % 2)  # video codecs need even sizes
            frames = [f.resize(even, Image.Resampling.NEAREST) for f in frames]
            path = self.path(row)
            try:
                self._encode(frames, path)
            except OSError as fault:
                raise OutputError(f"{path}: cannot be written: {fault}") from fault
            self.written.append(path)

    def _encode(self, frames: list[Image.Image], path: Path) -> None:
        if self.kind == "mp4":
            import imageio.v2 as imageio

            writer: Any
            with imageio.get_writer(
                path, fps=self.rate, codec="libx264", quality=8, macro_block_size=2
            ) as writer:
                for frame in frames:
                    pixels: NDArray[np.uint8] = np.asarray(frame)
                    writer.append_data(pixels)
            return
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=1000 // self.rate, loop=0
        )
