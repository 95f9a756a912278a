"""Kill `rank`, `grid` and `rate` with signal 9 at random moments, resume, compare.

    python benchmarks/kill_resume.py --times 20

Each repetition starts a command and kills it, twice, a random moment after it has
made some progress (a record or a cached feature more than before), starts it
again with --resume until it ends, and compares pictures and scores with those of
the undisturbed run: all pixels, and all numbers to 0.01 for `rate`, whose batches
are others after a kill, else exactly. It also counts batches that were made twice.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

RECIPE = """
epochs: 20
resolution: 64
model: embedded
device: cpu
targets:
  - batch_size: 4
    features:
      - text: a {animal} made of {thing}
    transforms:
      - pad: {size: 8, mode: edge}
      - random_rotate: {degree: -10 10, center: 0 1}
      - resize: 64
"""
GRID = """
axes: {animal: [cat, pig, snail, tapir], thing: [harp, piano, pizza]}
recipe: recipe.yaml
"""


@dataclass(frozen=True)
class Task:
    name: str
    words: tuple[str, ...]
    folder: str


TASKS = (
    Task("rank", ("rank", "rank.yaml", "--runs", "12", "--top", "2", "--bottom", "1",
                  "--short-epochs", "20", "--final-epochs", "60", "--batch", "2", "--seed", "5",
                  "--views", "8", "-q", "--resume", "-o", "out"), "out"),
    Task("halving", ("rank", "rank.yaml", "--runs", "12", "--top", "2", "--bottom", "1",
                     "--short-epochs", "20", "--final-epochs", "60", "--batch", "2", "--seed", "5",
                     "--views", "8", "--halving", "-q", "--resume", "-o", "out"), "out"),
    Task("grid", ("grid", "grid.yaml", "--batch", "2", "--seed", "5", "--views", "8", "-q",
                  "--resume", "-o", "out"), "out"),
    Task("rate", ("rate", "pictures", "-t", "a cat", "-t", "a pig", "-m", "embedded", "-q",
                  "--csv", "out/rate.csv"), "out"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="repetitions, shared by the commands")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        whole = {}
        for task in TASKS:
            place = prepare(Path(name) / "whole" / task.name)
            began = time.monotonic()
            subprocess.run(
                command(task), cwd=place, env=environment(place), check=True, capture_output=True
            )
            whole[task.name] = (contents(place / task.folder), time.monotonic() - began)
            print(f"{task.name}: {whole[task.name][1]:.1f} s undisturbed, "
                  f"{len(whole[task.name][0])} files and rows", flush=True)
        bad = kills = again = 0
        for number in range(options.times):
            task = TASKS[number % len(TASKS)]
            expected, seconds = whole[task.name]
            place = prepare(Path(name) / str(number))
            found, killed, repeated = disturbed(task, place, seconds, rng)
            kills += killed
            again += repeated
            same = found == expected
            bad += not same
            print(f"{number + 1:3d} {task.name:8s} killed {killed} times: "
                  f"{'equal' if same else 'DIFFERENT'}, {repeated} batches made twice", flush=True)
        print(f"{options.times} repetitions, {kills} kills: {bad} different, {again} batches "
              "made twice")
    sys.exit(bool(bad or again))


def environment(place: Path) -> dict[str, str]:
    """Ours, with a cache of its own."""
    return {**os.environ, "CLIPIG_CACHE": str(place / "cache")}


def progress(place: Path) -> int:
    """How many records and cached features there are."""
    return sum(1 for _ in place.rglob("parts/**/*.json")) + sum(
        1 for _ in place.rglob("cache/**/*.npy")
    )


def command(task: Task) -> list[str]:
    return [sys.executable, "-m", "clipig", *task.words]


def prepare(place: Path) -> Path:
    place.mkdir(parents=True)
    (place / "out").mkdir()
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "grid.yaml").write_text(GRID)
    text = RECIPE.replace("{animal}", "cat").replace("{thing}", "harp")
    (place / "rank.yaml").write_text(text)
    pictures = place / "pictures"
    pictures.mkdir()
    for k in range(200):
        rng = random.Random(k)
        pixels = bytes(rng.randrange(256) for _ in range(16 * 16 * 3))
        Image.frombytes("RGB", (16, 16), pixels).resize((96, 96)).save(pictures / f"{k:03}.png")
    return place


def disturbed(
    task: Task, place: Path, seconds: float, rng: random.Random
) -> tuple[dict[str, bytes], int, int]:
    """What is there in the end, the number of kills, and of batches that were made twice."""
    kills = repeated = 0
    stamps: dict[Path, int] = {}
    while True:
        before = progress(place)
        process = subprocess.Popen(
            command(task), cwd=place, env=environment(place), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while kills < 2 and process.poll() is None:
            if progress(place) > before:
                time.sleep(rng.uniform(0, 0.15) * seconds)
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            time.sleep(0.002)
        process.wait()
        for path in (place / task.folder).rglob("parts/**/*.json"):
            stamp = path.stat().st_mtime_ns
            repeated += stamps.setdefault(path, stamp) != stamp
            stamps[path] = stamp
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, process.returncode
            return contents(place / task.folder), kills, repeated


def contents(folder: Path) -> dict[str, bytes]:
    """Pixels of all pictures and the rows of all tables, without times."""
    found = {
        path.relative_to(folder).as_posix(): Image.open(path).tobytes()
        for path in folder.rglob("*.png")
    }
    for path in folder.glob("*.csv"):
        with path.open() as file:
            for number, row in enumerate(csv.DictReader(file)):
                row.pop("seconds", None)
                if path.name == "rate.csv":
                    row = {k: v if k == "image" else f"{float(v):.2f}" for k, v in row.items()}
                found[f"{path.name} {number}"] = repr(row).encode()
    return found


if __name__ == "__main__":
    main()
