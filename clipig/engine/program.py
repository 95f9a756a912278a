"""One phase on the device: from the canvas to losses.

Nothing in here decides anything that the plan could decide, reads a file or
waits for the device; shapes are the same in every step of the phase.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.engine.events import TargetReport
from clipig.engine.goals import Prompts
from clipig.engine.losses import Scores
from clipig.engine.styles import look
from clipig.engine.target import Fair, Seen, TargetProgram
from clipig.ops.canvases import Canvas
from clipig.plan.plan import Phase, Plan
from clipig.rng import Draw, ViewDraw, stream_id


class Program:
    """The static tensor program of a phase.

    Args:
        plan: The plan of the runs.
        phase: One of its phases.
        encoders: The encoders of the plan, on the device.
        prompts: Embeddings and styles of all targets.
        fair: Factors of `feature_scale`; None: all are 1.
        draw: Random numbers of the runs, on the device.
        chunk: Views that go through an encoder at once at most; None: all.
    """

    def __init__(
        self, plan: Plan, phase: Phase, encoders: Sequence[Encoder], prompts: Prompts,
        fair: Fair | None, draw: Draw, chunk: int | None = None,
    ):
        self.plan, self.phase, self.encoders, self.draw = plan, phase, encoders, draw
        self.chunk = chunk
        self.times = plan.times(draw.device)
        self.targets = [
            TargetProgram.build(plan, phase, t, prompts, fair, draw) for t in phase.targets
        ]
        self.post = [[b.to(draw.device) for b in p.ops] for p in phase.postproc]

    def time(self, step: int | Tensor) -> float | Tensor:
        """t of a step; on the device if the step is."""
        if isinstance(step, Tensor):  # `self.times[step]` would wait for the device
            return self.times.index_select(0, step.view(1))[0]
        return self.plan.time(step)

    def forward(
        self, canvas: Canvas, step: int | Tensor
    ) -> tuple[Tensor, Tensor, list[TargetReport]]:
        """The losses of one step.

        Returns:
            Losses `[R]`, similarities `[R]`, details of each target.
        """
        picture = canvas.picture(self.time(step))
        sets = self.plan.view_sets
        views = {
            key: [
                t.views(picture, key, step) if key in t.windows else None for t in self.targets
            ]
            for key in dict.fromkeys(sets)
        }
        scores: list[list[Scores]] = [[] for _ in self.targets]
        seen: list[list[Seen]] = [[] for _ in self.targets]
        for number, encoder in enumerate(self.encoders):
            self._look(number, encoder, views[sets[number]], scores, seen, step)
        losses = [] if picture.penalty is None else [picture.penalty]
        reports = []
        for i, (t, rated, known) in enumerate(zip(self.targets, scores, seen, strict=True)):
            pixels = views[sets[t.plan.encoders[0]]][i]
            assert pixels is not None
            weights = [self.plan.weights[number] for number in t.plan.encoders]
            share, report = t.loss(weights, rated, known, pixels, step)
            losses.append(share)
            reports.append(report)
        loss = sum(losses, start=picture.rgb.new_zeros(self.plan.runs))
        return loss, self._likeness(loss, scores), reports

    def edit(self, canvas: Canvas, step: int | Tensor) -> None:
        """Apply the post-processing of the step to the canvas."""
        for post, bounds in zip(self.phase.postproc, self.post, strict=True):
            draws = [ViewDraw(self.draw, s, step, 1) for s in post.streams]
            params = [b.at(step) for b in bounds]
            for p in params:
                p.wrap = self.plan.frame.wrap
            with torch.no_grad():
                edited = post.chain.run(canvas.raw(), params, draws, 1)
                canvas.edit(edited[:, 0])

    def hold(self, step: int) -> None:
        """Prepare for steps that are counted on the device, `step` and some after it."""
        for target in self.targets:
            for window in target.windows.values():
                window.hold(step)

    def _look(
        self, number: int, encoder: Encoder, views: list[Tensor | None], scores: list[list[Scores]],
        seen: list[list[Seen]], step: int | Tensor,
    ) -> None:
        """Show an encoder the views, score them and keep what is asked about their style.

        Targets with the same needs (embeddings, statistics or both) go through it at once.
        """
        for needs in ((True, False), (True, True), (False, True)):
            group = [
                i for i, t in enumerate(self.targets)
                if t.needs == needs and number in t.plan.encoders
            ]
            if not group:
                continue
            wanted = list(dict.fromkeys(a for i in group for a in self.targets[i].aspects(number)))
            flat = [v.flatten(0, 1) for v in (views[i] for i in group) if v is not None]
            pixels = flat[0] if len(flat) == 1 else torch.cat(flat)
            keep = None if wanted else self._kept(number, encoder, group, step)
            found = look(encoder, pixels, needs[0], wanted, self.chunk, keep)
            parts = [torch.split(f, [len(f) for f in flat]) for f in found]
            for place, i in enumerate(group):
                t = self.targets[i]
                rows = [p[place].unflatten(0, (self.plan.runs, t.plan.views)) for p in parts]
                if needs[0]:
                    scores[i].append(t.score(number, rows.pop(0), step))
                seen[i].append(dict(zip(wanted, rows, strict=True)))

    def _kept(
        self, number: int, encoder: Encoder, group: list[int], step: int | Tensor
    ) -> Tensor | None:
        """The patches that an encoder with patch dropout looks at, `[B, K]`, or None for all."""
        share = self.plan.experiment.model[number].patch_dropout
        count: int = getattr(encoder, "patches", 0)
        if not share or not count:
            return None
        rows = []
        for t in (self.targets[i].plan for i in group):
            stream = stream_id(f"targets[{t.index}].patches", number)
            chance = self.draw.uniform(stream, step, (t.views, count))
            kept = chance.topk(max(1, round((1 - share) * count)), dim=-1).indices
            rows.append(kept.flatten(0, 1))
        return torch.cat(rows)

    def _likeness(self, like: Tensor, scores: list[list[Scores]]) -> Tensor:
        """Similarity `[R]`: mean over views of the features that attract, over all encoders."""
        total, count = torch.zeros_like(like), 0
        for t, rated in zip((t.plan for t in self.targets), scores, strict=True):
            wanted = [i for i, attracts in enumerate(t.attracts) if attracts]
            for s in rated if wanted else ():
                these = s.similarity if all(t.attracts) else s.similarity[..., wanted]
                total = total + these.sum((1, 2)) / t.views
                count += len(wanted)
        return total / max(count, 1)
