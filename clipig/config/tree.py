"""Data that knows where it stands: the mappings, lists and scalars of config files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FolderPath
from typing import Any

from clipig.errors import ConfigError, InputError, Problem
from clipig.files import user_path
from clipig.values.faults import found
from clipig.values.text import valid_text

MAX_DEPTH = 60
APPENDED = frozenset({"targets", "features", "transforms", "constraints", "postproc"})
"""Lists that grow when configs are merged, whatever is in them."""
NAMED = frozenset({"canvas", "optimizer", "learnrate", "learnrate_scale"})
"""Keys whose mapping is one name with its options: another name replaces it."""

IMAGES = frozenset({"image", "mask"})
"""Keys whose text is the path or address of an image."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where something stands; line 0 for what stands in no file."""

    file: str
    line: int = 0
    column: int = 0

    def problem(self, message: str, path: Path = ()) -> Problem:
        """A fault at this place."""
        return Problem(self.file, self.line, self.column, path_text(path), message)


@dataclass(frozen=True, eq=False)
class Tree:
    """One value: a scalar, a list of trees or a mapping of keys to trees.

    `keys` has the places of a mapping's keys; `written` is a scalar as it was
    spelled (`yes`), if it came from text.
    """

    value: Any
    place: Place
    keys: Mapping[str, Place] = field(default_factory=dict)
    written: str | None = None

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: tree.plain() for key, tree in self.value.items()}
        if isinstance(self.value, list):
            return [tree.plain() for tree in self.value]
        return self.value

    def step(self, key: str | int) -> Tree | None:
        """The entry of a mapping or list, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(key)
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            entry: Tree = self.value[key]
            return entry
        return None

    def walk(self, depth: int = 0) -> Iterator[tuple[Tree, int]]:
        """This tree and all below it, each with how deep it lies."""
        yield self, depth
        below = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for tree in below:
                yield from tree.walk(depth + 1)


def path_text(path: Path) -> str:
    """`targets[0].features[1].text`."""
    out = ""
    for key in path:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else key
    return out


def from_python(value: object, place: Place, depth: int = 0) -> Tree:
    """A tree of plain Python data.

    Raises ConfigError for keys that are no text and for data too deep.
    """
    if depth > MAX_DEPTH:
        raise ConfigError([place.problem(f"found data nested more than {MAX_DEPTH} deep")])
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError([place.problem(f"found the key {found(key)}, expected a text")])
        entries = {_text(k, place): from_python(v, place, depth + 1) for k, v in value.items()}
        return Tree(entries, place, dict.fromkeys(entries, place))
    if isinstance(value, list | tuple):
        return Tree([from_python(v, place, depth + 1) for v in value], place)
    return Tree(_text(value, place) if isinstance(value, str) else value, place)


def _text(text: str, place: Place) -> str:
    try:
        return valid_text(text)
    except InputError as e:
        raise ConfigError([place.problem(str(e).removeprefix("the text: "))]) from None


def beside(tree: Tree, folder: FolderPath, key: str = "") -> Tree:
    """The tree of a config file in `folder`, from where the paths of its images are seen.

    A path that leads to no file from there stays as it is, seen from the current folder.
    """
    value: Any = tree.value
    if isinstance(value, dict):
        value = {k: v if k == "model" else beside(v, folder, k) for k, v in value.items()}
    elif isinstance(value, list):
        value = [beside(v, folder) for v in value]
    elif key in IMAGES and isinstance(value, str) and "://" not in value:
        path = folder / user_path(value)
        value = str(path) if os.path.isfile(path) else value
    return replace(tree, value=value)


def merged(first: Tree, second: Tree, path: Path = ()) -> Tree:
    """`second` laid over `first`: mappings merge, lists of mappings append, else it replaces."""
    a, b = first.value, second.value
    if isinstance(a, dict) and isinstance(b, dict) and not _other_name(path, a, b):
        entries = {
            key: merged(a[key], b[key], (*path, key)) if key in a and key in b
            else b.get(key, a.get(key))
            for key in {**a, **b}
        }
        return Tree(entries, first.place, {**first.keys, **second.keys})
    if isinstance(a, list) and isinstance(b, list) and (
        path[-1] in APPENDED or all(isinstance(tree.value, dict) for tree in [*a, *b])
    ):
        return Tree([*a, *b], first.place)
    return second


def _other_name(path: Path, a: dict[str, Tree], b: dict[str, Tree]) -> bool:
    return len(path) == 1 and path[0] in NAMED and a.keys() != b.keys()


def replaced(tree: Tree, path: Path, new: Tree, done: Path = ()) -> Tree:
    """The tree with the value at `path` replaced; mappings on the way are made as needed.

    An index one beyond a list's end appends. Raises ConfigError, at the place
    of `new`, where the path leads nowhere.
    """
    if not path:
        return new
    key, rest = path[0], path[1:]
    value = tree.value
    if isinstance(value, str) and value == key:  # `optimizer: rmsprop` -> `{rmsprop: {...}}`
        value = {key: Tree(None, new.place)}
    if value is None:
        value = [] if isinstance(key, int) else {}
    below = Tree(None, new.place)
    if isinstance(value, dict) and isinstance(key, str):
        entry = replaced(value.get(key, below), rest, new, (*done, key))
        return Tree({**value, key: entry}, tree.place, {**tree.keys, key: new.place})
    if isinstance(value, list) and isinstance(key, int) and key <= len(value):
        entry = replaced(value[key] if key < len(value) else below, rest, new, (*done, key))
        return Tree([*value[:key], entry, *value[key + 1 :]], tree.place)
    raise ConfigError([new.place.problem(_nowhere(value, key), (*done, key))])


def _nowhere(value: object, key: str | int) -> str:
    if isinstance(value, list):
        count = len(value)
        entries = "1 entry" if count == 1 else f"{count} entries"
        return f"found {key!r} for a list of {entries}, expected an index from 0 to {count}"
    if isinstance(value, dict):
        return f"found the index {key} for a mapping, expected one of its keys"
    return f"found {found(value)} there, which has no keys; set the whole value instead"
