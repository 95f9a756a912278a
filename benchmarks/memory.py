"""Peak memory by number of runs and by size of the picture, against the estimate.

    python benchmarks/memory.py [--model embedded] [--device cpu]

Each row is a process of its own that does three steps. On a CPU the peak is that
of the resident set, less what was there before the first step (counted anew after
loading on Linux; elsewhere a large model's loading can hide the first rows).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import torch

from clipig import encoders
from clipig.config.load import load
from clipig.engine.device import peak_memory
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache
from clipig.engine.host import keep_freed_memory
from clipig.engine.memory import footprint
from clipig.jobs.bench import Bench


def one(args: argparse.Namespace) -> None:
    """Measure and print one row."""
    experiment = load("method_1", overrides=["seed=1", f"resolution=[{args.side}, {args.side}]"])
    encoder = encoders.load(args.model, args.device, args.precision)
    bench = Bench(experiment, [encoder], Execution(chunk=args.chunk), PromptCache())
    need = footprint(bench.plan, [encoder])
    gc.collect()
    fresh = forget_peak(encoder.device)
    before = resident("VmRSS") if fresh else peak_memory(encoder.device)
    step = bench.stepper(args.runs)
    for _ in range(3):
        step()
    used = (resident("VmHWM") if fresh else peak_memory(encoder.device)) - before
    mib = 2**20
    print(f"{args.runs:5} {args.side:6} {args.chunk or '-':>6} {used / mib:10.0f} "
          f"{need.run * args.runs / mib:10.0f} {used / args.runs / mib:10.1f}", flush=True)


def forget_peak(device: torch.device) -> bool:
    """Begin a new peak of the resident set (loading weights may have been the greatest).

    False where the system cannot, or on a GPU, whose own counter is used.
    """
    if device.type != "cpu":
        return False
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would hide what a step takes
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def resident(kind: str) -> int:
    """Bytes of the process: `VmRSS` now, `VmHWM` at the peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--chunk", type=int)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if args.runs:
        torch.set_num_threads(1 if args.device == "cpu" else torch.get_num_threads())
        one(args)
        return
    print(" runs   side  chunk   peak MiB   estimate    per run")
    rows = [(runs, 224, None) for runs in (1, 2, 4, 8, 16, 32)]
    rows += [(1, side, None) for side in (512, 1024, 2048, 4096)] + [(1, 2048, 2)]
    for runs, side, chunk in rows:
        command = [sys.executable, __file__, "--model", args.model, "--device", args.device,
                   "--precision", args.precision, "--runs", str(runs), "--side", str(side)]
        subprocess.run(command + (["--chunk", str(chunk)] if chunk else []), check=True)


if __name__ == "__main__":
    main()
