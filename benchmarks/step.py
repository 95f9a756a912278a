"""Engine step against its floor: the rows of the table in docs/performance.md.

    python benchmarks/step.py [--model embedded] [--config method_1] [--runs 1 8] [--threads 1]

Floor and step are measured in turn. Besides the wall clock, processor seconds
are counted: on a shared machine with one thread they are what can be trusted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from clipig import encoders
from clipig.config.load import load
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache
from clipig.engine.host import keep_freed_memory
from clipig.jobs.bench import Bench

Pair = tuple[float, float]


def both(work: Callable[[], None]) -> Pair:
    """Seconds by the wall clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def row(bench: Bench, name: str, runs: int, seconds: float) -> str:
    """Measure one row."""
    step, floor = bench.stepper(runs), bench.floor(runs)
    for _ in range(2):
        floor()
        step()
    floors: list[Pair] = []
    steps: list[Pair] = []
    end = time.perf_counter() + seconds
    while len(floors) < 5 or time.perf_counter() < end:
        floors.append(both(floor))
        steps.append(both(step))
    columns = []
    for clock in (0, 1):
        a, b = [f[clock] for f in floors], [s[clock] for s in steps]
        ratios = statistics.median(y / x for x, y in zip(a, b, strict=True))
        columns.append(f"{statistics.median(a) * 1e3:9.1f} {statistics.median(b) * 1e3:9.1f} "
                       f"{ratios:6.3f}")
    return f"{name:28} {runs:4} {' '.join(columns)} {len(floors):4}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--config", default="method_1")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"threads {torch.get_num_threads()}; wall: floor, step (ms), ratio; processor: the same")
    for precision in args.precision:
        encoder = encoders.load(args.model, args.device, precision)
        experiment = load(args.config, overrides=["seed=1"])
        bench = Bench(experiment, [encoder], Execution(), PromptCache())
        for runs in args.runs:
            print(row(bench, f"{encoder.info.name[-18:]} {precision}", runs, args.seconds),
                  flush=True)


if __name__ == "__main__":
    main()
