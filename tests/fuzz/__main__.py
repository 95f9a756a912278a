"""`python -m tests.fuzz -n 2000`: tries that many cases and prints what is wrong with clipig.

Cases are tried in processes of their own. One that dies or hangs is a finding, too, with
the case that it died of.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import encoded, known, read

HANGS = 90.0
"""Seconds without a new case after which a process is given up."""
ROUND = 200


@dataclass
class Row:
    """What is printed of a target."""

    cases: int = 0
    taken: int = 0
    known: int = 0
    seconds: float = 0.0
    peak: int = 0
    findings: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def add(self, answer: dict[str, Any]) -> None:
        """Count a round in."""
        for name in ("cases", "taken", "known", "seconds"):
            setattr(self, name, getattr(self, name) + answer[name])
        self.peak = max(self.peak, answer["peak"])
        for kind, (coded, said) in answer["findings"].items():
            self.find(kind, base64.b64decode(coded), said)

    def find(self, kind: str, case: bytes, said: str) -> None:
        """Keep the smallest case of a kind."""
        if kind not in self.findings or len(case) < len(self.findings[kind][0]):
            self.findings[kind] = case, said


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("-n", type=int, default=2000, metavar="N", help="cases in all")
    parser.add_argument("--only", action="append", metavar="TARGET", help="of this kind only")
    parser.add_argument("--seed", type=int, help="of the cases; chosen and printed if absent")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write findings to files here")
    parser.add_argument("--case", type=Path, metavar="FILE", help="try this file of a corpus")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    if options.case:
        again(options.case)
        return
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    begun = time.monotonic()
    rows = explore(shares(options.n, options.only), seed, options.jobs)
    print_table(rows, seed, time.monotonic() - begun)
    if options.keep:
        keep(rows, options.keep)
    sys.exit(any(row.findings for row in rows.values()))


def again(path: Path) -> None:
    """Try a file of a corpus, with the traceback of what is wrong with it."""
    from tests.fuzz import rounds
    from tests.fuzz.guard import Limits, guarded, kind, offline
    from tests.fuzz.targets import TARGETS, run

    target = TARGETS[path.parent.name]
    with tempfile.TemporaryDirectory() as name, offline():
        rounds.prepare(Path(name))
        case = read(target, path)
        try:
            taken = guarded(lambda: run(target, case, Path(name) / "case"), Limits())
        except Exception as fault:
            traceback.print_exc()
            sys.exit(f"finding: {kind(fault)}")
    print("taken" if taken else "refused by a ClipigError")


def shares(count: int, only: list[str] | None) -> dict[str, int]:
    """How many cases of each target."""
    from tests.fuzz.targets import TARGETS

    if unknown := set(only or ()) - set(TARGETS):
        sys.exit(f"unknown target {', '.join(unknown)} (known are {', '.join(TARGETS)})")
    chosen = {n: t.share for n, t in TARGETS.items() if not only or n in only}
    return {n: max(1, round(count * s / sum(chosen.values()))) for n, s in chosen.items()}


def explore(counts: dict[str, int], seed: int, jobs: int) -> dict[str, Row]:
    """Try the cases in `jobs` processes."""
    rows = {name: Row() for name in counts}
    waiting: queue.Queue[dict[str, Any]] = queue.Queue()
    parts = [
        {"target": name, "seed": seed + i, "count": min(ROUND, count - i)}
        for name, count in counts.items() for i in range(0, count, ROUND)
    ]
    for part in sorted(parts, key=lambda p: (p["seed"], p["target"])):
        waiting.put(part)
    with tempfile.TemporaryDirectory() as name:
        threads = [
            threading.Thread(target=tend, args=(waiting, rows, Path(name) / str(i)))
            for i in range(jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return rows


def tend(waiting: queue.Queue[dict[str, Any]], rows: dict[str, Row], folder: Path) -> None:
    """Give rounds to a process until none is left; one that dies is replaced."""
    worker: Worker | None = None
    while True:
        try:
            part = waiting.get_nowait()
        except queue.Empty:
            break
        worker = worker or Worker(folder)
        answer = worker.ask(part)
        if answer is None:
            how, case = worker.end()
            row = rows[part["target"]]
            if how.startswith(known(part["target"])):
                row.known += 1
            else:
                row.find(how, case, "the process in which it was tried")
            worker = None
        else:
            rows[part["target"]].add(answer)
    if worker:
        worker.end()


class Worker:
    """A process that plays rounds; its files are below `folder`."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.journal = folder, folder / "current"
        self.journal.write_bytes(b"")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--worker", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("ab"),
            text=True,
        )

    def ask(self, part: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a round; None if the process died or hung."""
        assert self.process.stdin and self.process.stdout
        self.journal.touch()
        watching = threading.Event()
        watch = threading.Thread(target=self._watch, args=(watching,))
        watch.start()
        try:
            self.process.stdin.write(json.dumps(part) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        watching.set()
        watch.join()
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def _watch(self, over: threading.Event) -> None:
        """Kill the process if it does not come to another case."""
        while not over.wait(1.0):
            if time.time() - self.journal.stat().st_mtime > HANGS:
                self.process.kill()

    def end(self) -> tuple[str, bytes]:
        """How the process ended, and its last case."""
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait()
        errors = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
        return f"ended with {code} ({errors[-1] if errors else ''})", self.journal.read_bytes()


def work(folder: Path) -> None:
    """Play the rounds that are asked for on stdin; answers go to stdout."""
    from tests.fuzz import rounds
    from tests.fuzz.guard import Limits, peak
    from tests.fuzz.targets import TARGETS

    answers, sys.stdout = sys.stdout, sys.stderr
    rounds.prepare(folder)
    for line in sys.stdin:
        part = json.loads(line)
        begun = time.process_time()
        report = rounds.play(
            TARGETS[part["target"]], part["seed"], part["count"], folder, Limits()
        )
        coded = {
            kind: (base64.b64encode(encoded(case)).decode(), said)
            for kind, (case, said) in report.findings.items()
        }
        answers.write(json.dumps({
            "cases": report.cases, "taken": report.taken, "known": report.known,
            "seconds": time.process_time() - begun, "peak": peak(), "findings": coded,
        }) + "\n")
        answers.flush()


def print_table(rows: dict[str, Row], seed: int, seconds: float) -> None:
    """A line per target, then the findings."""
    print(f"{'target':10} {'cases':>7} {'taken':>7} {'known':>6} {'seconds':>8} {'MB':>6} findings")
    for name, row in rows.items():
        print(f"{name:10} {row.cases:7} {row.taken:7} {row.known:6} {row.seconds:8.1f} "
              f"{row.peak >> 20:6} {len(row.findings):8}")
    total = sum(row.cases for row in rows.values())
    found = sum(len(row.findings) for row in rows.values())
    print(f"{total} cases in {seconds:.0f} s, {found} findings; --seed {seed}")
    for name, row in rows.items():
        for kind, (case, said) in row.findings.items():
            print(f"\n{name}: {kind}\n  {said[:600]}\n  smallest input:\n{shown(case)}")


def shown(case: bytes) -> str:
    """A case as it can be copied."""
    try:
        text = case.decode("utf-8")
    except UnicodeDecodeError:
        return f"  base64 {base64.b64encode(case).decode()}"
    lines = text.split("\n")
    return "\n".join(f"  {line if line.isprintable() else repr(line)}" for line in lines)


def keep(rows: dict[str, Row], folder: Path) -> None:
    """Write the findings as files of a corpus."""
    from tests.fuzz.targets import TARGETS

    for name, row in rows.items():
        for number, (kind, (case, _)) in enumerate(row.findings.items()):
            place = folder / name / f"{number}{TARGETS[name].suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(case)
            print(f"{place}: {kind}")


if __name__ == "__main__":
    main()
