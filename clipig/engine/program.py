"""One phase on the device: from the canvas to losses.

Nothing in here decides anything that the plan could decide, reads a file or
waits for the device; shapes are the same in every step of the phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.engine.events import FeatureRating, TargetReport
from clipig.engine.goals import Prompts
from clipig.engine.losses import Scores, Weighing, score
from clipig.engine.styles import Aspect, aspects, look
from clipig.engine.window import Window
from clipig.ops.canvases import Canvas, Picture
from clipig.ops.constraints.style import Style
from clipig.ops.transforms.chain import Part
from clipig.plan.plan import Phase, Plan, TargetPlan, ViewSet
from clipig.rng import Draw, ViewDraw, stream_id

Seen = Mapping[Aspect, Tensor]
"""What an encoder saw of a target's views: statistics `[R, N, ...]`."""


class Program:
    """The static tensor program of a phase.

    `prompts` are the embeddings and styles by target and encoder, `fair` the factors
    of `feature_scale` by "target/encoder", `[R, F]`.
    """

    def __init__(
        self, plan: Plan, phase: Phase, encoders: Sequence[Encoder], prompts: Prompts,
        fair: Mapping[str, Tensor], draw: Draw, chunk: int | None = None,
    ):
        self.plan, self.phase, self.encoders, self.draw = plan, phase, encoders, draw
        self.chunk = chunk
        self.times = plan.times(draw.device)
        self.targets = [_moved(t, draw.device) for t in phase.targets]
        self.prompts = {
            t.index: [p[:, list(t.features)] for p in prompts.features[t.index]]
            for t in self.targets if t.features
        }
        self.percent = {
            t.index: [
                100 * fair[f"{t.index}/{i}"][:, None, list(t.features)]
                for i in range(len(encoders))
            ]
            for t in self.targets if t.features
        }
        self.weighing = {
            t.index: Weighing(t, draw.device) for t in phase.targets if t.features
        }
        self.styles = {
            (t.index, place): prompts.styles[t.index, place]
            for t in self.targets for place, _ in t.styles
        }
        self.sets = plan.view_sets
        self.streams = {
            key: [[stream_id(s, key[1]) if key[1] else s for s in t.streams] for t in self.targets]
            for key in self.sets
        }
        self.ahead = {
            (key, i): self._window(key, i) for key in self.sets for i in range(len(self.targets))
        }
        self.post = [[b.to(draw.device) for b in p.ops] for p in phase.postproc]

    def time(self, step: int | Tensor) -> float | Tensor:
        """t of a step; on the device if the step is."""
        if isinstance(step, Tensor):  # `self.times[step]` would wait for the device
            return self.times.index_select(0, step.view(1))[0]
        return self.plan.time(step)

    def forward(
        self, canvas: Canvas, step: int | Tensor
    ) -> tuple[Tensor, Tensor, list[TargetReport]]:
        """Losses `[R]`, similarities `[R]` and details of one step."""
        picture = canvas.picture(self.time(step))
        views = {key: self._views(picture, key, step) for key in self.streams}
        scores: list[list[Scores]] = [[] for _ in self.targets]
        seen: list[list[Seen]] = [[] for _ in self.targets]
        for number, encoder in enumerate(self.encoders):
            self._look(number, encoder, views[self.sets[number]], scores, seen, step)
        losses = [] if picture.penalty is None else [picture.penalty]
        reports = []
        shown = views[self.sets[0]]
        for t, rated, known, pixels in zip(self.targets, scores, seen, shown, strict=True):
            share, report = self._target(t, rated, known, pixels, step)
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

    def _views(self, picture: Picture, key: ViewSet, step: int | Tensor) -> list[Tensor]:
        """For each target its views `[R, N, 3, side, side]`."""
        layers = {"picture": picture.rgb, **picture.layers}
        side, _ = key
        out = []
        for place, (t, streams) in enumerate(zip(self.targets, self.streams[key], strict=True)):
            window = self.ahead[key, place]
            parts = window.read(step) if isinstance(step, Tensor) else window.at(step)
            chain = t.chains[side]
            now = range(len(t.ops)) if parts is None else chain.unprepared
            draws = {i: ViewDraw(self.draw, streams[i], step, t.views) for i in now}
            params = {i: t.ops[i].at(step) for i in now}
            out.append(chain.run(
                layers[t.target.look_at], params, draws, t.views, parts, t.target.clamp
            ))
        return out

    def _window(self, key: ViewSet, place: int) -> Window:
        """What is known of a target's views without the pixels."""
        t, streams = self.targets[place], self.streams[key][place]

        def make(first: int, count: int) -> tuple[Part, ...]:
            draw, steps = self.draw.at_steps(first, count)
            draws = [ViewDraw(draw, s, steps, t.views) for s in streams]
            params = [b.at_steps(first, count, self.plan.runs) for b in t.ops]
            like = torch.empty(0, device=self.draw.device)
            return t.chains[key[0]].prepare(params, draws, like)

        return Window(
            make, self.phase.first, self.phase.last, self.plan.runs, t.views, self.draw.device
        )

    def hold(self, step: int) -> None:
        """Prepare for steps that are counted on the device, `step` and some after it."""
        for window in self.ahead.values():
            window.hold(step)

    def _look(
        self, number: int, encoder: Encoder, views: list[Tensor], scores: list[list[Scores]],
        seen: list[list[Seen]], step: int | Tensor,
    ) -> None:
        """Show an encoder the views, score them and keep what is asked about their style.

        Targets with the same needs (embeddings, statistics or both) go through it at once.
        """
        for embed, styled in ((True, False), (True, True), (False, True)):
            group = [
                i for i, t in enumerate(self.targets)
                if (bool(t.features), bool(t.styles)) == (embed, styled)
            ]
            if not group:
                continue
            wanted = self._aspects(number, group)
            flat = [views[i].flatten(0, 1) for i in group]
            pixels = flat[0] if len(flat) == 1 else torch.cat(flat)
            found = look(encoder, pixels, embed, wanted, self.chunk)
            parts = [torch.split(f, [len(f) for f in flat]) for f in found]
            for place, i in enumerate(group):
                t = self.targets[i]
                rows = [p[place].unflatten(0, (self.plan.runs, t.views)) for p in parts]
                if embed:
                    scores[i].append(score(
                        t.target, self.weighing[t.index], rows.pop(0),
                        self.prompts[t.index][number], self.percent[t.index][number], step,
                    ))
                seen[i].append(dict(zip(wanted, rows, strict=True)))

    def _aspects(self, number: int, group: Sequence[int]) -> list[Aspect]:
        """What the styles of some targets need to know of an encoder's early layers."""
        return list(dict.fromkeys(
            aspect for i in group for place, node in self.targets[i].styles
            for aspect in aspects(node, self.styles[self.targets[i].index, place][number])
        ))

    def _target(
        self, t: TargetPlan, rated: list[Scores], seen: list[Seen], views: Tensor,
        step: int | Tensor,
    ) -> tuple[Tensor, TargetReport]:
        """What a target adds to the losses `[R]`, and its details."""
        runs = self.plan.runs
        shares = [
            s.loss if weight == 1 else weight * s.loss
            for weight, s in zip(self.plan.weights, rated, strict=False)
        ]
        likeness = views.new_zeros(0)
        if t.constraints or t.bound.live:
            likes = [s.similarity.mean(-1) / len(rated) for s in rated]
            likeness = sum(likes, start=views.new_zeros(runs, t.views))
        terms = views.new_zeros(runs, t.views, len(t.constraints))
        if t.constraints:
            terms = torch.stack([
                self._penalty(t, i, seen, views, likeness, step) for i in range(len(t.constraints))
            ], -1)
            shares.append(terms.sum((1, 2)))
        loss = sum(shares[1:], start=shares[0]) if shares else views.new_zeros(runs)
        own = t.bound.at(step, likeness) if t.bound.live else t.bound.at(step)
        weight = own.weight[..., 0].mean(1)  # live weights: the mean over the views
        report = TargetReport(
            t.index, t.views, t.features,
            tuple(FeatureRating(s.similarity, s.each, s.used) for s in rated),
            tuple(c.index for c in t.constraints), terms.detach(),
        )
        return (weight * t.repeats) * loss, report

    def _penalty(
        self, t: TargetPlan, place: int, seen: list[Seen], views: Tensor, likeness: Tensor,
        step: int | Tensor,
    ) -> Tensor:
        """A constraint's term `[R, N]`, weight and factor included."""
        c = t.constraints[place]
        node: Any = c.bound.node
        p = c.bound.at(step, likeness) if c.bound.live else c.bound.at(step)
        if isinstance(node, Style):
            p.goals = self.styles[t.index, c.index]
            p.seen = [
                [known[a] for a in aspects(node, goals)]
                for goals, known in zip(p.goals, seen, strict=True)
            ]
        draw = ViewDraw(self.draw, c.stream, step, t.views)
        drawn = node.sample(draw, p, (views.shape[-2], views.shape[-1]))
        value: Tensor = p.weight[..., 0] * node.factor * node.penalty(views, p, drawn)
        return value

    def _likeness(self, like: Tensor, scores: list[list[Scores]]) -> Tensor:
        """Similarity `[R]`: mean over views of the features that attract, over all encoders."""
        total, count = torch.zeros_like(like), 0
        for t, rated in zip(self.targets, scores, strict=True):
            wanted = [i for i, attracts in enumerate(t.attracts) if attracts]
            for s in rated if wanted else ():
                these = s.similarity if all(t.attracts) else s.similarity[..., wanted]
                total = total + these.sum((1, 2)) / t.views
                count += len(wanted)
        return total / max(count, 1)


def _moved(t: TargetPlan, device: torch.device) -> TargetPlan:
    """The target with its tables on the device."""
    return replace(
        t,
        bound=t.bound.to(device),
        feature_bounds=tuple(b.to(device) for b in t.feature_bounds),
        ops=tuple(b.to(device) for b in t.ops),
        constraints=tuple(replace(c, bound=c.bound.to(device)) for c in t.constraints),
    )

