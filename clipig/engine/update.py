"""The optimizer of a canvas: torch's, in its fastest form, taking steps of rate one.

torch's optimizers move a tensor of zeros; the result is added to the parameter, times
the rate of each run: so the runs of a batch may have different rates,
and a step that is not finite can be left out for one run alone.
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
from clipig.ops.optimizers import OptimizerSpec

_GRAPHED = ("cuda",)
"""devices whose steps may be captured"""
_CAPTURABLE = (Adam, NAdam, Adamax, RMSprop, Adadelta)


@dataclass(frozen=True)
class Update:
    """How the parameters of a canvas move.

    canvas      whose parameters they are
    optimizer   torch's
    deltas      its zeros by the name of the parameter, `[R, ...]`
    """

    canvas: Canvas
    optimizer: Optimizer
    deltas: Mapping[str, Tensor]

    @classmethod
    def build(cls, spec: OptimizerSpec, canvas: Canvas) -> Update:
        """The update of a canvas by the optimizer of a config, without moments yet."""
        deltas = {name: torch.zeros_like(p.detach()) for name, p in canvas.parameters.items()}
        groups: list[dict[str, object]] = [
            {"params": [d], "lr": canvas.rates.get(name, 1.0)} for name, d in deltas.items()
        ]
        with _without_compiler():
            return cls(canvas, hasten(spec.build(groups)), deltas)

    def clear(self) -> None:
        """Forget the gradients."""
        for p in self.canvas.parameters.values():
            p.grad = None

    @torch.no_grad()
    def step(self, kind: str, rate: Tensor, alive: Tensor) -> None:
        """Move the parameters of all runs against their gradients, in place.

        Args:
            kind: The config's `gradient`: "plain", "normalize" or "clip" (by run and parameter).
            rate: Learning rate of each run `[R]`.
            alive: `[R]` bool. Becomes false for runs whose gradient or step is not finite;
                those that are not alive stay where they are.
        """
        bounds, on_host = self.canvas.bounds, alive.device.type == "cpu"
        parameters = {name: self.canvas.parameters[name] for name in self.deltas}
        for delta, p in zip(self.deltas.values(), parameters.values(), strict=True):
            delta.grad = torch.zeros_like(delta) if p.grad is None else p.grad
            if kind != "plain":
                _restrain_(delta.grad, kind)
        deltas, targets = list(self.deltas.values()), [p.detach() for p in parameters.values()]
        torch._foreach_zero_(deltas)
        _plain_step(self.optimizer)
        # a gradient that is not finite makes a step that is not finite, whatever the optimizer
        sizes = [torch.linalg.vector_norm(d.flatten(1), dim=1) for d in deltas]
        alive.logical_and_(torch.isfinite(sum(sizes) * rate))
        # looking costs no waiting on a CPU
        if on_host and bool(alive.all()) and bool((rate == rate[0]).all()):
            torch._foreach_add_(targets, deltas, alpha=float(rate[0]))
        else:
            for p, delta in zip(targets, deltas, strict=True):
                torch.where(_per_run(alive, p), p + delta * _per_run(rate, p), p, out=p)
        for name, p in zip(parameters, targets, strict=True):
            if name in bounds:
                p.clamp_(*bounds[name])

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the moments by parameter name, `[R, ...]`; counts of steps are scalars."""
        moments = {
            name: {
                k: torch.as_tensor(v).detach().clone()
                for k, v in self.optimizer.state.get(delta, {}).items() if v is not None
            }
            for name, delta in self.deltas.items()
        }
        return {name: m for name, m in moments.items() if m}

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take moments whose shapes fit the parameters; step counts go where torch wants them."""
        groups = self.optimizer.param_groups
        counts_here = any(g.get("fused") or g.get("capturable") for g in groups)
        for name, delta in self.deltas.items():
            if name in state:
                self.optimizer.state[delta] = {
                    k: v.clone() if v.ndim else v.clone().to(delta.device if counts_here else "cpu")
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
