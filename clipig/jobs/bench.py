"""Measures the speed of engine steps relative to their floor, the encoder alone.

The floor of a step is the encoder's forward pass for all views and its backward
pass to the pixels. Floor and engine step are measured alternately, so that other load on
the machine affects both. The overhead is the median of their ratios.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipig.config.schema import Experiment
from clipig.encoders.protocol import Encoder
from clipig.engine.device import peak_memory, wait
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import Optimization
from clipig.engine.memory import fit, view_bytes
from clipig.plan.compiler import compile
from clipig.plan.plan import Phase, Plan
from clipig.rng import derive_seed

RUNS = (1, 8, 64, 512)


@dataclass(frozen=True)
class FloorRatio:
    """Comparison of a step with its floor. Times are medians in seconds.

    ratio    median of step / floor of neighbouring measurements
    rounds   number of such measurements
    """

    runs: int
    views: int
    floor: float
    step: float
    ratio: float
    rounds: int

    @property
    def views_per_second(self) -> float:
        """Views of all runs per second of engine steps."""
        return self.views / self.step if self.views else 0.0


@dataclass(frozen=True)
class BenchRow:
    """Cost of a number of runs: runs per group, and seconds per step, image and in total."""

    runs: int
    group: int
    step: float
    picture: float
    total: float
    views_per_second: float


@dataclass(frozen=True)
class Report:
    """Results of `measure`.

    flops          FLOP of one view, forward and backward to the pixels; None if unknown
    peak           FLOP/s of a large matrix product in the encoder's precision
    share          fraction of that peak that the engine's steps reach; None if unknown
    memory         maximum memory of the process (CPU) or of the device, bytes
    view_memory    memory that an encoder needs per view, bytes
    first_step     seconds of the first step, including its preparations
    """

    model: str
    precision: str
    device: str
    threads: int
    versions: str
    epochs: int
    size: tuple[int, int]
    one: FloorRatio
    rows: tuple[BenchRow, ...]
    flops: float | None
    peak: float
    share: float | None
    memory: int
    view_memory: int
    first_step: float


def measure(
    experiment: Experiment, encoders: Sequence[Encoder], seconds: float = 40.0,
    runs: Sequence[int] = RUNS, settings: Execution | None = None, limit: int | None = None,
    cache: PromptCache | None = None,
) -> Report:
    """Measure the longest phase of an experiment on its encoders' device.

    Args:
        experiment: One run.
        encoders: Loaded encoders of the experiment.
        seconds: Approximate duration of the measurement.
        runs: Numbers of runs to report.
        settings: Execution settings; None: the defaults.
        limit: Maximum bytes of memory; None: most of the free memory.
        cache: Embedded prompts; None: a new cache.
    """
    settings = settings or Execution()
    encoder = encoders[0]
    bench = Bench(experiment, encoders, settings, cache or PromptCache())
    began = time.perf_counter()
    stepper = bench.stepper(1)
    stepper()
    first = time.perf_counter() - began
    one = bench.compare(1, seconds * 0.4, stepper)
    groups = {n: bench.group(n, limit) for n in runs}
    sizes = sorted(set(groups.values()) - {1})
    costs = {1: one.step}
    for size in sizes:
        costs[size] = bench.cost(size, seconds * 0.5 / len(sizes))
    epochs = bench.plan.steps
    rows = tuple(
        BenchRow(n, g, costs[g], costs[g] / g * epochs, costs[g] / g * epochs * n,
            g * one.views / costs[g])
        for n, g in groups.items()
    )
    flops, peak = count_flops(encoder), peak_flops(encoder)
    best = max(row.views_per_second for row in rows)
    return Report(
        "+".join(e.info.name for e in encoders), precision_of(encoder), device_name(encoder.device),
        torch.get_num_threads(), f"Python {platform.python_version()}, torch {torch.__version__}",
        epochs, bench.phase.size, one, rows, flops, peak,
        best * flops / peak if flops and len(encoders) == 1 else None,
        peak_memory(encoder.device), view_bytes(encoder), first,
    )


class Bench:
    """Measures floors and engine steps of one experiment."""

    def __init__(
        self, experiment: Experiment, encoders: Sequence[Encoder], settings: Execution,
        cache: PromptCache,
    ):
        self.experiment, self.encoders, self.settings = experiment, tuple(encoders), settings
        self.cache = cache
        self.device = encoders[0].device
        self.plan = self.plan_for(1)
        self.phase = self._longest(self.plan)
        self.views = self.phase.views

    def plan_for(self, runs: int) -> Plan:
        """Compile a plan of `runs` runs that differ in their seeds."""
        many = [self.experiment.model_copy(update={"seed": derive_seed(1, k), "runs": 1})
                for k in range(runs)]
        return compile(many, [e.info for e in self.encoders])

    @staticmethod
    def _longest(plan: Plan) -> Phase:
        return max(plan.phases, key=lambda p: (p.last - p.first) * max(1, p.views))

    def group(self, runs: int, limit: int | None) -> int:
        """Number of runs per group if there are `runs` runs."""
        plan = replace(self.plan, experiments=self.plan.experiments * runs)
        return fit(plan, self.encoders, limit).group

    def stepper(self, runs: int) -> Callable[[], None]:
        """Make a function that does one engine step of `runs` runs and waits for the device."""
        plan = self.plan_for(runs)
        phase = self._longest(plan)
        prompts = encode_prompts(plan, self.encoders, self.cache)
        start = None
        if plan.experiment.init.image is not None or plan.experiment.init.image_tensor is not None:
            start = torch.rand(1, 3, *phase.size, generator=torch.Generator().manual_seed(1))
        running = Optimization(plan, self.encoders, prompts, start, None, None, self.settings)
        running.begin(phase)
        number = 0

        def step() -> None:
            nonlocal number
            running.advance(phase.first + number % (phase.last - phase.first))
            number += 1
            wait(self.device)

        return step

    def floor(self, runs: int) -> Callable[[], None]:
        """Make a function that does only the encoders' part of a step of `runs` runs."""
        batches = []
        for encoder in self.encoders:
            side = encoder.info.size
            draw = torch.Generator().manual_seed(1)
            pixels = torch.rand(runs * self.views, 3, side, side, generator=draw)
            pull = torch.randn(runs * self.views, encoder.info.width, generator=draw)
            batches.append((encoder, pixels.to(self.device), pull.to(self.device)))

        def floor() -> None:
            for encoder, pixels, pull in batches:
                given = pixels.detach().requires_grad_(True)
                torch.autograd.backward(encoder.encode_image(given), pull)
            wait(self.device)

        return floor

    def compare(
        self, runs: int, seconds: float, step: Callable[[], None] | None = None
    ) -> FloorRatio:
        """Measure floor and step alternately for about `seconds`."""
        step, floor = step or self.stepper(runs), self.floor(runs)
        for _ in range(2):
            floor()
            step()
        floors: list[float] = []
        steps: list[float] = []
        end = time.perf_counter() + seconds
        while len(floors) < 3 or (time.perf_counter() < end and len(floors) < 200):
            floors.append(timed(floor))
            steps.append(timed(step))
        ratios = [s / f for s, f in zip(steps, floors, strict=True)]
        median = statistics.median
        return FloorRatio(runs, runs * self.views, median(floors), median(steps), median(ratios),
                          len(ratios))

    def cost(self, runs: int, seconds: float) -> float:
        """Median seconds of a step of `runs` runs."""
        step = self.stepper(runs)
        step()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 2 or (time.perf_counter() < end and len(times) < 50):
            times.append(timed(step))
        return statistics.median(times)


def timed(work: Callable[[], None]) -> float:
    """Seconds that a call of `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def count_flops(encoder: Encoder) -> float | None:
    """Count the FLOP of one view, forward and backward; None if torch cannot count them."""
    from torch.utils.flop_counter import FlopCounterMode

    side = encoder.info.size
    pixels = torch.rand(1, 3, side, side, device=encoder.device, requires_grad=True)
    try:
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(encoder.encode_image(pixels).sum())
    except (RuntimeError, TypeError):
        return None
    total = float(counter.get_total_flops())
    return total or None


def peak_flops(encoder: Encoder) -> float:
    """FLOP/s of a large matrix product in the encoder's precision, the best of 5."""
    side = 8192 if encoder.device.type == "cuda" else 1536
    a = torch.randn(side, side, device=encoder.device, dtype=encoder.dtype)

    def product() -> None:
        _: Tensor = a @ a
        wait(encoder.device)

    product()
    return 2 * side**3 / min(timed(product) for _ in range(5))


def precision_of(encoder: Encoder) -> str:
    """Precision of an encoder: `fp32`, `bf16` or `fp16`."""
    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return names.get(encoder.dtype, str(encoder.dtype))


def device_name(device: torch.device) -> str:
    """Name of a device for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}"
