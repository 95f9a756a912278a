"""torch.compile of the transforms, where it is wanted and works."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipig.engine.execution import no_compiler
from clipig.ops.canvases import Canvas
from clipig.ops.transforms import chain

if TYPE_CHECKING:
    from clipig.engine.program import Program

Run = Callable[..., Tensor]
"""`chain.run`, or a compiled form of it."""
_VARIANTS = 1024


def install(program: Program, canvas: Canvas, step: int) -> float:
    """Compile the program's transforms by trying one step; the seconds that it took.

    Where there is no compiler, or it fails, one warning says why, and the program
    stays as it is: 0 seconds.
    """
    device = program.draw.device
    reason = no_compiler(device)
    if reason is None:
        began = time.perf_counter()
        program.run = torch.compile(chain.run, dynamic=False)
        try:
            with _undisturbed():
                loss = program.forward(canvas, torch.tensor(step, device=device))[0]
                if loss.requires_grad:
                    torch.autograd.grad(
                        loss.sum(), list(canvas.parameters.values()), allow_unused=True
                    )
            return time.perf_counter() - began
        except Exception as e:  # a compiler may fail in any way
            program.run = chain.run
            reason = f"{type(e).__name__}: {str(e).strip().splitlines()[0][:120]}"
    warnings.warn(f"the step is not compiled: {reason}", stacklevel=2)
    return 0.0


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Compile without the compiler's notes to its developers, and as often as is needed.

    Every target of every phase is a variant of `chain.run`; by default the compiler
    gives up after eight of them.
    """
    from torch._dynamo import config

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings(), config.patch({name: _VARIANTS}):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
