"""The text of a config, from a file, standard input or those shipped with the package."""

from __future__ import annotations

import sys
from pathlib import Path

from clipig.config.shipped import SUFFIXES, everything
from clipig.config.tree import Place
from clipig.config.yaml_text import MAX_BYTES
from clipig.errors import ConfigError
from clipig.values.faults import nearest


def fetch(source: str | Path) -> tuple[bytes, str]:
    """The bytes of a config and the name to call it by in messages.

    `source` is a path, the name of a shipped config, or `-` for standard input.
    A file goes before a shipped config of the same name, a folder does not.
    Raises ConfigError.
    """
    if source == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>"
    place = Place(str(source))
    path = Path(source).expanduser()
    try:
        folder = path.is_dir()
        if path.exists() and not folder:
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1), str(source)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise ConfigError([place.problem(f"cannot be read: {reason}")]) from None
    known = everything()
    name = str(source).removesuffix(".yaml").removesuffix(".yml").removeprefix("configs/")
    if name in known:
        return known[name].read_bytes(), str(source)
    if folder:
        raise ConfigError([place.problem("found a folder, expected a config file")])
    raise ConfigError([place.problem(_unknown(path, name, list(known)))])


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
    path = Path(name).expanduser()
    if path.suffix in SUFFIXES:
        return True
    return name.removeprefix("configs/") in everything()


def stem(source: object) -> str:
    """What a run of this source is called if nothing else is said: `penguin_piano`."""
    if not isinstance(source, str | Path) or source == "-":
        return "output"
    return Path(source).stem or "output"
