"""What the tests of the formula language share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from clipig.values.expressions import VARIABLES, time_context

EVERY = frozenset().union(*VARIABLES.values())
RELAXED = settings(
    deadline=None, max_examples=400, derandomize=True, suppress_health_check=list(HealthCheck)
)


def context_at(t: float, similarity: float = 21.5) -> dict[str, object]:
    """Values for all variables at time `t`."""
    values: dict[str, object] = dict(time_context(0, 1))
    for n in range(1, 6):
        suffix = "" if n == 1 else str(n)
        values[f"time{suffix}"] = t**n
        values[f"time_inverse{suffix}"] = (1 - t) ** n
    return values | {
        "epoch": round(t * 300),
        "resolution": [224, 160],
        "width": 224,
        "height": 160,
        "learnrate": 0.02,
        "learnrate_scale": 1.5,
        "similarity": similarity,
    }
