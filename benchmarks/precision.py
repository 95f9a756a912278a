"""Do pictures made in bf16 (or fp16) come out as good as in fp32?

    python benchmarks/precision.py [--model embedded] [--runs 8] [--epochs 60]

The same seeds in each precision; all final pictures are rated in fp32. Half
precision is good enough if the difference of means is small against the spread
over seeds.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from clipig import encoders
from clipig.config.load import load
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.host import keep_freed_memory
from clipig.engine.losses import similarities
from clipig.ops.kernels.sampling import resize
from clipig.plan.compiler import compile
from clipig.session import Session


def ratings(precision: str, args: argparse.Namespace) -> list[float]:
    """100 * cosine of each run's final picture with its prompt, in fp32."""
    experiment = load(args.config, overrides=[
        "seed=11", f"epochs={args.epochs}", f"runs={args.runs}"])
    session = Session(args.model, args.device, precision)
    images = session.run(experiment).images.to(args.device)
    judge = encoders.load(args.model, args.device, "fp32")
    plan = compile(session.settle(experiment), [judge.info])
    prompts = encode_prompts(plan, [judge], PromptCache()).embeddings[0][0]
    side = judge.info.size
    with torch.no_grad():
        rows = judge.encode_image(resize(images, (side, side)))[:, None]
    return [100 * x for x in similarities(rows, prompts)[:, 0, 0].tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--config", default="method_1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if args.threads:
        torch.set_num_threads(args.threads)
    base: list[float] = []
    for precision in args.precision:
        found = ratings(precision, args)
        base = base or found
        apart = [a - b for a, b in zip(found, base, strict=True)]
        print(f"{precision}: mean {statistics.mean(found):.2f}, std over seeds "
              f"{statistics.stdev(found):.2f}, mean difference {statistics.mean(apart):+.2f}, "
              f"its std {statistics.stdev(apart):.2f}", flush=True)


if __name__ == "__main__":
    main()
