"""One target of a phase on the device: its views, scores and losses.

`R` runs, `N` views, `F` active features, `C` active constraints, `D` embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clipig.engine.events import FeatureRating, TargetReport
from clipig.engine.goals import Prompts
from clipig.engine.losses import Scores, Weighing, score
from clipig.engine.styles import Aspect, aspects
from clipig.engine.window import Window
from clipig.ops.canvases import Picture
from clipig.ops.constraints.style import Goal, Style
from clipig.ops.transforms.chain import Part
from clipig.plan.plan import ConstraintPlan, Phase, Plan, TargetPlan, ViewSet
from clipig.rng import Draw, ViewDraw, stream_id

Seen = Mapping[Aspect, Tensor]
"""What an encoder saw of a target's views: statistics `[R, N, ...]`."""
Fair = Mapping[tuple[int, int], Tensor]
"""Factors of `feature_scale` by target and encoder, `[R, F]`."""


@dataclass(frozen=True)
class TargetProgram:
    """The static tensor program of a target in a phase.

    plan        the target, its tables on the device
    draw        random numbers of the runs
    embeddings  of the active features, for each of its encoders `[R, F, D]`
    percent     what makes similarities of cosines, for each encoder `[R, 1, F]`: its scale (100)
                times what `feature_scale` asks
    scales      scale and zero of the similarities of each encoder
    weighing    weights and scales of the features; None without features
    styles      goals of each active style by its index, for each encoder
    streams     of random numbers of the transforms, by view set
    windows     what is known of the views without the pixels, by view set
    """

    plan: TargetPlan
    draw: Draw
    embeddings: tuple[Tensor, ...]
    percent: tuple[Tensor, ...]
    scales: tuple[tuple[float, float], ...]
    weighing: Weighing | None
    styles: Mapping[int, Sequence[Sequence[Goal]]]
    streams: Mapping[ViewSet, tuple[int, ...]]
    windows: Mapping[ViewSet, Window]

    @classmethod
    def build(
        cls, plan: Plan, phase: Phase, target: TargetPlan, prompts: Prompts, fair: Fair | None,
        draw: Draw,
    ) -> TargetProgram:
        """The program of a target of a phase.

        Args:
            plan: The plan of the runs.
            phase: One of its phases.
            target: One of the phase's targets.
            prompts: Embeddings and styles of all targets.
            fair: Factors of `feature_scale`; None: all are 1.
            draw: Random numbers of the runs, on the device.
        """
        moved = _moved(target, draw.device)
        columns = list(target.features)
        embeddings: tuple[Tensor, ...] = ()
        percent: tuple[Tensor, ...] = ()
        scales: tuple[tuple[float, float], ...] = ()
        if columns:
            whole = [(i, prompts.embeddings[target.index][i]) for i in target.encoders]
            embeddings = tuple(p[:, columns] for _, p in whole)
            factors = [
                p.new_ones(p.shape[:2]) if fair is None else fair[target.index, i]
                for i, p in whole
            ]
            scales = tuple(prompts.scale(i) for i in target.encoders)
            percent = tuple(
                scale * f[:, None, columns] for f, (scale, _) in zip(factors, scales, strict=True)
            )
        streams = {
            key: tuple(stream_id(s, key[1]) if key[1] else s for s in target.streams)
            for key in (plan.view_sets[i] for i in target.encoders)
        }
        windows = {
            key: _window(plan, phase, moved, key, stream, draw) for key, stream in streams.items()
        }
        return cls(
            moved, draw, embeddings, percent, scales,
            Weighing(target, draw.device) if columns else None,
            {
                place: [prompts.styles[target.index, place][i] for i in target.encoders]
                for place, _ in target.styles
            },
            streams, windows,
        )

    @property
    def needs(self) -> tuple[bool, bool]:
        """Whether the encoders must give embeddings, and statistics of early maps."""
        return bool(self.plan.features), bool(self.plan.styles)

    def views(self, picture: Picture, key: ViewSet, step: int | Tensor) -> Tensor:
        """Views of the image in one step, `[R, N, 3, side, side]`."""
        t, streams, window = self.plan, self.streams[key], self.windows[key]
        layers = {"picture": picture.rgb, **picture.layers}
        chain = t.chains[key[0]]
        parts = window.read(step) if isinstance(step, Tensor) else window.at(step)
        now = range(len(t.ops)) if parts is None else chain.unprepared
        draws = {i: ViewDraw(self.draw, streams[i], step, t.views) for i in now}
        params = {i: t.ops[i].at(step) for i in now}
        return chain.run(layers[t.target.look_at], params, draws, t.views, parts, t.target.clamp)

    def aspects(self, number: int) -> list[Aspect]:
        """What the styles need to know of the early layers of an encoder."""
        return [
            aspect for place, node in self.plan.styles
            for aspect in aspects(node, self.styles[place][self._own(number)])
        ]

    def score(self, number: int, views: Tensor, step: int | Tensor) -> Scores:
        """Rate views that encoder `number` has embedded, `[R, N, D]`."""
        assert self.weighing is not None
        own = self._own(number)
        return score(
            self.plan.target, self.weighing, views, self.embeddings[own],
            self.percent[own], step, self.scales[own],
        )

    def _own(self, number: int) -> int:
        """The place of an encoder of the plan among those that look at this target."""
        return self.plan.encoders.index(number)

    def loss(
        self, weights: Sequence[float], rated: Sequence[Scores], seen: Sequence[Seen],
        views: Tensor, step: int | Tensor,
    ) -> tuple[Tensor, TargetReport]:
        """What the target adds to the losses.

        Args:
            weights: Of the encoders.
            rated: Scores by each encoder; empty without features.
            seen: Statistics by each encoder.
            views: For the first encoder, `[R, N, 3, side, side]`.
            step: Of the plan; on the device if it is counted there.

        Returns:
            The loss `[R]`, and its details.
        """
        t, runs = self.plan, len(views)
        likeness = views.new_zeros(0)
        if t.constraints or t.bound.live:
            likes = [s.similarity.mean(-1) / len(rated) for s in rated]
            likeness = sum(likes, start=views.new_zeros(runs, t.views))
        terms = views.new_zeros(runs, t.views, len(t.constraints))
        if t.constraints:
            terms = torch.stack(
                [self._penalty(c, seen, views, likeness, step) for c in t.constraints], -1
            )
        own = t.bound.at(step, likeness) if t.bound.live else t.bound.at(step)
        weight = own.weight[..., 0] * t.repeats
        # a weight of each view weighs its losses; one of all views their sum, which is faster
        over = (2,) if weight.shape[1] > 1 else (1, 2)
        shares = [
            s.terms.sum(over) if factor == 1 else factor * s.terms.sum(over)
            for factor, s in zip(weights, rated, strict=False)
        ]
        if t.constraints:
            shares.append(terms.sum(over))
        total = sum(shares[1:], start=shares[0])
        loss = (weight * total).sum(1) if weight.shape[1] > 1 else weight[:, 0] * total
        report = TargetReport(
            t.index, t.views, t.features,
            tuple(FeatureRating(s.similarity, s.each, s.used) for s in rated),
            tuple(c.index for c in t.constraints), terms.detach(),
        )
        return loss, report

    def _penalty(
        self, c: ConstraintPlan, seen: Sequence[Seen], views: Tensor, likeness: Tensor,
        step: int | Tensor,
    ) -> Tensor:
        """A constraint's term `[R, N]`, weight and factor included."""
        node: Any = c.bound.node
        p = c.bound.at(step, likeness) if c.bound.live else c.bound.at(step)
        if isinstance(node, Style):
            p.goals = self.styles[c.index]
            p.seen = [
                [known[a] for a in aspects(node, goals)]
                for goals, known in zip(p.goals, seen, strict=True)
            ]
        draw = ViewDraw(self.draw, c.stream, step, self.plan.views)
        drawn = node.sample(draw, p, (views.shape[-2], views.shape[-1]))
        value: Tensor = p.weight[..., 0] * node.factor * node.penalty(views, p, drawn)
        return value


def _window(
    plan: Plan, phase: Phase, t: TargetPlan, key: ViewSet, streams: Sequence[int], draw: Draw
) -> Window:
    """What is known of a target's views without the pixels."""

    def make(first: int, count: int) -> tuple[Part, ...]:
        draws, steps = draw.at_steps(first, count)
        params = [b.at_steps(first, count, plan.runs) for b in t.ops]
        like = torch.empty(0, device=draw.device)
        return t.chains[key[0]].prepare(
            params, [ViewDraw(draws, s, steps, t.views) for s in streams], like
        )

    return Window(make, phase.first, phase.last, plan.runs, t.views, draw.device)


def _moved(t: TargetPlan, device: torch.device) -> TargetPlan:
    """The target with its tables on the device."""
    return replace(
        t,
        bound=t.bound.to(device),
        feature_bounds=tuple(b.to(device) for b in t.feature_bounds),
        ops=tuple(b.to(device) for b in t.ops),
        constraints=tuple(replace(c, bound=c.bound.to(device)) for c in t.constraints),
    )
