"""Time of making views: the article's method 1, cutouts, alternatives, random numbers.

    python benchmarks/sampling.py [--device cuda] [--threads 2] [--repeats 9]

Forward and backward, the least and the median of several, in milliseconds.
`stacked` is what `sample` does on a GPU and for several runs: the views of a run
lie below one another in one grid. `expanded` copies the canvas for each view.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.base import numbers_of
from clipig.ops.kernels.resizing import resize
from clipig.ops.transforms import TRANSFORMS
from clipig.ops.transforms.base import Transform
from clipig.ops.transforms.chain import Chain
from clipig.rng import Draw, ViewDraw


def bound(op: Transform, device: torch.device) -> SimpleNamespace:
    """The constant fields of an op as the engine would bind them."""
    fields: dict[str, object] = {}
    marks = numbers_of(type(op))
    for name in type(op).model_fields:
        value = getattr(op, name)
        if name not in marks or value is None:
            fields[name] = value
        elif marks[name].size:
            fields[name] = tuple(reversed(value.numbers()))
        else:
            fields[name] = torch.tensor(value.numbers(), device=device).float().view(1, 1, -1)
    return SimpleNamespace(**fields)


def timed(job: Callable[[], object], repeats: int, device: torch.device) -> str:
    """Least and median time of a job."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[2:]
    return f"{min(times):9.2f} {statistics.median(times):9.2f}"


def views_job(
    ops: list[Transform], runs: int, views: int, canvas: int, final: int, device: torch.device
) -> Callable[[], object]:
    """A forward and backward pass of a chain."""
    params = [bound(op, device) for op in ops]
    chain = Chain.arrange(ops, params, (canvas, canvas), (final, final))
    source = torch.rand(runs, 3, canvas, canvas, device=device, requires_grad=True)
    draw = Draw(range(runs), device)
    weight = torch.rand(1, 1, 3, final, final, device=device)

    def job() -> None:
        source.grad = None
        draws = [ViewDraw(draw, number, 0, views) for number in range(len(ops))]
        (chain.run(source, params, draws, views) * weight).sum().backward()

    return job


def one_by_one(
    ops: list[Transform], runs: int, views: int, canvas: int, final: int, device: torch.device
) -> Callable[[], object]:
    """The same, with a sampling for each transform and a resize at last: nothing is fused."""
    steps = []
    size = (canvas, canvas)
    for op in ops:
        p = bound(op, device)
        out = op.out_size(size, p)
        steps.append((p, Chain.arrange([op], [p], size, out)))
        size = out
    source = torch.rand(runs, 3, canvas, canvas, device=device, requires_grad=True)
    draw = Draw(range(runs * views), device)
    weight = torch.rand(1, 1, 3, final, final, device=device)

    def job() -> None:
        source.grad = None
        made = source[:, None].expand(-1, views, -1, -1, -1)
        for number, (p, chain) in enumerate(steps):
            flat = made.flatten(0, 1)  # each view is an image of its own from here on
            drawn = [ViewDraw(draw, number, 0, 1)]
            made = chain.run(flat, [p], drawn, 1)[:, 0].unflatten(0, (runs, views))
        made = resize(made.flatten(0, 1), (final, final)).unflatten(0, (runs, views))
        (made * weight).sum().backward()

    return job


def turned_grid(runs: int, views: int, size: int, device: torch.device) -> Tensor:
    angle = (torch.rand(runs * views, device=device) - 0.5)
    zero = torch.zeros_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    theta = torch.stack(rows, -1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [runs * views, 3, size, size], align_corners=False)
    return grid.view(runs, views, size, size, 2)


def alternatives(
    runs: int, views: int, canvas: int, size: int, device: torch.device
) -> dict[str, Callable[[], object]]:
    """The reading alone, done in several ways."""
    source = torch.rand(runs, 3, canvas, canvas, device=device, requires_grad=True)
    grid = turned_grid(runs, views, size, device)

    def read(copies: int) -> None:
        source.grad = None
        pictures = source.repeat_interleave(copies, 0) if copies > 1 else source
        rows = grid.reshape(runs * copies, views // copies * size, size, 2)
        out = F.grid_sample(pictures, rows, padding_mode="border", align_corners=False)
        out.sum().backward()

    return {"stacked": lambda: read(1), "two copies": lambda: read(2),
            "expanded": lambda: read(views)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--unfused", action="store_true",
                        help="also do the transforms one by one, each with its own sampling")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    repeats = options.repeats
    print(f"torch {torch.__version__}, {device}, {options.threads} threads; least, median [ms]")

    turn = [TRANSFORMS["pad"](size=32, mode="edge"),
            TRANSFORMS["random_rotate"](degree=[-30, 30], center=[0, 1])]
    colors = [TRANSFORMS["mul"](factor=0.5), TRANSFORMS["mean"](value=0.5),
              TRANSFORMS["noise"](std=0.1)]
    cut = [TRANSFORMS["cutouts"](scale=[0.2, 1], size=224)]
    print("\nviews, forward and backward")
    for name, ops, runs, views, canvas, final in (
        ("method 1, geometry", turn, 1, 10, 224, 224),
        ("method 1, geometry", turn, 1, 10, 224, 64),
        ("method 1, all", turn + colors, 1, 10, 224, 224),
        ("method 1, all", turn + colors, 1, 10, 224, 64),
        ("method 1, geometry", turn, 64, 10, 64, 64),
        ("method 1, all", turn + colors, 64, 10, 64, 64),
        ("cutouts", cut, 1, 10, 224, 224),
        ("cutouts", cut, 1, 10, 1024, 224),
        ("cutouts", cut, 1, 64, 1024, 224),
    ):
        job = views_job(ops, runs, views, canvas, final, device)
        label = f"{name} R={runs} N={views} {canvas} -> {final}"
        print(f"  {label:42s} {timed(job, repeats, device)}")
        if options.unfused:
            job = one_by_one(ops, runs, views, canvas, final, device)
            print(f"  {'  one by one':42s} {timed(job, repeats, device)}")

    print("\nreading only, forward and backward")
    for runs, views, canvas, size in (
        (1, 10, 224, 224), (1, 10, 66, 64), (64, 10, 64, 64), (1, 10, 1024, 224)
    ):
        for name, job in alternatives(runs, views, canvas, size, device).items():
            label = f"{name} R={runs} N={views} {canvas} -> {size}"
            print(f"  {label:42s} {timed(job, repeats, device)}")

    print("\nrandom numbers")
    for runs, size in ((1, 64), (1, 224), (64, 64)):
        draw, shape = Draw(range(runs), device), (10, 3, size, size)
        for name, job in {
            "normal": lambda d=draw, s=shape: d.normal(1, 2, s),
            "uniform": lambda d=draw, s=shape: d.uniform(1, 2, s),
            "torch.randn": lambda r=runs, s=shape: torch.randn(r, *s, device=device),
        }.items():
            label = f"{name} {runs} x 10 x 3 x {size} x {size}"
            print(f"  {label:42s} {timed(job, repeats, device)}")


if __name__ == "__main__":
    main()
