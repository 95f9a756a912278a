"""The optimizer of a canvas: torch's, in its fastest form, taking steps of rate one.

torch's optimizers move a tensor of zeros, and what it becomes is added to the
parameter, times the rate of each run. On a CPU they work on a few runs at a time,
so that gradient, moments and step stay in the cache until the runs are done.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adadelta, Adam, Adamax, NAdam, Optimizer, RMSprop

from clipig.ops.canvases import Canvas
from clipig.ops.kernels.cache_blocks import run_blocks
from clipig.ops.optimizers import OptimizerSpec

FEW = 3
"""parameters of a canvas that is worked on a few runs at a time"""
_GRAPHED = ("cuda",)
"""devices whose steps may be captured"""
_CAPTURABLE = (Adam, NAdam, Adamax, RMSprop, Adadelta)


@dataclass(frozen=True)
class Block:
    """Some runs: torch's optimizer, and its zeros by the name of the parameter, `[r, ...]`."""

    runs: slice
    torch: Optimizer
    deltas: Mapping[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """How the parameters of a canvas move."""

    canvas: Canvas
    blocks: tuple[Block, ...]

    @classmethod
    def build(cls, spec: OptimizerSpec, canvas: Canvas) -> Rule:
        parameters = canvas.parameters
        most = max(p[0].numel() for p in parameters.values())
        some = next(iter(parameters.values()))
        cuts = run_blocks(len(some), most, some.device)
        if len(parameters) > FEW:  # many small tensors: the calls would cost more than is saved
            cuts = [slice(0, len(some))]
        longest = max(c.stop - c.start for c in cuts)
        # all blocks share their zeros: these never leave the cache
        zeros = {name: torch.zeros_like(p[:longest].detach()) for name, p in parameters.items()}
        blocks = []
        with _without_compiler():
            for runs in cuts:
                deltas = {name: z[: runs.stop - runs.start] for name, z in zeros.items()}
                groups: list[dict[str, object]] = [
                    {"params": [d], "lr": canvas.rates.get(name, 1.0)}
                    for name, d in deltas.items()
                ]
                blocks.append(Block(runs, hasten(spec.build(groups)), deltas))
        return cls(canvas, tuple(blocks))

    def clear(self) -> None:
        """Forget the gradients."""
        for p in self.canvas.parameters.values():
            p.grad = None

    @torch.no_grad()
    def step(self, kind: str, rate: Tensor, alive: Tensor) -> None:
        """Move the parameters of all runs against their gradients, in place.

        `kind`: the config's `gradient`, "plain", "normalize" or "clip" (by run and
        parameter). `rate` `[R]`. `alive` `[R]` bool becomes false for runs whose gradient
        or step is not finite; those that are not alive stay where they are.
        """
        bounds, on_host = self.canvas.bounds, alive.device.type == "cpu"
        for block in self.blocks:
            good, rates = alive[block.runs], rate[block.runs]
            for name, delta in block.deltas.items():
                p = self.canvas.parameters[name]
                delta.grad = torch.zeros_like(delta) if p.grad is None else p.grad[block.runs]
                if kind != "plain":
                    _restrain_(delta.grad, kind)
            deltas = list(block.deltas.values())
            torch._foreach_zero_(deltas)
            _plain_step(block.torch)
            # a gradient that is not finite makes a step that is not finite, whatever the rule
            sizes = [torch.linalg.vector_norm(d.flatten(1), dim=1) for d in deltas]
            good = good & torch.isfinite(sum(sizes) * rates)
            targets = [self.canvas.parameters[name].detach()[block.runs] for name in block.deltas]
            # looking costs no waiting on a CPU
            if on_host and bool(good.all()) and bool((rates == rates[0]).all()):
                torch._foreach_add_(targets, deltas, alpha=float(rates[0]))
            else:
                for p, delta in zip(targets, deltas, strict=True):
                    torch.where(_per_run(good, p), p + delta * _per_run(rates, p), p, out=p)
            for name, p in zip(block.deltas, targets, strict=True):
                if name in bounds:
                    p.clamp_(*bounds[name])
            alive[block.runs] = good

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the moments by parameter name, `[R, ...]`; counts of steps are numbers."""
        moments: dict[str, dict[str, Tensor]] = {}
        for name in self.canvas.parameters:
            parts = [b.torch.state.get(b.deltas[name], {}) for b in self.blocks]
            moments[name] = {
                k: torch.cat([p[k] for p in parts]) if v.ndim else v.detach().clone()
                for k, v in ((k, torch.as_tensor(v)) for k, v in parts[0].items() if v is not None)
            }
        return {name: m for name, m in moments.items() if m}

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take moments whose shapes fit the parameters; step counts go where torch wants them."""
        for block in self.blocks:
            groups = block.torch.param_groups
            counts_here = any(g.get("fused") or g.get("capturable") for g in groups)
            for name, delta in block.deltas.items():
                if name in state:
                    block.torch.state[delta] = {
                        k: v[block.runs].clone() if v.ndim
                        else v.clone().to(delta.device if counts_here else "cpu")
                        for k, v in state[name].items()
                    }


def moments_of(spec: OptimizerSpec) -> dict[str, bool]:
    """Names of an optimizer's moments; whether each has the shape of its parameter."""
    parameter = torch.zeros(1, 1)
    parameter.grad = torch.zeros(1, 1)
    with _without_compiler():
        optimizer = spec.build([{"params": [parameter], "lr": 1.0}])
    with torch.no_grad():
        _plain_step(optimizer)
    moments = optimizer.state[parameter]
    return {k: torch.as_tensor(v).ndim > 0 for k, v in moments.items() if v is not None}


def _restrain_(grad: Tensor, kind: str) -> None:
    """Normalise or clip the gradients `[r, ...]` of runs, in place."""
    size = torch.linalg.vector_norm(grad.flatten(1), dim=1) * (grad[0].numel() ** -0.5)
    factor = 1 / size.clamp(min=1e-12)
    grad.mul_(_per_run(factor.clamp(max=1.0) if kind == "clip" else factor, grad))


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    """`[R]` in a shape that multiplies `[R, ...]`."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _plain_step(optimizer: Optimizer) -> None:
    """A step without torch's wrapper, which imports the compiler."""
    inspect.unwrap(type(optimizer).step)(optimizer)


def hasten(optimizer: Optimizer) -> Optimizer:
    """Let torch take its fastest form of a step on the parameters' device.

    One kernel for Adam; on CUDA, counts of steps stay on the device, so that a
    step can be captured as a graph.
    """
    for group in optimizer.param_groups:
        graphed = all(p.device.type in _GRAPHED for p in group["params"])
        cpu = all(p.device.type == "cpu" for p in group["params"])
        if isinstance(optimizer, Adam) and (graphed or cpu):
            group["fused"], group["foreach"] = True, False
        if graphed and isinstance(optimizer, _CAPTURABLE):
            group["capturable"] = True
    return optimizer


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Keep the constructor of optimizers from importing `torch._dynamo`.

    It does so only to tell the compiler to leave `add_param_group` alone. The
    import takes as long as that of torch itself, at the start of every program.
    """
    raw = getattr(Optimizer.add_param_group, "__wrapped__", None)
    if raw is None or "torch._dynamo" in sys.modules:
        yield
        return
    raw.__dict__.setdefault("__dynamo_disable", raw)
    try:
        yield
    finally:
        raw.__dict__.pop("__dynamo_disable", None)
