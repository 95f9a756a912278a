"""The text of a config, from a file, standard input or those shipped with the package."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

from clipig.config.tree import Place
from clipig.config.yaml_text import MAX_BYTES
from clipig.errors import ConfigError, InputError
from clipig.files import read_bytes, reason, user_path
from clipig.values.faults import nearest

SUFFIXES = (".yaml", ".yml")
_OPENED = "/dev/fd/"
"""What a shell has opened for us: `clipig run <(...)`. Other pipes might wait for ever."""


def fetch(source: str | Path) -> tuple[bytes, str]:
    """The bytes of a config and the name to call it by in messages.

    `source` is a path, the name of a shipped config, or `-` for standard input.
    A file goes before a shipped config of the same name, a folder does not.
    Raises ConfigError.
    """
    if str(source) in ("-", "/dev/stdin"):
        return _standard_input(), "<stdin>"
    place = Place(str(source))
    path = user_path(source)
    try:
        folder = path.is_dir()
        if path.exists() and not folder:
            if str(source).startswith(_OPENED):
                with path.open("rb") as file:
                    return file.read(MAX_BYTES + 1), str(source)
            return read_bytes(path, MAX_BYTES), str(source)
    except InputError as e:
        raise ConfigError([place.problem(str(e).removeprefix(f"{path}: "))]) from None
    except (OSError, ValueError) as e:
        raise ConfigError([place.problem(f"cannot be read: {reason(e)}")]) from None
    known = everything()
    name = str(source).removesuffix(".yaml").removesuffix(".yml").removeprefix("configs/")
    if name in known:
        return known[name].read_bytes(), str(source)
    if folder:
        raise ConfigError([place.problem("found a folder, expected a config file")])
    raise ConfigError([place.problem(_unknown(path, name, list(known)))])


def _standard_input() -> bytes:
    """What is piped in. Raises ConfigError."""
    place = Place("<stdin>")
    if sys.stdin is None or sys.stdin.closed:
        raise ConfigError([place.problem("standard input is closed, expected a config there")])
    try:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except (OSError, ValueError) as e:
        raise ConfigError([place.problem(f"cannot be read: {reason(e)}")]) from None


def _unknown(path: Path, name: str, known: list[str]) -> str:
    try:
        beside = [str(p) for p in path.parent.iterdir() if p.suffix in SUFFIXES]
    except (OSError, ValueError):
        beside = []
    near = nearest(name, known) or nearest(str(path), beside)
    listing = f"; shipped are {', '.join(known)}" if known and not near else ""
    return f"found no such file and no shipped config of that name{near}{listing}"


def is_config(name: str) -> bool:
    """Whether a word names a config: a YAML file that exists, or a shipped one."""
    path = user_path(name)
    if path.suffix in SUFFIXES:
        return True
    return name.removeprefix("configs/") in everything()


def stem(source: object) -> str:
    """What a run of this source is called if nothing else is said: `penguin_piano`."""
    if not isinstance(source, str | Path) or source == "-":
        return "output"
    return Path(source).stem or "output"


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
    """The names of the shipped configs and grids, each with the first sentence of its comment.

    The sentence of a grid names its command: `clipig grid`.
    """
    known = {}
    for name, path in everything().items():
        kind = "clipig grid: " if is_grid(path) else ""
        known[name] = kind + _summary(path.read_text(encoding="utf-8"))
    return known


def read_shipped(name: str) -> str:
    """The text of a shipped config or grid. Raises KeyError for a name that is none."""
    return everything()[name].read_text(encoding="utf-8")


def _summary(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server"):
            lines.append(line.lstrip("# "))
    return re.split(r"(?<=[^\s.])\. ", " ".join(" ".join(lines).split()))[0].rstrip(".")
