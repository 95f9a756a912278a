"""Where the time of a step goes: operations of the engine's step beside those of its floor.

    python benchmarks/profile_step.py [--config method_1] [--model embedded] [--runs 8]

One thread, torch's profiler, milliseconds per step by operation; the last column is
what the engine adds to the encoder. The profiler itself costs time where there are
many small operations, so the sums are larger than what `step.py` measures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from clipig import encoders
from clipig.config.load import load
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache
from clipig.engine.host import keep_freed_memory
from clipig.jobs.bench import Bench

Cost = dict[str, tuple[float, float]]


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing on stderr: the profiler's library writes there about devices that are missing."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def costs(work: Callable[[], None], rounds: int) -> Cost:
    """Milliseconds and calls of each operation, per call of `work`."""
    for _ in range(3):
        work()
    with hushed(), profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(rounds):
            work()
    return {
        e.key: (e.self_cpu_time_total / rounds / 1e3, e.count / rounds)
        for e in seen.key_averages()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="method_1")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=24)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    encoder = encoders.load(args.model, "cpu", args.precision)
    bench = Bench(load(args.config, overrides=["seed=1"]), [encoder], Execution(), PromptCache())
    floor = costs(bench.floor(args.runs), args.rounds)
    step = costs(bench.stepper(args.runs), args.rounds)
    print(f"{'ms':>8} {'calls':>7} {'floor':>8} {'added':>8}  operation")
    rows = [(ms, calls, floor.get(name, (0.0, 0.0))[0], name) for name, (ms, calls) in step.items()]
    rows.sort(key=lambda r: r[2] - r[0])
    for ms, calls, low, name in rows[: args.rows]:
        print(f"{ms:8.2f} {calls:7.0f} {low:8.2f} {ms - low:8.2f}  {name}")
    whole, least = (sum(ms for ms, _ in c.values()) for c in (step, floor))
    print(f"{whole:8.2f} {'':7} {least:8.2f} {whole - least:8.2f}  all; ratio {whole / least:.2f}")


if __name__ == "__main__":
    main()
