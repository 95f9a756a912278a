"""The variables an expression can use, by group, and their short names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_POWERS = range(2, 6)

VARIABLES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "time": frozenset(
            {"epoch", "time", "time_inverse", "time_step"}
            | {f"{name}{n}" for name in ("time", "time_inverse") for n in _POWERS}
        ),
        "resolution": frozenset({"resolution", "width", "height"}),
        "learnrate": frozenset({"learnrate", "learnrate_scale"}),
        "similarity": frozenset({"similarity"}),
        "row": frozenset({"row"}),
    }
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "t": "time",
        **{f"t{n}": f"time{n}" for n in _POWERS},
        "ti": "time_inverse",
        **{f"ti{n}": f"time_inverse{n}" for n in _POWERS},
        "ts": "time_step",
        "res": "resolution",
        "lr": "learnrate",
        "lrs": "learnrate_scale",
        "sim": "similarity",
    }
)

# Of these the value is an int (`epoch`), or a list of two; of all others a float.
WHOLE_NUMBERS = frozenset({"epoch", "width", "height"})
PAIRS = frozenset({"resolution"})


def time_context(epoch: int, epochs: int) -> dict[str, float]:
    """The values of the group `time` at one step: `time` is 0 at the first and 1 at the last."""
    t = epoch / max(1, epochs - 1)
    context: dict[str, float] = {"epoch": epoch, "time": t, "time_inverse": 1 - t}
    for n in _POWERS:
        context[f"time{n}"] = t**n
        context[f"time_inverse{n}"] = (1 - t) ** n
    return context
