"""The rows for one H200, in one command, with a randomly initialised ViT-B/32.

    python benchmarks/gpu.py [--json results.json] [--quick]

Checks correctness on CUDA first (graph against eager, no wait for the device
inside a step), then measures. Prints a table with targets; a row that could not be
measured says why.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_checkpoint import write_random_checkpoint
from clipig.config.load import load
from clipig.config.schema import Experiment
from clipig.encoders.protocol import Encoder
from clipig.engine.device import peak_memory, wait
from clipig.engine.events import Finished, Step
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.jobs.bench import Bench, count_flops, peak_flops, timed
from clipig.plan.compiler import compile
from clipig.session import Session

DEVICE = torch.device("cuda")
CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def final(experiment: Experiment, encoder: Encoder, settings: Execution) -> torch.Tensor:
    """The picture at the end of a run."""
    plan = compile([experiment], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    last = list(optimize(plan, [encoder], prompts, settings=settings))[-1]
    assert isinstance(last, Finished)
    return last.picture.rgb.cpu()


def graph_against_eager(experiment: Experiment, encoder: Encoder) -> dict[str, Any]:
    """The greatest difference of a picture made with and without CUDA graphs."""
    short = experiment.model_copy(update={"epochs": load(
        "method_1", overrides=["epochs=12"]).epochs})
    plain = final(short, encoder, Execution(graphs="off"))
    again = final(short, encoder, Execution(graphs="off"))
    graph = final(short, encoder, Execution(graphs="on"))
    return {
        "graph_difference": float((graph - plain).abs().max()),
        "run_to_run_difference": float((again - plain).abs().max()),
    }


def waits(experiment: Experiment, encoder: Encoder) -> str:
    """Whether a step waits for the device."""
    plan = compile([experiment], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    stream = optimize(plan, [encoder], prompts, settings=Execution(graphs="off"))
    steps = (e for e in stream if isinstance(e, Step))
    for _ in range(2):
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            next(steps)
    except RuntimeError as e:
        return f"yes: {str(e).splitlines()[0]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def curve(bench: Bench, largest: int) -> list[dict[str, float]]:
    """Cost of a step by the number of runs."""
    rows = []
    for runs in (n for n in CURVE if n <= largest):
        torch.cuda.reset_peak_memory_stats()
        try:
            step = bench.stepper(runs)
            for _ in range(5):
                step()
            seconds = sorted(timed(step) for _ in range(9))[4]
        except torch.OutOfMemoryError:
            break
        rows.append({
            "runs": runs, "step_ms": seconds * 1e3, "per_run_ms": seconds / runs * 1e3,
            "views_per_s": runs * bench.views / seconds, "peak_gib": peak_memory(DEVICE) / 2**30,
        })
        print("  {runs:4} runs {step_ms:9.2f} ms {per_run_ms:8.3f} ms/run "
              "{views_per_s:9.0f} views/s {peak_gib:6.1f} GiB".format(**rows[-1]), flush=True)
        torch.cuda.empty_cache()
    return rows


def short_runs(session: Session, name: str) -> float:
    """Seconds of 512 runs of 20 epochs, all of it but loading the weights."""
    experiment = load("method_1", overrides=["seed=1", "epochs=20", "runs=512"]).model_copy()
    many = [e.model_copy(update={"model": [experiment.model[0].model_copy(update={"name": name})]})
            for e in session.settle(experiment)]
    session.encoders(many[0])
    began = time.perf_counter()
    for _ in session.render(many):
        pass
    wait(DEVICE)
    return time.perf_counter() - began


def attempt(work: Callable[[], Any]) -> Any:
    """The result, or what went wrong; one row that fails does not cost the others."""
    try:
        return work()
    except Exception as e:
        return f"failed: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--quick", action="store_true", help="at most 64 runs, no long rows")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: the rows stay `not measured`")
    with tempfile.TemporaryDirectory() as folder:
        path = str(write_random_checkpoint("ViT-B/32", Path(folder) / "random.pt", half=True))
        session = Session(path, "cuda", args.precision)
        experiment = session.settle(load("method_1", overrides=["seed=1"]))[0]
        encoder = session.encoders(experiment)[0]
        bench = Bench(experiment, [encoder], Execution(), PromptCache())
        found: dict[str, Any] = {
            "device": torch.cuda.get_device_name(), "torch": torch.__version__,
            "precision": str(encoder.dtype),
        }
        found["correct"] = attempt(lambda: graph_against_eager(experiment, encoder))
        found["waits_in_a_step"] = attempt(lambda: waits(experiment, encoder))
        found["one"] = attempt(lambda: vars(bench.compare(1, 5.0)))
        eager = Bench(experiment, [encoder], Execution("off", "off"), PromptCache())
        found["one_eager"] = attempt(lambda: vars(eager.compare(1, 5.0)))
        found["curve"] = attempt(lambda: curve(bench, 64 if args.quick else 512))
        flops, peak = count_flops(encoder), peak_flops(encoder)
        found["flops_per_view"], found["peak_flops"] = flops, peak
        if isinstance(found["curve"], list) and found["curve"] and flops:
            best = max(row["views_per_s"] for row in found["curve"])
            found["best_views_per_s"], found["share_of_peak"] = best, best * flops / peak
            found["grid_810x300x10_min"] = 810 * 300 * 10 / best / 60
            costs = [row["per_run_ms"] for row in found["curve"]]
            found["cost_falls"] = all(b <= a * 1.02 for a, b in pairwise(costs))
        if not args.quick:
            found["short_runs_512x20_s"] = attempt(lambda: short_runs(session, path))
    targets = {
        "one": "ratio <= 1.2", "best_views_per_s": ">= 18000", "share_of_peak": ">= 0.40",
        "grid_810x300x10_min": "< 3", "short_runs_512x20_s": "< 8", "waits_in_a_step": "no",
    }
    for key, value in found.items():
        goal = f"   (target {targets[key]})" if key in targets else ""
        print(f"{key}: {value}{goal}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
