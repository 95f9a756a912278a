"""Grids: the cells that a YAML with named lists stands for.

    axes: {animal: [cat, pig], thing: [harp, piano]}
    recipe: method_1
    text: a {animal} made of {thing}. a {animal} with the texture of {a thing}.

Each combination is a cell: the recipe with the blanks filled, its own seed, and
whatever the values of its axes ask for.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from clipig.config.explain import locate, problems_of
from clipig.config.load import key_path, parse_override, read
from clipig.config.parts import without_anchors
from clipig.config.prompts import fill, set_text
from clipig.config.schema import Experiment, Seed
from clipig.config.sources import everything, fetch, stem
from clipig.config.tree import Place, Tree, beside, from_python
from clipig.config.words import fix_articles, with_article
from clipig.config.yaml_text import parse
from clipig.errors import ConfigError, Problem
from clipig.files import slug, user_path
from clipig.ops.base import Node
from clipig.rng import derive_seed
from clipig.values.faults import fault, nearest, wrong

BLANK = re.compile(r"\{(an? )?([A-Za-z_][\w.\[\]]*)\}")
MOST = 100_000

RecipeSource = str | dict[str, Any]


class Patch(Node):
    """What a grid or one value of an axis says of the cells that it is part of."""

    recipe: RecipeSource | None = None
    """a YAML file (seen from the grid's folder), the name of a shipped recipe, or a recipe"""
    text: str | None = None
    """replaces the prompt of the recipe"""
    let: dict[str, str] = Field(default={})
    """words for the blanks of a recipe that has `let`; axes of the same name fill theirs"""
    set: dict[str, Any] = Field(default={})
    """any keys of the recipe, dotted: `targets.0.batch_size: 5`"""


class AxisValue(Patch):
    """One value of an axis: a plain value, or a mapping with a name."""

    name: str
    """as it is shown"""
    words: dict[str, str] = Field(default={})
    """other fillings of blanks: `{thing: a loaf of bread}`"""
    value: Any = None
    """what blanks and keys get, if it is not the name"""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, raw: object) -> object:
        if isinstance(raw, dict):
            if "name" not in raw:
                raise fault("found a value without `name`, expected one")
            return {"value": str(raw["name"]), **raw, "name": str(raw["name"])}
        if raw is None or isinstance(raw, list):
            raise wrong(raw, "a value or a mapping with `name`")
        return {"name": _spell(raw), "value": raw}


def _spell(raw: object) -> str:
    return {True: "true", False: "false"}[raw] if isinstance(raw, bool) else str(raw)


class GridFile(Patch):
    """A grid: its axes and what all cells have in common.

    The first axis becomes the columns of the page, the second its rows, the
    third the methods. An axis with the name of a key of the recipe (`seed`,
    `learnrate`, `targets.0.batch_size`) sets that key.
    """

    title: str | None = None
    """of the page"""
    axes: dict[str, list[AxisValue]]
    """named lists"""
    seed: Seed | None = None
    """of the whole grid; the seed of a cell follows from it and the cell's names"""
    seeds: Literal["each", "same"] = "each"
    """`same`: all cells start alike, to compare settings"""

    @model_validator(mode="before")
    @classmethod
    def _without_anchors(cls, raw: object) -> object:
        return without_anchors(raw)

    @model_validator(mode="after")
    def _sound(self) -> GridFile:
        if not self.axes:
            raise fault("found no axes, expected at least one named list")
        for axis, entries in self.axes.items():
            names = [e.name for e in entries]
            twice = sorted(name for name, times in Counter(names).items() if times > 1)
            if not entries:
                raise fault(f"found the axis {axis!r} without values, expected some")
            if twice:
                raise fault(f"found {twice[0]!r} twice on the axis {axis!r}")
        count = 1
        for entries in self.axes.values():
            count *= len(entries)
        if count > MOST:
            raise fault(f"found {count} cells, expected at most {MOST}")
        return self


@dataclass(frozen=True)
class GridCell:
    """One combination: its place on the axes, the names there, and what is to be run."""

    index: tuple[int, ...]
    labels: tuple[str, ...]
    name: str
    experiment: Experiment


@dataclass(frozen=True)
class LoadedGrid:
    """A grid, where its values stand, and the file, from whose folder others are seen."""

    grid: GridFile
    tree: Tree
    path: Path
    name: str
    extra: Patch = field(default_factory=Patch)
    """what the command line changes in every cell"""
    _recipes: dict[str, Tree] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.grid.title or self.name.replace("_", " ")

    def coordinates(self) -> list[tuple[int, ...]]:
        """The places of all cells, the last axis fastest."""
        return list(itertools.product(*(range(len(v)) for v in self.grid.axes.values())))

    def labels(self, index: Sequence[int]) -> tuple[str, ...]:
        """The names on the axes at a place."""
        return tuple(
            entries[i].name for entries, i in zip(self.grid.axes.values(), index, strict=True)
        )

    def cell_names(self) -> dict[tuple[int, ...], str]:
        """File names by place, no two alike."""
        found = {index: slug("-".join(self.labels(index))) for index in self.coordinates()}
        counts = Counter(name.lower() for name in found.values())
        return {
            index: name if counts[name.lower()] == 1 else f"{name}-{'-'.join(map(str, index))}"
            for index, name in found.items()
        }

    def recipe(self, source: RecipeSource) -> Tree:
        """The tree of a recipe. Raises `ConfigError`."""
        if isinstance(source, dict):
            node = self.tree.step("recipe")
            own = node is not None and node.plain() == source
            whole = node if node is not None and own else from_python(source, Place("recipe"))
            return beside(whole, self.path.parent)
        if source not in self._recipes:
            near = self.path.parent / source
            wanted = str(near) if os.path.isfile(near) else source
            tree, problems = parse(*fetch(wanted))
            if tree is None or problems:
                raise ConfigError(problems)
            folder = Path(wanted).expanduser().parent
            self._recipes[source] = beside(tree, folder) if os.path.isfile(wanted) else tree
        return self._recipes[source]


def load_grid(source: str | Path) -> LoadedGrid:
    """Read a grid: a file or the name of a shipped one. Raises `ConfigError` with all problems."""
    known, path = everything(), user_path(source)
    key = str(source).removesuffix(".yaml").removeprefix("configs/")
    if key in known and not os.path.exists(path):
        path = known[key]
    elif not os.path.exists(path) and (near := nearest(key, known)):
        message = f"found no such file and no shipped grid of that name{near}"
        raise ConfigError([Place(str(source)).problem(message)])
    data, name = fetch(path)
    tree, problems = parse(data, name)
    if tree is None or problems:
        raise ConfigError(problems)
    if tree.step("axes") is None:
        message = "found no `axes`, expected named lists"
        if tree.step("targets") is not None:
            message += "; this looks like a config: try clipig run"
        raise ConfigError([tree.place.problem(message)])
    try:
        grid = GridFile.model_validate(tree.plain())
    except ValidationError as e:
        raise ConfigError(problems_of(tree, e, GridFile)) from None
    loaded = LoadedGrid(grid, tree, path, stem(source))
    if problems := list(_blanks(loaded)):
        raise ConfigError(problems)
    return loaded


def _blanks(loaded: LoadedGrid) -> list[Problem]:
    """Blanks in the grid's own strings that no axis fills."""
    problems = []
    axes = loaded.grid.axes
    recipe = loaded.tree.step("recipe")
    own = {id(tree) for tree in _literal(loaded.tree)}
    if recipe is not None and recipe.step("let") is not None:  # it fills its blanks itself
        own |= {id(tree) for tree, _ in recipe.walk()}
    for tree, _ in loaded.tree.walk():
        if not isinstance(tree.value, str) or id(tree) in own:
            continue
        for _, name in BLANK.findall(tree.value):
            if name not in axes:
                known = nearest(name, axes) or f" (axes are {', '.join(axes)})"
                problems.append(tree.place.problem(f"found the unknown blank {{{name}}}{known}"))
    return problems


def _literal(tree: Tree) -> Iterator[Tree]:
    """The strings that fill blanks and have none themselves: names, values and words."""
    axes = tree.step("axes")
    for axis in axes.value.values() if axes is not None else ():
        for entry in axis.value:
            named = isinstance(entry.value, dict)
            for part in map(entry.step, ("name", "value", "words")) if named else (entry,):
                yield from (below for below, _ in part.walk()) if part is not None else ()


def with_options(loaded: LoadedGrid, text: str | None, overrides: Sequence[str]) -> LoadedGrid:
    """The grid with what the command line changes in every cell.

    Args:
        loaded: The grid.
        text: A prompt, which may have blanks that axes fill.
        overrides: `KEY=VALUE`, as for `clipig run`.

    Raises:
        ConfigError: A text is no override.
    """
    changes: dict[str, Any] = {}
    problems: list[Problem] = []
    for override in overrides:
        parsed = parse_override(override, problems)
        if parsed is not None:
            changes[parsed[0]] = parsed[1].plain()
    if problems:
        raise ConfigError(problems)
    return replace(loaded, extra=Patch(text=text, set=changes))


def make_cell(loaded: LoadedGrid, index: Sequence[int], seed: int) -> GridCell:
    """The cell at a place; `seed` is the grid's. Raises `ConfigError`."""
    grid = loaded.grid
    chosen = {
        axis: entries[i] for (axis, entries), i in zip(grid.axes.items(), index, strict=True)
    }
    words = {axis: _spell(e.value) for axis, e in chosen.items()}
    for e in chosen.values():
        words.update(e.words)
    labels = loaded.labels(index)
    patches: list[Patch] = [grid, *chosen.values(), loaded.extra]
    source = next((p.recipe for p in reversed(patches) if p.recipe is not None), None)
    if source is None:
        message = "found no recipe, expected `recipe:` in the grid or in the values of an axis"
        raise ConfigError([loaded.tree.place.problem(message)])
    named = substitute_text(source, words) if isinstance(source, str) else source
    tree = loaded.recipe(named)
    let = tree.step("let")
    own_words = {k: v for k, v in words.items() if let is None or let.step(k) is None}
    tree = substitute(tree, own_words)
    changes: dict[str, tuple[str, object]] = {}
    for axis, e in chosen.items():
        if is_key(axis):
            changes[axis] = (f"axis {axis}", e.value)
    for patch in patches:
        for key, value in patch.set.items():
            changes[key] = (f"set {key}", _filled(value, words))
    experiment = _read(tree, changes)
    experiment = _worded(experiment, patches, words)
    own = seed if grid.seeds == "same" else derive_seed(seed, "cell", *labels)
    if "seed" not in changes:  # a recipe's own seed would be that of all cells
        experiment = experiment.model_copy(update={"seed": own})
    return GridCell(tuple(index), labels, slug("-".join(labels)), experiment)


def _worded(experiment: Experiment, patches: Sequence[Patch], words: Mapping[str, str]
            ) -> Experiment:
    """The prompts of a cell: words for `let`, then another text."""
    if experiment.let:
        let = {k: words.get(k, v) for k, v in experiment.let.items()}
        for patch in patches:
            let.update({k: substitute_text(v, words) for k, v in patch.let.items()})
        experiment = experiment.model_copy(update={"let": let})
    text = next((p.text for p in reversed(patches) if p.text is not None), None)
    if text is not None:
        experiment = set_text(experiment, fix_articles(substitute_text(text, words)))
    return fill(experiment)


def _read(tree: Tree, changes: Mapping[str, tuple[str, object]]) -> Experiment:
    """The experiment of a tree; problems are told at the places of the tree."""
    try:
        return read(tree.plain(), options=changes).experiment
    except ConfigError as e:
        problems = []
        for p in e.problems:
            if p.file == "config" and not p.line:
                place, _, _ = locate(tree, key_path(p.key))
                p = Problem(place.file, place.line, place.column, p.key, p.message)
            problems.append(p)
        raise ConfigError(problems) from None


def is_key(axis: str) -> bool:
    """Whether an axis sets a key of the recipe by its name."""
    return axis in Experiment.model_fields or "." in axis


def substitute(tree: Tree, words: Mapping[str, str]) -> Tree:
    """The tree with the blanks of its strings filled where an axis has that name."""
    value: Any = tree.value
    if isinstance(value, str):
        text = substitute_text(value, words)
        if text == value:
            return tree
        return Tree(fix_articles(text), tree.place, tree.keys)
    if isinstance(value, dict):
        value = {k: substitute(v, words) for k, v in value.items()}
    elif isinstance(value, list):
        value = [substitute(v, words) for v in value]
    return Tree(value, tree.place, tree.keys, tree.written)


def substitute_text(text: str, words: Mapping[str, str]) -> str:
    """A text with `{thing}` and `{a thing}` filled; other braces stay."""
    def word(match: re.Match[str]) -> str:
        name = match[2]
        if name not in words:
            return match[0]
        exact = match[0][1:-1]
        if exact in words:
            return words[exact]
        return with_article(words[name]) if match[1] else words[name]

    return BLANK.sub(word, text)


def _filled(value: object, words: Mapping[str, str]) -> object:
    """A value of `set` with its blanks filled; a blank alone becomes a number if it looks so."""
    if not isinstance(value, str):
        return value
    text = substitute_text(value, words)
    if text != value and re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    return text
