"""Steps on a device: nothing waits for it, nothing is sent to it, nothing mixes devices."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import adadelta, adam, adamax, nadam, rmsprop
from torch.optim import optimizer as torch_optimizer

from clipig.config.load import load, load_text
from clipig.config.reference import parts, tables
from clipig.config.runs import spread
from clipig.config.schema import Experiment
from clipig.config.sources import paths
from clipig.encoders.protocol import Encoder
from clipig.engine import update
from clipig.engine import window as ahead
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import Optimization
from clipig.engine.state import State
from clipig.ops.base import Op
from clipig.ops.optimizers import OPTIMIZERS
from clipig.plan.compiler import compile
from tests.support.meta_device import DEVICE, Refused, elsewhere
from tests.support.tiny_encoder import TinyEncoder

ROOT = Path(__file__).parents[2]
SHOWN = {
    **{f"configs/{name}": path for name, path in sorted(paths().items())},
    **{f"examples/{p.stem}": p for p in sorted((ROOT / "examples").glob("*.yaml"))},
}
OPS = [
    pytest.param(kind, cls, id=f"{kind}-{name}")
    for kind, table in tables().items() for name, cls in table.items()
]
STEPS = 4
"""of a phase, of which the first may do what it likes"""


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared for some steps is prepared again while nothing may wait."""
    monkeypatch.setattr(ahead, "STEPS", 2)


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let optimizers do here what they do on CUDA: count their steps on the device."""
    known = torch_optimizer._get_capturable_supported_devices()
    for module in (adadelta, adam, adamax, nadam, rmsprop):
        monkeypatch.setattr(
            module, "_get_capturable_supported_devices", lambda *a, **k: [*known, DEVICE.type]
        )
    fused = torch_optimizer._get_fused_kernels_supported_devices()
    monkeypatch.setattr(
        torch_optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused, DEVICE.type]
    )
    monkeypatch.setattr(update, "_GRAPHED", (DEVICE.type,))


def picture(name: str, side: int) -> Tensor:
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(len(name)))


def running(
    experiment: Experiment, settings: Execution | None = None,
    encoders: Sequence[Encoder] | None = None, state: State | None = None,
) -> Optimization:
    """Two runs of an experiment on the device."""
    runs = spread(experiment.model_copy(update={"seed": 1, "runs": 2}))
    models = encoders or [TinyEncoder(k, device=DEVICE) for k in range(len(experiment.model))]
    plan = compile(runs, [e.info for e in models])
    prompts = encode_prompts(plan, models, PromptCache(picture))
    init = experiment.init
    start = picture("start", 40)[None] if init.image or init.image_tensor is not None else None
    mask = torch.rand(1, 1, 20, 20) if experiment.mask else None
    return Optimization(plan, models, prompts, start, state, mask, settings or Execution())


def strict_steps(there: Optimization, counted: bool, phases: int = 2) -> int:
    """Take steps, all but each phase's first strictly; how many those were.

    `counted`: the number of the step lives on the device, as a CUDA graph needs it.
    """
    count = 0
    for phase in there.plan.phases[:phases]:
        there.begin(phase)
        number = torch.zeros((), dtype=torch.int64, device=DEVICE)

        def work(step: int, number: Tensor = number) -> None:
            if counted:
                there.program.hold(step)
            there._work(number.fill_(step) if counted else step)

        work(phase.first)  # moments and tables are made
        for step in range(phase.first + 1, min(phase.first + STEPS, phase.last)):
            with elsewhere():
                work(step)
            count += 1
        there.done = phase.last
    return count


@pytest.mark.parametrize("name", SHOWN)
def test_shipped_configs(name: str) -> None:
    assert strict_steps(running(load(SHOWN[name])), counted=False) >= 3


@pytest.mark.parametrize(("kind", "cls"), OPS)
def test_every_op(kind: str, cls: type[Op]) -> None:
    _, example = parts(cls)
    target = "targets:\n  - features:\n      - text: a cat\n"
    if kind in ("transforms", "constraints"):
        text = f"{target}    {kind}:\n" + textwrap.indent(example, "      ")
    else:
        text = ("postproc:\n" if kind == "postproc" else "") + example
        text += f"\n{target}" if "targets:" not in text else ""
    assert strict_steps(running(load_text(text, cls.name)), counted=True, phases=1) >= 3


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers(name: str, counted: bool) -> None:
    there = running(load(SHOWN["configs/method_1"], overrides=[f"optimizer={name}"]))
    assert strict_steps(there, counted) >= 3
    counts = {k: v for m in there.update.state().values() for k, v in m.items() if not v.ndim}
    # Adagrad's count decides nothing as its rate does not decay, so it may stay on the host
    assert name == "adagrad" or {v.device for v in counts.values()} <= {DEVICE}


HARD: dict[str, Any] = {
    "epochs": 9,
    "resolution": "24 20",
    "learnrate": "1 - t/2",
    "ema": 0.5,
    "margin": 0.1,
    "symmetry": "horizontal",
    "gradient": "clip",
    "targets": [
        {
            "batch_size": 4, "weight": "1 + sim/100", "select": "best",
            "features": [
                {"text": "a cat", "weight": "1 + sim/100 + t"},
                {"text": "a dog", "weight": -0.5, "target_similarity": 30, "loss": "l1"},
            ],
            "transforms": [{"pad": {"size": 4, "mode": "edge"}}, {"random_scale": ".5 2"},
                           {"random_perspective": ".3"}, {"noise": "0.1*ti"}],
            "constraints": [{"blur": {"kernel_size": 3, "weight": "1 + sim/100"}}],
        },
        {"features": [{"text": "a cow"}, {"image": "cow.png"}], "select": "mix",
         "transforms": [{"random_erase": 0.5}], "clamp": False},
        {"features": [{"text": "a hen"}], "feature_scale": "fair"},
        {"constraints": [{"style": {"image": "hen.png", "statistics": "gram"}}]},
    ],
    "postproc": [{"blur": {"kernel_size": 3, "sigma": ".1+t"}, "start": "10%"}],
}
VARIANTS: dict[str, tuple[dict[str, Any], Execution]] = {
    "as it is": ({}, Execution()),
    "a few views at a time": ({}, Execution(chunk=3)),
    "two models": ({"model": [{"name": "a"}, {"name": "b", "views": "fresh", "weight": 2}]},
                   Execution()),
    "a mask on a tile": ({"mask": "mask.png", "init": {"image": "a.png"}, "wrap": True,
                          "symmetry": "none", "margin": 0}, Execution()),
    "normalised": ({"gradient": "normalize", "optimizer": "rmsprop"}, Execution()),
}


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_much_at_once(name: str, counted: bool) -> None:
    changes, chosen = VARIANTS[name]
    there = running(Experiment.model_validate({**HARD, **changes}), chosen)
    assert strict_steps(there, counted) >= 3


@pytest.mark.usefixtures("as_on_cuda")
def test_a_state_comes_back_to_the_device() -> None:
    """Moments that were saved on a host, as a checkpoint brings them, and carried over sizes."""
    experiment = Experiment.model_validate({
        **HARD, "optimizer": "adam", "optimizer_state": "carry",
        "resolution": "16 if t < .5 else 24",
    })
    here = running(experiment, encoders=[TinyEncoder()])
    here.begin(here.plan.phases[0])
    here.advance(0)
    there = running(experiment, state=here.state())
    assert strict_steps(there, counted=False, phases=9) >= 4
    assert there.size == (24, 24)
    tensors = [v for m in there.update.state().values() for v in m.values()]
    assert len(tensors) >= 3 and {v.device for v in tensors} == {DEVICE}


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mixed": lambda there, here: there + here,
    "sent": lambda there, here: there.copy_(here),
    "moved": lambda there, here: here.to(DEVICE),
    "made": lambda there, here: torch.tensor([1.0], device=DEVICE),
    "made here": lambda there, here: torch.arange(3) + 1,
    "asked": lambda there, here: bool(there.sum() > 1),
    "taken": lambda there, here: there.sum().item(),
    "listed": lambda there, here: there.tolist(),
    "counted": lambda there, here: there.nonzero(),
    "fetched": lambda there, here: there.cpu(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_waits_is_refused(name: str) -> None:
    here, there = torch.ones(3), torch.ones(3, device=DEVICE)
    with elsewhere():
        assert (there * 2 + there.new_full((), 3)).device == DEVICE
    with pytest.raises((Refused, RuntimeError)), elsewhere():
        REFUSED[name](there, here)
