"""The configs that come with the package, by name."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

SUFFIXES = (".yaml", ".yml")


def paths() -> dict[str, Path]:
    """The shipped configs by name, such as `penguin_piano`; sorted."""
    return {name: path for name, path in everything().items() if not is_grid(path)}


def grids() -> dict[str, Path]:
    """The shipped grids by name, such as `grid_article`; sorted."""
    return {name: path for name, path in everything().items() if is_grid(path)}


def everything() -> dict[str, Path]:
    """The shipped configs and grids by name.

    In a wheel they lie inside the package, in a checkout beside it.
    """
    package = Path(str(files("clipig")))
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            found = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES)
            return {p.relative_to(folder).with_suffix("").as_posix(): p for p in found}
    return {}


def is_grid(path: Path) -> bool:
    """Whether a file is a grid of configs (it has axes) instead of a config."""
    return bool(re.search(r"^axes:", path.read_text(encoding="utf-8"), re.M))


def shipped() -> dict[str, str]:
    """The names of the shipped configs, each with the first sentence of its comment."""
    return {name: _summary(path.read_text(encoding="utf-8")) for name, path in paths().items()}


def read_shipped(name: str) -> str:
    """The text of a shipped config. Raises KeyError for a name that is none."""
    return paths()[name].read_text(encoding="utf-8")


def _summary(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server"):
            lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")
