"""Peak memory by number of runs and by size of the picture, against the estimate.

    python benchmarks/memory.py [--model embedded] [--device cpu]

Each row is a process of its own that does three steps. On a CPU the peak is that
of the resident set, less what was there before the first step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch

from clipig import encoders
from clipig.bench import Bench, peak_memory
from clipig.config.load import load
from clipig.features import PromptCache
from clipig.memory import footprint
from clipig.settings import Settings


def one(args: argparse.Namespace) -> None:
    """Measure and print one row."""
    experiment = load("method_1", overrides=["seed=1", f"resolution=[{args.side}, {args.side}]"])
    encoder = encoders.load(args.model, args.device, args.precision)
    bench = Bench(experiment, [encoder], Settings(chunk=args.chunk), PromptCache())
    need = footprint(bench.plan, [encoder])
    before = peak_memory(encoder.device)
    step = bench.stepper(args.runs)
    for _ in range(3):
        step()
    used = peak_memory(encoder.device) - before
    mib = 2**20
    print(f"{args.runs:5} {args.side:6} {args.chunk or '-':>6} {used / mib:10.0f} "
          f"{need.run * args.runs / mib:10.0f} {used / args.runs / mib:10.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--chunk", type=int)
    args = parser.parse_args()
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
