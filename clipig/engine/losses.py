"""Losses: how like its features a view is.

`R` runs, `N` views, `F` features of a target, `D` embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.config.parts import Feature, Target
from clipig.plan.plan import TargetPlan
from clipig.plan.tables import join


@dataclass(frozen=True)
class Scores:
    """What the views of a target got from one encoder.

    terms       `[R, N, F|1]`, what is added to the loss, the target's weight not yet included
    similarity  `[R, N, F]`, 100 * cosine (SigLIP: on that scale), times `scale` and
                `feature_scale`, no gradient
    used        `[R, N, F]` 0 or 1, which features the selection took; None: all
    each        `[R, N, F]`, loss of each feature without its weight, no gradient
    """

    terms: Tensor
    similarity: Tensor
    used: Tensor | None
    each: Tensor


class Weighing:
    """Weights and scales of the active features of a target: tables where they can be.

    `plan` is looked at on the host; the numbers go to `device`.
    """

    def __init__(self, plan: TargetPlan, device: torch.device):
        self.bounds = [b.to(device) for b in plan.feature_bounds]
        self.plain = not any(b.live for b in self.bounds)
        if self.plain:
            self.weight = join([b.tables["weight"] for b in self.bounds])
            scale = join([b.tables["scale"] for b in plan.feature_bounds])
            self.scale = None if bool((scale.data == 1).all()) else scale.to(device)
        self.capped = any(n.target_similarity is not None for n in self.nodes)

    @property
    def nodes(self) -> list[Feature]:
        """The features."""
        return [b.node for b in self.bounds]  # type: ignore[misc]

    def at(self, step: int | Tensor, own: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Values of one step.

        Args:
            step: Of the plan; on the device if it is counted there.
            own: Similarities `[R, N, F]`, on which values may depend.

        Returns:
            Weights, scales and maximum similarities, `[R|1, N|1, F]` each. None stands for
            scales of one, and for no maximum.
        """
        if self.plain and not self.capped:
            return self.weight.at(step), None if self.scale is None else self.scale.at(step), None
        params = [
            b.at(step, own[..., i]) if b.live else b.at(step) for i, b in enumerate(self.bounds)
        ]
        shape = own.shape[:2]
        weight = torch.stack([p.weight[..., 0].expand(shape) for p in params], -1)
        scale = torch.stack([p.scale[..., 0].expand(shape) for p in params], -1)
        if not self.capped:
            return weight, scale, None
        free = own.new_full((1, 1), 200.0)
        caps = [free if p.target_similarity is None else p.target_similarity[..., 0]
                for p in params]
        return weight, scale, torch.stack([c.expand(shape) for c in caps], -1)


def similarities(views: Tensor, features: Tensor) -> Tensor:
    """Cosines of unit rows: `[R, N, D]` and `[R, F, D]` give `[R, N, F]`."""
    return torch.bmm(views, features.transpose(1, 2))


def distances(views: Tensor, features: Tensor, cosine: Tensor, kinds: Sequence[str]) -> Tensor:
    """The loss of each view and feature, `[R, N, F]`, by the feature's kind of loss."""
    if set(kinds) == {"cosine"}:
        return 1 - cosine
    columns = []
    for i, kind in enumerate(kinds):
        if kind == "cosine":
            columns.append(1 - cosine[..., i])
            continue
        difference = views - features[:, None, i]
        size = difference.abs() if kind in ("l1", "mae") else difference.square()
        columns.append(100 * size.mean(-1))
    return torch.stack(columns, -1)


def score(
    target: Target, weighing: Weighing, views: Tensor, features: Tensor, percent: Tensor,
    step: int | Tensor, scale_zero: tuple[float, float] = (100.0, 0.0),
) -> Scores:
    """Rate embedded views `[R, N, D]` by the active features `[R, F, D]` of a target.

    `percent` `[R, 1, F]` makes similarities of cosines: the scale of the encoder times what
    `feature_scale` asks. `scale_zero` is that scale, and what the encoder adds.
    """
    factor, zero = scale_zero
    cosine = similarities(views, features)
    own = cosine.detach() * percent
    own = own + zero if zero else own
    weight, scale, limit = weighing.at(step, own)
    similarity = own if scale is None else own * scale
    kinds = [n.loss for n in weighing.nodes]
    each = distances(views, features, cosine, kinds)
    if limit is not None:
        known = factor * cosine.detach()
        each = torch.where((known + zero if zero else known) < limit, each, each.detach())
    if target.select == "mix":
        mixed = (weight[..., None] * features[:, None]).sum(2)
        mixed = mixed / weight.abs().sum(-1, keepdim=True).clamp(min=1e-12)
        kind = kinds[0]
        if kind == "cosine":
            per_view = 1 - F.cosine_similarity(views, mixed, dim=-1)
        else:
            size = (views - mixed).abs() if kind in ("l1", "mae") else (views - mixed).square()
            per_view = 100 * size.mean(-1)
        return Scores(per_view[..., None], similarity, None, each.detach())
    used = chosen(similarity, target)
    counted = weight * each if used is None else used * weight * each
    return Scores(counted, similarity, used, each.detach())


def chosen(similarity: Tensor, target: Target) -> Tensor | None:
    """Which features count for each view: `[R, N, F]` of 0 and 1, or None for all."""
    if target.select == "all":
        return None
    best = similarity.argmax(-1) if target.select == "best" else similarity.argmin(-1)
    return F.one_hot(best, similarity.shape[-1]).to(similarity.dtype)


def fair_scales(cosine: Tensor) -> Tensor:
    """Factors `[R, F]` that make the start's similarities `[R, F]` equal.

    The least similar feature gets 1. Similarities of zero or less, for which no
    factor exists, count as 0.01 (the original turned their sign).
    """
    floor = cosine.clamp(min=0.01)
    return floor.amin(1, keepdim=True) / floor
