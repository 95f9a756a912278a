"""Configs: from YAML to a typed experiment and back.

May import: `ops`, `values` and below; knows no tensor and no device.
"""

from __future__ import annotations

from clipig.config.dump import dump
from clipig.config.load import Loaded, Text, changed, load, load_text, read
from clipig.config.parts import Feature, Init, Model, PostProc, Target
from clipig.config.prompts import set_text
from clipig.config.schema import Experiment
from clipig.config.sources import shipped

__all__ = [
    "Experiment", "Feature", "Init", "Loaded", "Model", "PostProc", "Target", "Text", "changed",
    "dump", "load", "load_text", "read", "set_text", "shipped",
]
