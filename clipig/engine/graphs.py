"""A step captured once as a CUDA graph and replayed: no launch of a kernel costs the host time.

Experimental: `Execution.graphs` has not run on a GPU yet; `graphs="off"` does without.
The tests on the `meta` device show that a step waits for nothing and does the same
kernels each time. If a capture fails, one warning says so and the run goes on.

Asks of the step that it does the same kernels on the same tensors each time and
that its number is read from the device. The engine's does: what changes from step
to step comes out of tables by index, states change in place.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipig.engine.events import FeatureRating, TargetReport

WARM = 3
"""Steps done one by one first: they allocate moments and fill caches, which a capture may not."""


@dataclass(frozen=True)
class StepOutcome:
    """What a step reports: loss and similarity `[R]`, details by target."""

    loss: Tensor
    similarity: Tensor
    reports: tuple[TargetReport, ...]

    def copied(self) -> StepOutcome:
        """The same in memory of its own; the next replay overwrites the original."""
        return StepOutcome(
            self.loss.clone(), self.similarity.clone(), tuple(map(_copied, self.reports))
        )


def _copied(report: TargetReport) -> TargetReport:
    ratings = tuple(
        FeatureRating(
            r.similarity.clone(), r.losses.clone(), None if r.used is None else r.used.clone()
        )
        for r in report.ratings
    )
    return replace(report, ratings=ratings, terms=report.terms.clone())


class Replay:
    """Calls `work` for the first steps, then captures it; later calls replay the graph.

    `work` takes the index of the step as a tensor on the device; `before` is called with
    it as an int and may do anything that is not to be captured. If the work cannot be
    captured, one warning says so and the steps go on without a graph.
    """

    def __init__(
        self, work: Callable[[Tensor], StepOutcome], device: torch.device,
        before: Callable[[int], None],
    ):
        self._work, self._device, self._before = work, device, before
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outcome: StepOutcome | None = None

    def __call__(self, step: int) -> StepOutcome:
        self._before(step)
        self._step.fill_(step)
        self._seen += 1
        if self._seen <= WARM:
            return self._beside()
        if self._seen == WARM + 1:
            self._capture()
        if self._graph is None or self._outcome is None:
            return self._work(self._step)
        self._graph.replay()
        return self._outcome.copied()

    def _beside(self) -> StepOutcome:
        """A step on a stream of its own, as capturing asks for."""
        stream = torch.cuda.Stream(self._device)
        main = torch.cuda.current_stream(self._device)
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            outcome = self._work(self._step)
        main.wait_stream(stream)
        return outcome

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                outcome = self._work(self._step)
        except RuntimeError as e:
            torch.cuda.synchronize(self._device)
            reason = str(e).splitlines()[0]
            warnings.warn(f"steps go on without a CUDA graph: {reason}", stacklevel=2)
            return
        self._graph, self._outcome = graph, outcome
