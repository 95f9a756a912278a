"""The shapes of the two models, and what the command line can ask for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from clipig.encoders.embedded.network import NetworkConfig

MODELS: dict[str, tuple[NetworkConfig, dict[str, float]]] = {
    # name: (shape, how often each drawing style is taken)
    "embedded": (
        NetworkConfig(depths=(0, 1, 2, 1)),
        {"own": 1.5, "fluent-contrast": 0.5, "noto-mono": 0.5, "openclipart": 0.7},
    ),
    "embedded-judge": (
        NetworkConfig(
            stem=(7, 4), channels=(64, 128, 160), depths=(1, 1, 1), activation="gelu", maps=3
        ),
        {"fluent": 0.5, "emojione": 1.5, "fxemoji": 1.5},
    ),
}


@dataclass
class Settings:
    """What the command line asks for. Radii are for 64 px."""

    out: Path
    model: str = "embedded"
    images: float = 3e6
    seconds: float = 0.0
    batch: int = 192
    processes: int = 2  # on a GPU: 1
    lr: float = 1.5e-3
    weight_decay: float = 0.02
    noise: float = 0.45
    l2: float = 6.0
    linf: float = 0.05
    generations: int = 3
    ema: float = 0.998
    auxiliary: float = 0.5
    jem: float = 0.0  # weight of the loss against pictures that the optimiser made
    jem_pool: int = 512
    jem_batch: int = 16
    jem_steps: int = 3
    seed: int = 0
    start: Path | None = None
    start_towers: str = "image text"
    locked: str = ""
    share_seconds: float = 8.0
    save_minutes: float = 5.0
    measure_minutes: float = 8.0
    device: str = "cpu"


def parse_settings(description: str | None, arguments: list[str] | None = None) -> Settings:
    """Command line to settings: every field of `Settings` is an option."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=description)
    defaults = Settings(out=Path("training/runs/main"))
    for key, default in vars(defaults).items():
        kind = Path if key in ("out", "start") else type(default)
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=default)
    return Settings(**vars(parser.parse_args(arguments)))
