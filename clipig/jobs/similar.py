"""Finds near-duplicates, neighbours and clusters of images by their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipig.errors import UsageError

_MOST = 12
"""Maximum number of clusters that is tried if none is given."""


@dataclass(frozen=True)
class ImagePair:
    """Indices of two images, and their similarity (100 * cosine)."""

    first: int
    second: int
    similarity: float


def near_duplicates(rows: Tensor, above: float) -> list[ImagePair]:
    """All pairs of unit rows `[N, D]` with a similarity of at least `above`, highest first."""
    found = []
    for start in range(0, len(rows), 1024):
        block = 100 * rows[start : start + 1024] @ rows.T
        for i, j in (block >= above).nonzero().tolist():
            if start + i < j:
                found.append(ImagePair(start + i, j, float(block[i, j])))
    return sorted(found, key=lambda p: (-p.similarity, p.first, p.second))


def neighbours(rows: Tensor, count: int) -> list[list[ImagePair]]:
    """The `count` nearest other rows of each unit row `[N, D]`, nearest first."""
    count = min(count, len(rows) - 1)
    found: list[list[ImagePair]] = []
    for start in range(0, len(rows), 1024):
        block = 100 * rows[start : start + 1024] @ rows.T
        own = torch.arange(len(block))
        block[own, start + own] = -torch.inf
        values, places = block.topk(count, dim=1)
        for i, (v, p) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            found.append([ImagePair(start + i, q, s) for q, s in zip(p, v, strict=True)])
    return found


def clusters(rows: Tensor, count: int | None = None, seed: int = 0) -> list[list[int]]:
    """Cluster unit rows by k-means of scikit-learn.

    Args:
        rows: Unit rows `[N, D]`.
        count: Number of clusters; None: that with the best silhouette, from 2 to 12.
        seed: Seed of k-means.

    Returns:
        Row indices by cluster: the largest cluster first, the most typical row first.

    Raises:
        UsageError: The extra `cluster` is not installed, or `count` is out of range.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError:
        raise UsageError("clusters need the extra: pip install 'clipig[cluster]'") from None
    total = len(rows)
    if count is not None and not 1 <= count <= total:
        raise UsageError(f"--clusters {count}: there are {total} pictures")
    if total < 3 and count is None:
        return [list(range(total))] if total else []
    data = rows.double().numpy()
    distinct = len(torch.unique(rows, dim=0))

    def fit(k: int) -> Any:
        return KMeans(min(k, distinct), n_init=4, random_state=seed).fit(data)

    if count is None:
        tries = {k: fit(k) for k in range(2, min(_MOST, total - 1, distinct) + 1)}
        sample = min(total, 2000)
        scores = {
            k: silhouette_score(data, m.labels_, sample_size=sample, random_state=seed)
            for k, m in tries.items()
        }
        best = tries[max(scores, key=lambda k: (scores[k], -k))] if scores else fit(1)
    else:
        best = fit(count)
    groups: dict[int, list[int]] = {}
    distance = best.transform(data).min(axis=1)
    for place in sorted(range(total), key=lambda i: (distance[i], i)):
        groups.setdefault(int(best.labels_[place]), []).append(place)
    return sorted(groups.values(), key=lambda g: (-len(g), g[0]))
