"""One step as the original CLIPig does it, against ours, in turn and in one process.

    python benchmarks/original_step.py [--checkpoint FILE] [--rounds 3] [--precision bf16]

Written from the description of its training loop, not from its code. What it
does and ours does not: weights are not frozen, so that every backward pass also
makes the gradients of both towers' weights; the text keeps its graph, which is
therefore retained; anomaly detection is on; views are made one by one, each from
the whole picture. Both do the article's method 1: ViT-B/32, 10 views, 224 pixels.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, rotate

from benchmarks.random_checkpoint import build_random_model, write_random_checkpoint
from clipig import encoders
from clipig.config.load import load
from clipig.encoders.architecture import MEAN, STD
from clipig.encoders.clip_package import import_clip
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache
from clipig.engine.host import keep_freed_memory
from clipig.jobs.bench import Bench

VIEWS, SIDE, PAD = 10, 224, 32


class Original:
    """The canvas, the model with weights that want gradients, and the step."""

    def __init__(self, text: str):
        self.model: Any = build_random_model("ViT-B/32")
        self.pixels = torch.rand(3, SIDE, SIDE).mul(0.1).add(0.3).requires_grad_(True)
        self.optimizer = torch.optim.RMSprop([self.pixels], lr=0.003, centered=True, momentum=0.1)
        tokens = import_clip().tokenize([text])
        self.text = F.normalize(self.model.encode_text(tokens), dim=-1)  # its graph stays
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)
        self.last: Tensor | None = None

    def view(self, picture: Tensor) -> Tensor:
        """One view: pad, rotate, mul, mean, noise, resize."""
        x = F.pad(picture[None], (PAD,) * 4, mode="replicate")[0]
        center = [int(random.random() * x.shape[-1]), int(random.random() * x.shape[-2])]
        x = rotate(x, random.uniform(-30, 30), InterpolationMode.NEAREST, center=center)
        x = x * 0.5
        x = x + (0.5 - x.mean((1, 2), keepdim=True))
        x = x + torch.randn(x.shape) * 0.1
        return F.interpolate(x[None], (SIDE, SIDE), mode="bicubic", align_corners=False)[0]

    def step(self) -> None:
        """One epoch."""
        with torch.autograd.set_detect_anomaly(True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = self.pixels.clamp(0, 1)
            views = torch.stack([self.view(picture) for _ in range(VIEWS)]).clamp(0, 1)
            seen = F.normalize(self.model.encode_image((views - self.mean) / self.std), dim=-1)
            loss = torch.zeros(())
            for row in seen:
                likeness = (row * self.text[0]).sum()
                float(likeness)  # statistics
                loss = loss + (1 - likeness)
            if loss:
                self.optimizer.zero_grad()
                loss.backward(retain_graph=True)
                self.optimizer.step()
            self.last = loss  # keeps the graph while the next one is made


def both(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the wall clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a random ViT-B/32 (made if not given)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = args.checkpoint or write_random_checkpoint(
            "ViT-B/32", Path(folder) / "random.pt", half=True
        )
        encoder = encoders.load(str(path), "cpu", args.precision)
    experiment = load("method_1", overrides=["seed=1"])
    bench = Bench(experiment, [encoder], Execution(), PromptCache())
    ours, theirs = bench.stepper(1), Original("a penguin made of piano").step
    ours()
    theirs()
    rows = [(both(theirs), both(ours)) for _ in range(args.rounds)]
    median = statistics.median
    print(json.dumps({
        "precision": str(encoder.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "original_s": median(t[0] for t, _ in rows), "ours_s": median(o[0] for _, o in rows),
        "ratio_wall": median(t[0] / o[0] for t, o in rows),
        "original_cpu_s": median(t[1] for t, _ in rows),
        "ours_cpu_s": median(o[1] for _, o in rows),
        "ratio_cpu": median(t[1] / o[1] for t, o in rows),
    }, indent=1))


if __name__ == "__main__":
    main()
