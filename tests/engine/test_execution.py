"""What is done for speed gives the same pictures as doing without."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from clipig.cli.options import parse_bytes
from clipig.config.schema import Experiment
from clipig.engine import window as ahead
from clipig.engine.events import Finished
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.graphs import StepOutcome
from clipig.engine.host import keep_freed_memory
from clipig.engine.loop import Optimization, optimize
from clipig.engine.memory import MemoryFit, fit, footprint, free_memory
from clipig.engine.window import Window, tensors
from clipig.jobs.bench import measure
from clipig.ops.kernels.clamp import clamp_inward, clamp_unit
from clipig.ops.kernels.tones import Tone
from clipig.ops.optimizers import OPTIMIZERS
from clipig.plan.compiler import compile
from clipig.plan.plan import Plan
from tests.support.no_sync import step_without_waiting
from tests.support.tiny_encoder import TinyEncoder

BASE: dict[str, Any] = {
    "epochs": 5,
    "resolution": 20,
    "targets": [{
        "batch_size": 5,
        "features": [{"text": "a cat", "weight": "1 + sim/100 + t"}],
        "transforms": [{"pad": {"size": 4, "mode": "edge"}}, {"random_rotate": "-20 20"},
                       {"noise": "0.1*ti"}],
        "constraints": [{"blur": {"kernel_size": 3, "weight": "t"}}],
    }],
    "postproc": [{"blur": {"kernel_size": 3, "sigma": ".1+t"}}],
    "learnrate": "1 - t/2",
    "ema": 0.5,
}


def picture(settings: Execution, runs: int = 2, **changes: Any) -> torch.Tensor:
    """The final pictures of some runs."""
    experiments = [
        Experiment.model_validate({**BASE, "seed": seed, **changes}) for seed in range(runs)
    ]
    encoder = TinyEncoder()
    plan = compile(experiments, [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    last = list(optimize(plan, [encoder], prompts, settings=settings))[-1]
    assert isinstance(last, Finished)
    return last.picture.rgb


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_chunks_give_the_same_picture(chunk: int) -> None:
    whole, parts = picture(Execution()), picture(Execution(chunk=chunk))
    torch.testing.assert_close(parts, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_step_counted_on_the_device_is_the_same_step(
    optimizer: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`held`: with what is prepared for some steps in tensors that stay where they are."""
    expected = picture(Execution(), optimizer=optimizer)
    work = Optimization._work
    places: set[int] = set()

    def by_tensor(running: Optimization, step: int | torch.Tensor) -> StepOutcome:
        assert isinstance(step, int)
        if held:
            running.program.hold(step)
            for target in running.program.targets:
                for window in target.windows.values():
                    places.add(next(tensors(window._held)).data_ptr())
        return work(running, torch.as_tensor(step)).copied()

    monkeypatch.setattr(ahead, "STEPS", 2)
    monkeypatch.setattr(Optimization, "_work", by_tensor)
    torch.testing.assert_close(picture(Execution(), optimizer=optimizer), expected,
                               atol=2e-5, rtol=0)
    assert len(places) == int(held)


@pytest.mark.parametrize(("first", "last", "count"), [(0, 5, 2), (3, 4, 1), (2, 40, 7), (0, 6, 6)])
def test_windows_hold_every_step(
    first: int, last: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step finds its own rows, in any order, whether it comes alone or is held."""
    made: list[tuple[int, int]] = []

    def make(begin: int, steps: int) -> tuple[Tone]:
        made.append((begin, steps))
        numbers = torch.arange(begin, begin + steps).repeat_interleave(2) * 10
        return (Tone((numbers + torch.arange(2).repeat(steps)).view(-1, 1, 1, 1, 1)),)

    monkeypatch.setattr(ahead, "STEPS", count)
    window = Window(make, first, last, 2, 4, torch.device("cpu"))
    assert window.read(torch.tensor(first)) is None
    for step in [*range(first, last), first, last - 1]:
        window.hold(step)
        for (part,) in (window.at(step), window.read(torch.tensor(step)) or ()):
            assert isinstance(part, Tone)
            assert part.scale is not None
            assert part.scale.flatten().tolist() == [10 * step, 10 * step + 1]
    assert all(first <= begin and begin + steps <= last for begin, steps in made)


def test_a_chain_without_numbers_is_held_too() -> None:
    window = Window(lambda first, count: (None,), 0, 9, 2, 1, torch.device("cpu"))
    window.hold(3)
    assert window.read(torch.tensor(3)) == (None,)


def test_freed_memory_is_kept_only_where_nobody_decided_otherwise(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        assert keep_freed_memory()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


@pytest.mark.parametrize(("given", "policy", "spins"), [
    ({}, "PASSIVE", "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", "None"),
    ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", "7"),
])
def test_the_command_line_says_how_threads_wait(
    given: dict[str, str], policy: str, spins: str
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    clean = {k: v for k, v in os.environ.items() if k not in names}
    program = ("import os, contextlib, clipig.cli as c\n"
               "with contextlib.suppress(SystemExit): c.main(['--version'])\n"
               f"print(*(os.environ.get(n) for n in {names}))")
    done = subprocess.run([sys.executable, "-c", program], env={**clean, **given},
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{policy} {spins}"


def test_clamps_have_the_gradients_of_their_formulas() -> None:
    x = torch.cat([torch.linspace(-0.5, 1.5, 401), torch.tensor([0.0, 1.0, -1e-6, 1 + 1e-6])])
    for sign in (-1.0, 1.0):
        grad = torch.full_like(x, sign * 1e-7)
        a = x.clone().requires_grad_(True)
        out = clamp_unit(a)
        assert torch.equal(out, x.clamp(0, 1))
        out.backward(grad)
        inside = (x >= 0) & (x <= 1)
        torch.testing.assert_close(a.grad, grad * inside, atol=0, rtol=0)
        c = x.clone().requires_grad_(True)
        clamp_inward(c).backward(grad)
        stuck = ((x < 0) & (grad > 0)) | ((x > 1) & (grad < 0))
        torch.testing.assert_close(c.grad, grad.masked_fill(stuck, 0.0), atol=0, rtol=0)


def test_events_keep_what_they_say() -> None:
    encoder = TinyEncoder()
    plan = compile([Experiment.model_validate({**BASE, "seed": 1})], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    stream = optimize(plan, [encoder], prompts)
    kept = [e for e in stream if hasattr(e, "alive")]
    assert len({id(e.alive) for e in kept}) == len(kept)
    assert all(bool(e.alive.all()) for e in kept)


def test_the_compiler_is_not_imported_for_a_run() -> None:
    code = (
        "import tests.engine.test_execution as t; import sys\n"
        "from clipig.engine.execution import Execution\n"
        "t.picture(Execution(), 1)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def plan_of(runs: int, **changes: Any) -> tuple[Plan, list[TinyEncoder]]:
    """A plan of some runs, and its encoder."""
    encoder = TinyEncoder()
    experiments = [
        Experiment.model_validate({**BASE, "seed": seed, **changes}) for seed in range(runs)
    ]
    return compile(experiments, [encoder.info]), [encoder]


def test_groups_fit_the_memory() -> None:
    plan, encoders = plan_of(100)
    need = footprint(plan, encoders)
    assert fit(plan, encoders, free=1 << 40).group <= 100
    tight = fit(plan, encoders, limit=need.run * 7, free=1 << 40)
    assert 1 <= tight.group <= 7
    assert tight.chunk is None
    assert fit(plan, encoders, free=need.run * 4).group <= 3


def test_views_are_chunked_if_not_even_one_run_fits() -> None:
    plan, encoders = plan_of(3)
    need = footprint(plan, encoders)
    cramped = fit(plan, encoders, limit=need.run - need.views + 2 * need.each)
    assert (cramped.group, cramped.chunk) == (1, 2)
    assert fit(plan, encoders, limit=1) == MemoryFit(1, 1)


def test_larger_pictures_and_more_views_need_more() -> None:
    plan, encoders = plan_of(1)
    base = footprint(plan, encoders).run
    assert footprint(plan_of(1, resolution=80)[0], encoders).run > base
    more = [{**BASE["targets"][0], "batch_size": 50}]
    assert footprint(plan_of(1, targets=more)[0], encoders).run > 4 * base
    assert free_memory(torch.device("cpu")) > 0


def test_amounts_of_memory() -> None:
    assert parse_bytes("6G") == parse_bytes("6 GiB") == 6 << 30
    assert parse_bytes("1.5m") == 3 << 19
    assert parse_bytes("123") == 123
    for wrong in ("", "lots", "-1G", "nan"):
        with pytest.raises(ValueError, match=r".*"):
            parse_bytes(wrong)


def test_bench_reports_what_it_measured() -> None:
    experiment = Experiment.model_validate({**BASE, "seed": 1})
    report = measure(experiment, [TinyEncoder()], seconds=1, runs=(1, 4))
    assert report.one.views == 5
    assert report.one.rounds >= 3
    assert report.one.floor > 0
    assert [r.runs for r in report.rows] == [1, 4]
    assert all(r.picture > 0 and r.group <= r.runs for r in report.rows)
    assert report.flops is not None
    assert report.flops > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_does_not_wait_for_the_device() -> None:
    encoder = TinyEncoder(device="cuda")
    plan = compile([Experiment.model_validate({**BASE, "seed": 1})], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    settings = Execution(graphs="off")
    stream = optimize(plan, [encoder], prompts, settings=settings)
    step_without_waiting(stream)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_give_the_same_picture() -> None:
    found = []
    for graphs in ("off", "on"):
        encoder = TinyEncoder(device="cuda")
        experiments = [Experiment.model_validate({**BASE, "seed": 1, "epochs": 8})]
        plan = compile(experiments, [encoder.info])
        prompts = encode_prompts(plan, [encoder], PromptCache())
        settings = Execution(graphs="on" if graphs == "on" else "off")
        last = list(optimize(plan, [encoder], prompts, settings=settings))[-1]
        assert isinstance(last, Finished)
        found.append(last.picture.rgb)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
