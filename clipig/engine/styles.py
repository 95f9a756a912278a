"""Styles: what the `style` constraints of a plan ask for, and what views show of it.

`R` runs, `N` views, `B` views of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clipig.encoders.protocol import Encoder
from clipig.ops.constraints.style import Goal, Style, StyleStatistic, goal, statistic

Aspect = tuple[StyleStatistic, int]
"""A statistic of an early layer, by the layer's index."""

_PIECES = 64
"""Pieces of a reference that are encoded at a time"""


def references(
    encoder: Encoder, load: Callable[[int], Tensor], kind: StyleStatistic, zoom: float
) -> list[Goal]:
    """The goals of all early layers of an encoder for one picture.

    `load` gives the picture as a square of a side in pixels. Where it is enlarged
    it is cut into pieces of the encoder's size that cover it, and their
    statistics are averaged: a view shows one piece's worth, not all of them.
    """
    side = encoder.info.size
    picture = load(round(side * zoom)).to(encoder.device)
    count = math.ceil(zoom - 1e-6)
    last = picture.shape[-1] - side
    places = [round(last * k / max(count - 1, 1)) for k in range(count)]
    pieces = torch.stack(
        [picture[:, y : y + side, x : x + side] for y in places for x in places]
    )
    found: list[list[Tensor]] = []
    with torch.no_grad():
        for part in pieces.split(_PIECES):
            found.append([statistic(kind, maps) for maps in encoder.features(part)])
    means = [torch.cat(rows).mean(0) for rows in zip(*found, strict=True)]
    return [goal(kind, layer, value) for layer, value in enumerate(means)]


def for_runs(goals: Sequence[Goal]) -> Goal:
    """The goals of R runs for a layer as one, kept small where all want the same."""
    first = goals[0]
    if all(g is first for g in goals):
        return Goal(first.layer, first.value[None, None], first.unit[None, None])
    value, unit = (torch.stack(rows)[:, None] for rows in (
        [g.value for g in goals], [g.unit for g in goals],
    ))
    return Goal(first.layer, value, unit)


def aspects(node: Style, goals: Sequence[Goal]) -> list[Aspect]:
    """What the goals of a style need to know of a view, in their order."""
    return [(node.statistics, g.layer) for g in goals]


def embed_with_maps(encoder: Encoder, views: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Embeddings `[B, D]` and early maps of views; in one pass where the encoder can."""
    both = getattr(encoder, "encode_with_features", None)
    if both is None:
        return encoder.encode_image(views), encoder.features(views)
    found: tuple[Tensor, list[Tensor]] = both(views)
    return found


def look(
    encoder: Encoder, views: Tensor, embed: bool, wanted: Sequence[Aspect],
    chunk: int | None = None, keep: Tensor | None = None,
) -> list[Tensor]:
    """What an encoder sees in views `[B, 3, s, s]`: the embedding `[B, D]` if asked for, and
    each of the wanted statistics `[B, ...]`.

    In chunks of at most `chunk` views, if given: the activations of one chunk at a
    time are held, each computed again when the gradient passes. Without statistics an
    encoder looks at the patches `keep` `[B, K]` only, if given.
    """

    def see(part: Tensor, kept: Tensor | None = None) -> list[Tensor]:
        if not wanted:
            if kept is None:
                return [encoder.encode_image(part)]
            return [encoder.encode_image(part, kept)]  # type: ignore[call-arg]
        embedded: list[Tensor] = []
        if embed:
            whole, maps = embed_with_maps(encoder, part)
            embedded = [whole]
        else:
            maps = encoder.features(part)
        return embedded + [statistic(kind, maps[layer]) for kind, layer in wanted]

    if chunk is None or len(views) <= chunk:
        return see(views, keep)
    from torch.utils.checkpoint import checkpoint

    count = -(-len(views) // chunk)  # parts as equal as can be
    kept = [None] * count if keep is None else keep.tensor_split(count)
    parts = [
        checkpoint(see, *pair, use_reentrant=False, preserve_rng_state=False)
        for pair in zip(views.tensor_split(count), kept, strict=True)
    ]
    return [torch.cat(rows) for rows in zip(*parts, strict=True)]
