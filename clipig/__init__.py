"""clipig: pictures from noise, with CLIP as the critic.

    import clipig

    result = clipig.run(clipig.load("penguin_piano", overrides=["epochs=20"]))
    clipig.save(result, "penguins/")

Names are imported when they are used, so `import clipig` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from clipig.api import run, save
    from clipig.config.dump import dump
    from clipig.config.load import load, load_text
    from clipig.config.schema import Experiment
    from clipig.encoders import load as load_encoder
    from clipig.encoders import resolve as resolve_encoder
    from clipig.engine.events import Diverged, Finished, PhaseBegun, Step
    from clipig.engine.goals import PromptCache, encode_prompts
    from clipig.engine.loop import optimize
    from clipig.engine.state import State
    from clipig.errors import ClipigError, ConfigError
    from clipig.plan.compiler import compile
    from clipig.plan.plan import Plan
    from clipig.session import Result, Session

_HOMES = {
    "ClipigError": "clipig.errors",
    "ConfigError": "clipig.errors",
    "Diverged": "clipig.engine.events",
    "Experiment": "clipig.config.schema",
    "Finished": "clipig.engine.events",
    "PhaseBegun": "clipig.engine.events",
    "Plan": "clipig.plan.plan",
    "PromptCache": "clipig.engine.goals",
    "Result": "clipig.session",
    "Session": "clipig.session",
    "State": "clipig.engine.state",
    "Step": "clipig.engine.events",
    "compile": "clipig.plan.compiler",
    "dump": "clipig.config.dump",
    "encode_prompts": "clipig.engine.goals",
    "load": "clipig.config.load",
    "load_encoder": "clipig.encoders",
    "load_text": "clipig.config.load",
    "optimize": "clipig.engine.loop",
    "resolve_encoder": "clipig.encoders",
    "run": "clipig.api",
    "save": "clipig.api",
}
"""Every public name and the module that holds it."""

_OTHER_NAMES = {"load_encoder": "load", "resolve_encoder": "resolve"}

__all__ = [
    "ClipigError", "ConfigError", "Diverged", "Experiment", "Finished", "PhaseBegun", "Plan",
    "PromptCache", "Result", "Session", "State", "Step", "compile", "dump", "encode_prompts",
    "load", "load_encoder", "load_text", "optimize", "resolve_encoder", "run", "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clipig' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
