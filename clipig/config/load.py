"""Configs from files, text or Python, laid over one another, checked, with all faults at once.

    experiment = load("penguin_piano", overrides=["epochs=50"])

A source is a path, the name of a shipped config, `-` for standard input, a
`Text`, or a mapping. Later ones are laid over earlier ones: mappings merge,
lists of mappings append, everything else is replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clipig.config.explain import locate, problems_of
from clipig.config.schema import Experiment
from clipig.config.sources import fetch, stem
from clipig.config.tree import Path as KeyPath
from clipig.config.tree import Place, Tree, beside, from_python, merged, path_text, replaced
from clipig.config.yaml_text import parse
from clipig.errors import ConfigError, Problem
from clipig.files import user_path
from clipig.values.faults import found


@dataclass(frozen=True)
class Text:
    """YAML text with a name that stands for it in messages."""

    text: str
    name: str = "<text>"


Source = str | Path | Text | Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """An experiment and where each of its values stands.

    `names` are what the sources are called: `("penguin_piano",)`.
    """

    experiment: Experiment
    tree: Tree
    names: tuple[str, ...]

    def locate(self, problem: Problem) -> Problem:
        """A problem known by its key (`targets[0].transforms[2].blur`) with its place."""
        place, path, _ = locate(self.tree, key_path(problem.key))
        key = path_text(path) or problem.key
        return Problem(place.file, place.line, place.column, key, problem.message)

    def error(self, error: ConfigError) -> ConfigError:
        """The same fault with places for the problems that have none."""
        return ConfigError([p if p.file else self.locate(p) for p in error.problems])


def load(*sources: Source, overrides: Sequence[str] = ()) -> Experiment:
    """Read a config.

    Args:
        *sources: Paths, names of shipped configs, `"-"` for standard input, mappings, or
            `clipig.config.Text`. Later ones are laid over earlier ones: mappings merge,
            lists of mappings append, everything else is replaced.
        overrides: `KEY=VALUE` as on the command line: `["epochs=50", "targets.0.batch_size=4"]`.

    Returns:
        The experiment, checked, with every default filled in.

    Raises:
        ConfigError: Something is wrong; every problem with its file, line and column.
    """
    return read(*sources, overrides=overrides).experiment


def load_text(text: str, name: str = "<text>", overrides: Sequence[str] = ()) -> Experiment:
    """Read a config from a YAML text.

    Args:
        text: The YAML.
        name: What stands for the file's name in the problems of a `ConfigError`.
        overrides: As in `load`.

    Returns:
        The experiment, checked, with every default filled in.

    Raises:
        ConfigError: Something is wrong; every problem with its line and column.
    """
    return read(Text(text, name), overrides=overrides).experiment


def read(
    *sources: Source, overrides: Sequence[str] = (), options: Mapping[str, tuple[str, object]] = {},
) -> Loaded:
    """As `load`, with the places of all values.

    `options` sets keys as overrides do, from values instead of text, and says
    how to call each in messages: `{"epochs": ("--epochs", 50)}`. Raises
    ConfigError with every problem.
    """
    problems: list[Problem] = []
    trees = [tree for source in sources if (tree := _tree(source, problems))]
    if len(trees) < len(sources):
        raise ConfigError(problems)
    total = Tree({}, Place("config"))
    for tree in trees:
        total = merged(total, tree) if total.value else tree
    for override in overrides:
        total = _overridden(total, override, problems)
    for key, (name, value) in options.items():
        total = _set(total, key_path(key), from_python(value, Place(name)), problems)
    experiment, faults = _checked(total)
    problems += faults
    if problems or experiment is None:
        raise ConfigError(problems)
    names = tuple(s.name if isinstance(s, Text) else stem(s) for s in sources)
    return Loaded(experiment, total, names)


def changed(experiment: Experiment, name: str = "change", **values: object) -> Experiment:
    """The experiment with top-level keys replaced: `changed(e, seed=1, epochs=50)`.

    Raises ConfigError, in which `name` stands for the place.
    """
    kept = {key: getattr(experiment, key) for key in experiment.model_fields_set}
    tree = from_python(values, Place(name))
    try:
        return Experiment.model_validate({**kept, **values})
    except ValidationError as e:
        raise ConfigError(problems_of(tree, e)) from None


def key_path(text: str) -> KeyPath:
    """`targets[0].features.1.text` -> `("targets", 0, "features", 1, "text")`."""
    parts = re.sub(r"\[(\d+)\]", r".\1", text).split(".")
    return tuple(int(p) if p.isdecimal() else p for p in parts if p)


def _tree(source: Source, problems: list[Problem]) -> Tree | None:
    try:
        if isinstance(source, Mapping):
            return from_python(source, Place("config"))
        if isinstance(source, Text):
            tree, faults = parse(source.text, source.name)
        else:
            tree, faults = parse(*fetch(source))
            folder = user_path(source).parent
            if tree is not None and os.path.isfile(user_path(source)):
                tree = beside(tree, folder)
    except ConfigError as e:
        problems += e.problems
        return None
    problems += faults
    return tree


def _overridden(tree: Tree, override: str, problems: list[Problem]) -> Tree:
    parsed = parse_override(override, problems)
    return tree if parsed is None else _set(tree, key_path(parsed[0]), parsed[1], problems)


def parse_override(override: str, problems: list[Problem]) -> tuple[str, Tree] | None:
    """The key and value of `KEY=VALUE`; None, and a problem, for another text."""
    key, equals, text = override.partition("=")
    key = key.strip()
    place = Place(f"--set {key}")
    if not equals or not re.fullmatch(r"\w+([.]\w+|\[\d+\])*", key):
        message = f"found {found(override)}, expected KEY=VALUE such as targets.0.batch_size=5"
        problems.append(Place("--set").problem(message))
        return None
    value, faults = parse(f"value: {text}", place.file)
    if value is None or faults or set(value.value) != {"value"}:
        reason = faults[0].message if faults else "found several keys, expected a value"
        problems.append(place.problem(reason))
        return None
    return key, _moved(value.value["value"], place)


def _moved(tree: Tree, place: Place) -> Tree:
    """A tree all of whose values stand at one place."""
    value: Any = tree.value
    if isinstance(value, dict):
        value = {key: _moved(entry, place) for key, entry in value.items()}
    elif isinstance(value, list):
        value = [_moved(entry, place) for entry in value]
    return replace(tree, value=value, place=place, keys=dict.fromkeys(tree.keys, place))


def _set(tree: Tree, path: KeyPath, value: Tree, problems: list[Problem]) -> Tree:
    try:
        return replaced(tree, path, value)
    except ConfigError as e:
        problems += e.problems
        return tree


def _checked(tree: Tree) -> tuple[Experiment | None, list[Problem]]:
    try:
        return Experiment.model_validate(tree.plain()), []
    except ValidationError as e:
        return None, problems_of(tree, e)
