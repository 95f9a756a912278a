"""Kill every command with signal 9 at random moments, resume, compare.

    python benchmarks/kill_resume.py                 # every case once, some minutes
    python benchmarks/kill_resume.py --times 20 --only rank --only run

Each repetition starts a command and kills it, twice, a random moment after it has made some
progress (a record, a cached feature, a line of a trace, a checkpoint), starts it again with
--resume until it ends, and compares images and tables with those of an undisturbed run: all
pixels, and all numbers to 0.01 for `rate`, whose batches differ after a kill, else exactly.

Two cases do not kill. `two at once` starts the command twice in one folder: the second is
refused or makes files of its own. `full disk` limits the size of files so that the command
fails once on each size tried (a file system of 300 KB where one may be mounted), and goes on
when there is room again.

Columns: stopped - kills, or starts that ended with an error; bad - results that differ;
lost - files of the user that changed; litter - temporary files that are still there after
the next command, an hour later; again - batches made twice; unclear - exits that are neither
0, 2 with one message, nor the kill.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from PIL import Image

RECIPE = """
epochs: 20
resolution: 64
model: embedded
device: cpu
seed: 5
snapshot_interval: 0
targets:
  - batch_size: 4
    features:
      - text: a {animal} made of {thing}
    transforms:
      - pad: {size: 8, mode: edge}
      - random_rotate: {degree: -10 10, center: 0 1}
      - resize: 64
"""
STYLE = """
    constraints:
      - style: {image: pictures/003.png, weight: 1/2}
"""
GRID = """
axes: {animal: [cat, pig, snail, tapir], thing: [harp, piano, pizza]}
recipe: recipe.yaml
"""
MINE = {"mine.txt": b"do not touch", "run.transparent.png": b"mine, too", "rank-mine.yaml": b"a: 1"}
"""Files of the user in the folder that is written to."""
RANK = ("rank", "rank.yaml", "--runs", "12", "--top", "2", "--bottom", "1", "--short-epochs", "20",
        "--final-epochs", "60", "--batch", "2", "--seed", "5", "--views", "8", "-q",
        "-o", "out/made")
RUN = ("--set", "snapshot_interval=40", "-q", "-o", "out/run.png")
LATER = 2 * 3600
"""Seconds after which the next command comes"""


@dataclass(frozen=True)
class Case:
    """A command, and what happens to it.

    resume   what is added to go on; a run without a checkpoint is begun again without it
    way      how it is disturbed
    """

    name: str
    words: tuple[str, ...]
    resume: tuple[str, ...] = ("--resume",)
    way: str = "kill"

    @property
    def is_run(self) -> bool:
        return self.words[0] == "run"


CASES = (
    Case("rank", RANK),
    Case("halving", (*RANK, "--halving")),
    Case("grid", ("grid", "grid.yaml", "--batch", "2", "--seed", "5", "--views", "8", "-q",
                  "-o", "out/made")),
    Case("rate", ("rate", "pictures", "-t", "a cat", "-t", "a pig", "-m", "embedded", "-q",
                  "--csv", "out/rate.csv"), ()),
    Case("run", ("run", "rank.yaml", "-e", "200", "--runs", "3", *RUN)),
    Case("video", ("run", "rank.yaml", "-e", "200", "--video", "gif", *RUN)),
    Case("style", ("run", "style.yaml", "-e", "100", "--runs", "2", *RUN)),
    Case("rank, two at once", RANK, way="two"),
    Case("run, two at once", ("run", "rank.yaml", "-e", "150", *RUN), way="two"),
    Case("run, full disk", ("run", "rank.yaml", "-e", "150", "--runs", "3", *RUN), way="full"),
    Case("rank, full disk", RANK, way="full"),
)


@dataclass
class Count:
    """What is counted of a case."""

    stopped: int = 0
    bad: int = 0
    lost: int = 0
    litter: int = 0
    again: int = 0
    unclear: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1, help="repetitions of each case")
    parser.add_argument("--only", action="append", metavar="CASE", help="this case only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    names = [f.name for f in fields(Count)]
    print(f"{'case':18} {'times':>5} " + " ".join(f"{n:>7}" for n in names), flush=True)
    wrong = 0
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        count = Count()
        with tempfile.TemporaryDirectory() as name:
            whole = Folder(Path(name) / "whole", case)
            began = time.monotonic()
            whole.finish([])
            seconds = time.monotonic() - began
            for number in range(options.times):
                folder = Folder(Path(name) / str(number), case)
                WAYS[case.way](folder, seconds, rng, count)
                count.bad += folder.results() != whole.results()
                count.lost += folder.lost()
                count.litter += folder.litter()
        values = [getattr(count, n) for n in names]
        print(f"{case.name:18} {options.times:5} " + " ".join(f"{v:7}" for v in values), flush=True)
        wrong += sum(values) - count.stopped
    sys.exit(bool(wrong))


class Folder:
    """Where a command works: its configs, images, a cache of its own, and files of the user."""

    def __init__(self, place: Path, case: Case):
        self.place, self.case = place, case
        self.out = place / "out"
        self.printed: list[str] = []
        self.out.mkdir(parents=True)
        for name, data in MINE.items():
            (self.out / name).write_bytes(data)
        text = RECIPE.replace("{animal}", "cat").replace("{thing}", "harp")
        configs = {"recipe": RECIPE, "grid": GRID, "rank": text, "style": text + STYLE}
        for name, config in configs.items():
            (place / f"{name}.yaml").write_text(config.lstrip())
        (place / "pictures").mkdir()
        for k in range(200 if case.name == "rate" else 4):
            rng = random.Random(k)
            pixels = bytes(rng.randrange(256) for _ in range(16 * 16 * 3))
            image = Image.frombytes("RGB", (16, 16), pixels).resize((96, 96))
            image.save(place / "pictures" / f"{k:03}.png")

    def start(self, resumed: bool, limit: int | None = None) -> subprocess.Popen[str]:
        """The command; with `limit` no file may get larger than so many bytes."""
        words = [*self.case.words, *(self.case.resume if resumed else ())]
        environment = {**os.environ, "CLIPIG_CACHE": str(self.place / "cache"),
                       "CLIPIG_CHECKPOINT_SECONDS": "0.2", "OMP_NUM_THREADS": "1"}

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-m", "clipig", *words], cwd=self.place, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limited,
        )

    def can_resume(self) -> bool:
        """Whether there is something to go on with."""
        return not self.case.is_run or any(self.out.glob("*.checkpoint"))

    def progress(self) -> tuple[int, int, float]:
        """Records and cached features, lines of traces, and when the last checkpoint was made."""
        records = [*self.out.rglob("*.json"), *self.place.glob("cache/**/*.f32")]
        traces = sum(p.stat().st_size for p in self.out.rglob("*.jsonl"))
        return len(records), traces, max(map(_changed, self.out.rglob("*.checkpoint")), default=0)

    def finish(self, errors: list[str]) -> int:
        """Run the command to its end, unharmed; its exit code."""
        process = self.start(self.case.resume != () and self.can_resume() and self.begun())
        out, err = process.communicate()
        self.printed = out.split("\n")
        if process.returncode:
            errors.append(err)
        return process.returncode

    def begun(self) -> bool:
        """Whether the command has been started in this folder before."""
        return (self.out / "made").is_dir() or self.case.is_run

    def results(self) -> dict[str, bytes]:
        """Pixels of the images that were made, rows of tables without times.

        What was made twice, in `made` and `made-2`, counts once if it is equal.
        """
        images = {*self.out.rglob("*.png")}
        if self.case.is_run:
            images = {self.place / line for line in self.printed if line.endswith(".png")}
        parts = [(self._name(p), Image.open(p).tobytes()) for p in images if p.name not in MINE]
        for path in self.out.rglob("*.csv"):
            parts += [(f"{path.name} {n}", row) for n, row in enumerate(_rows(path))]
        found: dict[str, bytes] = {}
        for name, data in parts:
            if found.setdefault(name, data) != data:
                found[f"{name}, made otherwise"] = data
        for path in self.out.glob("*.gif"):
            with Image.open(path) as animation:
                animation.seek(getattr(animation, "n_frames", 1) - 1)  # whole to the last frame
        return found

    def _name(self, path: Path) -> str:
        """What a file would be called if the command had run alone: run-2_001 is 001."""
        if self.case.is_run:
            return path.stem.partition("_")[2]
        return re.sub(r"^made-\d+/", "made/", path.relative_to(self.out).as_posix())

    def lost(self) -> int:
        """Files of the user that are not as they were."""
        return sum(
            not (self.out / n).exists() or (self.out / n).read_bytes() != data
            for n, data in MINE.items()
        )

    def litter(self) -> int:
        """Temporary files that the next command, two hours later, leaves there."""
        for path in self.temporary():
            os.utime(path, (time.time() - LATER,) * 2)
        self.finish([])
        return len(list(self.temporary()))

    def temporary(self) -> Iterator[Path]:
        for path in self.out.rglob("*"):
            if path.is_file() and (path.suffix in (".tmp", ".lock") or path.name.startswith(".")):
                yield path


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _rows(path: Path) -> Iterator[bytes]:
    with path.open() as file:
        for row in csv.DictReader(file):
            row.pop("seconds", None)
            if path.name == "rate.csv":
                row = {k: v if k == "image" else f"{float(v):.2f}" for k, v in row.items()}
            yield repr(row).encode()


def is_clear(code: int, errors: str) -> bool:
    """Whether an end is one that the documentation names."""
    return code == 0 or (code == 2 and "clipig: " in errors and "Traceback" not in errors)


def killed(folder: Folder, seconds: float, rng: random.Random, count: Count) -> None:
    """Kill the command twice, then let it end."""
    stamps: dict[Path, int] = {}
    resumed = False
    for _ in range(2):
        before, process = folder.progress(), folder.start(resumed and folder.can_resume())
        while process.poll() is None:
            if folder.progress() != before:
                time.sleep(rng.uniform(0, 0.3) * seconds)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        out, errors = process.communicate()
        folder.printed = out.split("\n")
        if process.returncode == -signal.SIGKILL:
            count.stopped += 1
        else:
            count.unclear += not is_clear(process.returncode, errors)
        count.again += _made_again(folder, stamps)
        if process.returncode == 0:
            return
        resumed = True
    told: list[str] = []
    count.unclear += not is_clear(folder.finish(told), "".join(told)) or bool(told)
    count.again += _made_again(folder, stamps)


def _made_again(folder: Folder, stamps: dict[Path, int]) -> int:
    """Records that are newer than when they were seen first."""
    again = 0
    for path in folder.out.rglob("parts/**/*.json"):
        stamp = path.stat().st_mtime_ns
        again += stamps.setdefault(path, stamp) != stamp
        stamps[path] = stamp
    return again


def together(folder: Folder, seconds: float, rng: random.Random, count: Count) -> None:
    """Start the command twice: both end well, or one is told that the other works there."""
    first = folder.start(False)
    time.sleep(rng.uniform(0, 0.5) * seconds)
    second = folder.start(folder.begun() and not folder.case.is_run)
    ends = [p.communicate() for p in (first, second)]
    for process, (_, errors) in zip((first, second), ends, strict=True):
        count.stopped += process.returncode != 0
        count.unclear += not is_clear(process.returncode, errors)
    if first.returncode and second.returncode:
        count.unclear += 1  # at least one of them has to come through
    made = [out.split("\n") for out, _ in ends]
    folder.printed = made[0] if first.returncode == 0 else made[1]
    if folder.case.is_run and first.returncode == second.returncode == 0:
        one = folder.results()
        folder.printed = made[1]
        count.bad += one != folder.results() or made[0] == made[1]


def full(folder: Folder, seconds: float, rng: random.Random, count: Count) -> None:
    """Let the command fail for want of room, small to large, then let it end."""
    with small_disk(folder.out) as mounted:
        for limit in (None,) if mounted else (0, 2_000, 20_000):
            process = folder.start(folder.begun() and folder.can_resume() and limit != 0, limit)
            _, errors = process.communicate()
            count.stopped += process.returncode != 0
            count.unclear += not is_clear(process.returncode, errors)
            count.lost += folder.lost()
    told: list[str] = []
    count.unclear += not is_clear(folder.finish(told), "".join(told)) or bool(told)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 300 KB at a folder, whose files stay; False where none can be mounted."""
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        for name, data in kept.items():
            (folder / name).write_bytes(data)
        yield True
        with tempfile.TemporaryDirectory() as name:
            subprocess.run(["cp", "-a", f"{folder}/.", name], check=True)
            subprocess.run(["umount", str(folder)], check=True)
            subprocess.run(["cp", "-a", f"{name}/.", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)


Way = Callable[[Folder, float, random.Random, Count], None]
WAYS: dict[str, Way] = {"kill": killed, "two": together, "full": full}


if __name__ == "__main__":
    main()
