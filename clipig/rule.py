"""The optimizer of a canvas: torch's, in its fastest form, taking steps of rate one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adadelta, Adam, Adamax, NAdam, Optimizer, RMSprop

from clipig.canvases import Canvas
from clipig.optimizers import OptimizerSpec

_CAPTURABLE = (Adam, NAdam, Adamax, RMSprop, Adadelta)


@dataclass
class Rule:
    """A torch optimizer, and the names under which its moments are kept."""

    torch: Optimizer
    names: dict[Tensor, str]

    @classmethod
    def build(cls, spec: OptimizerSpec, canvas: Canvas) -> Rule:
        groups: list[dict[str, object]] = [
            {"params": [p], "lr": canvas.rates.get(name, 1.0)}
            for name, p in canvas.parameters.items()
        ]
        names = {p: name for name, p in canvas.parameters.items()}
        with _without_compiler():
            return cls(hasten(spec.build(groups)), names)

    def clear(self) -> None:
        """Forget the gradients."""
        for p in self.names:
            p.grad = None

    def step(self) -> None:
        """Move the parameters, without torch's wrapper (it imports the compiler, too)."""
        with torch.no_grad():
            inspect.unwrap(type(self.torch).step)(self.torch)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the moments by parameter name."""
        return {
            self.names[p]: {
                k: torch.as_tensor(v).detach().clone() for k, v in self.torch.state[p].items()
                if v is not None
            }
            for p in self.names if p in self.torch.state
        }

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take moments whose shapes fit the parameters; step counts go where torch wants them."""
        counts_here = any(g.get("fused") or g.get("capturable") for g in self.torch.param_groups)
        for p, name in self.names.items():
            if name in state:
                self.torch.state[p] = {
                    k: v.clone() if v.ndim else v.clone().to(p.device if counts_here else "cpu")
                    for k, v in state[name].items()
                }


def hasten(optimizer: Optimizer) -> Optimizer:
    """Let torch take its fastest form of a step on the parameters' device.

    One kernel for Adam; on CUDA, counts of steps stay on the device, so that a
    step can be captured as a graph.
    """
    for group in optimizer.param_groups:
        cuda = all(p.device.type == "cuda" for p in group["params"])
        cpu = all(p.device.type == "cpu" for p in group["params"])
        if isinstance(optimizer, Adam) and (cuda or cpu):
            group["fused"], group["foreach"] = True, False
        if cuda and isinstance(optimizer, _CAPTURABLE):
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
