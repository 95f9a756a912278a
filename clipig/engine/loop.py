"""The loop: pictures of R runs, nudged until an image-text model likes them.

Reads no file, prints nothing, and waits for the device only where a sink asks
for a value. One step is `Program.forward`, its backward and an optimizer step;
everything that could be decided before has been decided by the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.engine.events import Diverged, Event, Finished, PhaseBegun, Step, Unsettled
from clipig.engine.execution import Execution
from clipig.engine.goals import Prompts
from clipig.engine.graphs import Replay, StepOutcome
from clipig.engine.losses import fair_scales, similarities
from clipig.engine.memory import check_memory
from clipig.engine.program import Program
from clipig.engine.state import State, StateForm, check_state
from clipig.engine.update import Update, moments_of
from clipig.ops.canvases import Picture
from clipig.ops.canvases.frame import Framed
from clipig.ops.kernels.sampling import Shape, resize
from clipig.plan.plan import MODES, Phase, Plan
from clipig.rng import Draw, stream_id

WATCH = 20
"""Steps between two looks at which runs diverged; each look waits for the device."""


def optimize(
    plan: Plan, encoders: Sequence[Encoder], prompts: Prompts,
    start: Tensor | None = None, state: State | None = None, mask: Tensor | None = None,
    settings: Execution | None = None,
) -> Iterator[Event]:
    """Carry out a plan.

    Args:
        plan: From `compile`: what R runs do.
        encoders: The encoders of `plan.encoders`, all on the device of the run.
        prompts: From `encode_prompts`.
        start: The init picture `[R|1, 3, H, W]` at any size, for configs that have one.
        state: From an event of an equal plan: goes on where it was taken.
        mask: `[1, 1, h, w]`, 1 where the picture may change.
        settings: What changes time and memory only.

    Yields:
        `PhaseBegun` before each phase, `Step` after each optimizer step, `Diverged` when runs
        have diverged, `Finished` at the end.
    """
    running = Optimization(plan, encoders, prompts, start, state, mask, settings or Execution())
    first = running.done
    for phase in plan.phases:
        if phase.last <= first:
            continue
        running.begin(phase)
        yield PhaseBegun(running.done, phase.size)
        for step in range(max(first, phase.first), phase.last):
            yield running.advance(step)
            if (step + 1) % WATCH == 0 or step + 1 == plan.steps:
                fallen = running.newly_diverged()
                if fallen:
                    yield Diverged(plan.start + step, fallen)
    yield Finished(
        plan.epochs, running.shown(), running.similarity, running.alive, running.state
    )


class Optimization:
    """What changes while a plan runs: canvas, optimizer, who is alive."""

    def __init__(
        self, plan: Plan, encoders: Sequence[Encoder], prompts: Prompts,
        start: Tensor | None, state: State | None, mask: Tensor | None, settings: Execution,
    ):
        self.plan, self.encoders, self.prompts = plan, encoders, prompts
        self.settings = settings
        device = encoders[0].device
        check_memory(plan, device)
        self.draw = Draw(plan.seeds, device)
        self.rates = plan.rates.to(device)
        self.first_rates = plan.rates.data[:, 0, 0, 0].tolist() or [plan.experiment.optimizer.base]
        self.alive = torch.ones(plan.runs, dtype=torch.bool, device=device)
        self.known_alive = self.alive.clone()
        self.similarity = torch.zeros(plan.runs, device=device)
        self.ones = torch.ones(plan.runs, device=device)
        self.average: Tensor | None = None
        self.done = 0
        self.settled = True
        self.size: Shape = plan.phases[0].size
        experiment = plan.experiment
        self.canvas = Framed.build(
            experiment.canvas, plan.frame, lambda shape: self._start(start, shape), self.size,
            self.draw, "noise" if start is None else "picture", mask,
        )
        if state is not None:
            self._take_canvas(state)
        self.update = Update.build(experiment.optimizer, self.canvas)
        self.fair = self._fair() if state is None else dict(state.fair)
        if state is not None:
            self.update.load({n: {k: v.to(device) if v.ndim else v for k, v in s.items()}
                            for n, s in state.optimizer.items()})
            self.alive = state.alive.to(device, copy=True)
            self.known_alive = self.alive.clone()
            average = state.average
            self.average = None if average is None else average.to(device, copy=True)
            self.fair = {k: v.to(device) for k, v in state.fair.items()}
            self.done = state.step
        self.program: Program

    def _take_canvas(self, state: State) -> None:
        """Bring the canvas to where a state was taken. Raises `StateError` for a wrong state."""
        plan, experiment = self.plan, self.plan.experiment
        for phase in plan.phases:
            if phase.first < state.step and phase.size != self.size:
                self.canvas.resize(phase.size, MODES[experiment.interpolation])
                self.size = phase.size
        fair = {
            (t, e): (plan.runs, rows.shape[1])
            for t, by_encoder in self.prompts.embeddings.items()
            for e, rows in enumerate(by_encoder)
        }
        average = (plan.runs, 3, *self.size) if experiment.ema and state.step else None
        check_state(state, StateForm(
            plan.runs, plan.steps, self.size, self.canvas.state(),
            moments_of(experiment.optimizer), average, fair,
        ))
        self.canvas.load({k: v.to(self.draw.device) for k, v in state.canvas.items()})

    def _start(self, start: Tensor | None, size: Shape) -> Tensor:
        """The picture at the start, `[R, 3, H, W]`: noise or image, `* std + mean`."""
        p = self.plan.init.to(self.draw.device).at(0)
        mean, std = (v.transpose(1, 2)[..., None] for v in (p.mean, p.std))
        if start is not None:
            pixels = start.to(self.draw.device).expand(self.plan.runs, -1, -1, -1)
            exact = self.plan.experiment.init.image is None
            pixels = pixels if exact else pixels * std + mean
            pixels = resize(pixels, size, "bicubic")
            return pixels if exact else pixels.clamp(0, 1)
        noise = self.draw.normal(stream_id("init"), 0, (3, *(p.resolution or size)))
        return resize(noise * std + mean, size, "bicubic").clamp(0, 1)

    def _fair(self) -> dict[tuple[int, int], Tensor]:
        """Factors of `feature_scale` by target and encoder, `[R, F]`."""
        factors: dict[tuple[int, int], Tensor] = {}
        targets = self.plan.experiment.targets
        for number, encoder in enumerate(self.encoders):
            wanted = [i for i in self.prompts.embeddings if targets[i].feature_scale == "fair"]
            rows = None
            if wanted:
                side = encoder.info.size
                with torch.no_grad():
                    whole = self.canvas.shown(self.canvas.picture(0.0)).rgb.clamp(0, 1)
                    whole = resize(whole, (side, side))
                    rows = encoder.encode_image(whole)[:, None]
            for index, prompts in self.prompts.embeddings.items():
                embeddings = prompts[number]
                factor = embeddings.new_ones(embeddings.shape[:2])
                if rows is not None and index in wanted:
                    factor = fair_scales(similarities(rows, embeddings)[:, 0])
                factors[index, number] = factor
        return factors

    def begin(self, phase: Phase) -> None:
        """Bring the canvas to the phase's size and prepare its program."""
        if phase.size != self.size:
            self.settled = False
            self._resize(phase.size)
            self.settled = True
        self.program = Program(
            self.plan, phase, self.encoders, self.prompts, self.fair, self.draw,
            self.settings.chunk,
        )
        steps = phase.last - max(self.done, phase.first)
        self.runner: Callable[[int], StepOutcome] = self._work
        if self.settings.captured(self.draw.device, steps):
            self.runner = Replay(self._work, self.draw.device, self.program.hold)

    def _resize(self, size: Shape) -> None:
        experiment = self.plan.experiment
        moments = self.update.state()
        shapes = {name: p.shape for name, p in self.canvas.parameters.items()}
        self.canvas.resize(size, MODES[experiment.interpolation])
        self.update = Update.build(experiment.optimizer, self.canvas)
        if experiment.optimizer_state == "carry":
            self.update.load({
                name: {
                    k: self.canvas.resize_state(name, v) if v.shape == shapes[name] else v
                    for k, v in state.items()
                }
                for name, state in moments.items()
            })
        if self.average is not None:
            self.average = resize(self.average, size)
        self.size = size

    def advance(self, step: int) -> Step:
        """One optimizer step."""
        plan = self.plan
        self.settled = not isinstance(self.runner, Replay)  # which does a step at once
        outcome = self.runner(step)
        self.similarity = outcome.similarity
        self.done, self.settled = step + 1, True
        return Step(
            self.done, plan.start + step, plan.epochs, plan.time(step), self.size,
            self.first_rates[min(step, len(self.first_rates) - 1)],
            outcome.loss, outcome.similarity, self.alive.clone(), outcome.reports, self.shown,
            self.state,
        )

    def _work(self, step: int | Tensor) -> StepOutcome:
        """What a step does to tensors. `step` may live on the device; then it can be captured."""
        self.update.clear()
        loss, similarity, reports = self.program.forward(self.canvas, step)
        acts = self.program.phase.acts and loss.requires_grad
        if acts:
            # the rows share nothing, so their gradients stay apart
            torch.autograd.backward(loss, self.ones)
        self.settled = False
        # in place, here and in the rule: a captured step must find it again
        self.alive.logical_and_(torch.isfinite(loss.detach()))
        if acts:  # without a loss, moments alone would move it
            rate = self.rates.at(step)[:, 0, 0].expand(self.plan.runs)
            self.update.step(self.plan.experiment.gradient, rate, self.alive)
        self.program.edit(self.canvas, step)
        self._remember(step)
        return StepOutcome(loss.detach(), similarity, tuple(reports))

    def _remember(self, step: int | Tensor) -> None:
        """Update the running mean of pictures (an exponential one, bias-corrected)."""
        decay = self.plan.experiment.ema
        if not decay:
            return
        with torch.no_grad():
            rgb = self.canvas.shown(self.canvas.picture(self.program.time(step))).rgb
            if self.average is None:
                self.average = torch.zeros_like(rgb)
            self.average.lerp_(rgb, 1 - decay)

    def shown(self) -> Picture:
        """What is saved: the canvas now, or the running mean."""
        t = self.plan.time(max(self.done - 1, 0))
        with torch.no_grad():
            picture = self.canvas.shown(self.canvas.picture(t))
            # some canvases show their parameters themselves, which the next step changes
            picture = replace(picture, rgb=picture.rgb.detach().clone())
            if self.average is None:
                return picture
            correction = 1 - self.plan.experiment.ema ** self.done
            return self.canvas.restored(Picture(self.average / correction, picture.layers))

    def newly_diverged(self) -> tuple[int, ...]:
        """Runs that fell since the last call. Waits for the device."""
        fallen = (self.known_alive & ~self.alive).nonzero()[:, 0].tolist()
        self.known_alive = self.alive.clone()
        return tuple(fallen)

    def state(self) -> State:
        """A copy of everything, for a checkpoint. Raises `Unsettled` in the middle of a change."""
        if not self.settled:
            raise Unsettled
        average = None if self.average is None else self.average.clone()
        return State(
            self.done, self.size, self.canvas.state(), self.update.state(), average,
            self.alive.clone(), dict(self.fair),
        )

