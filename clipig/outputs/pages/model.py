"""Data of the pages, as plain frozen values.

Jobs fill these classes and the page writers only read them. Similarities are printed
unscaled, so pass 100 * cosine as the article does. All paths are relative to the folder of
the page, with `/` between the parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

Status = Literal["done", "failed", "missing"]
STATUSES: tuple[Status, ...] = ("done", "failed", "missing")


def check_relative(path: str, climb: bool = False) -> None:
    """Check that a path stays inside the folder of the page.

    Args:
        path: Relative path, or an empty text.
        climb: Allow `..`; URLs and absolute paths are refused even then.

    Raises:
        ValueError: The path leads out of the folder.
    """
    if not path:
        return
    parts = PurePosixPath(path).parts
    windows = PureWindowsPath(path)
    # A first part with a colon would be read as a scheme or a drive.
    outside = ".." in parts and not climb
    if outside or path.startswith(("/", "\\")) or windows.drive or ":" in parts[0]:
        raise ValueError(f"{path!r} is not a path relative to the page")


def check_numbers(values: Iterable[float | None]) -> None:
    """Check that scores are finite or None: no page can sort or draw NaN and infinities."""
    for value in values:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"a score must be finite or None, not {value}")


@dataclass(frozen=True)
class Recipe:
    """One config as it was run."""

    name: str
    yaml: str


@dataclass(frozen=True)
class Axis:
    """One named list of a grid; the order of `values` is the order on the page."""

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"axis {self.name!r} has no values")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"axis {self.name!r} names a value twice")


@dataclass(frozen=True)
class PageCell:
    """One image of a grid, present or missing.

    `index` holds one position per axis. `rank` counts from 1 within the method; if it is
    None, the page ranks by similarity. The config of a cell is the recipe with index
    `recipe`, in which `changes`, pairs of (line from 0, text), replace lines.
    """

    index: tuple[int, ...]
    status: Status = "missing"
    picture: str = ""
    thumb: str = ""
    prompt: str = ""
    seed: int | None = None
    similarity: float | None = None
    held_out: float | None = None
    rank: int | None = None
    command: str = ""
    error: str = ""
    recipe: int = 0
    changes: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")
        check_relative(self.picture)
        check_relative(self.thumb)
        check_numbers((self.similarity, self.held_out))


@dataclass(frozen=True)
class Explorer:
    """A grid of images.

    The first axis becomes the columns, the second the rows, the third the methods (keys 1
    to 9), and each further axis a select box. Cells that are not listed are shown as
    missing. The browser stores favourites under `id`, so keep it when a grid is resumed.
    `recipes` are the configs to which the cells refer; if empty, the page shows no configs.
    """

    id: str
    title: str
    axes: tuple[Axis, ...]
    cells: tuple[PageCell, ...]
    recipes: tuple[Recipe, ...] = ()
    guide: str = ""
    judge: str = ""
    created_by: str = "clipig"

    def __post_init__(self) -> None:
        if not self.axes:
            raise ValueError("a grid needs at least one axis")
        names = [axis.name for axis in self.axes]
        if len(set(names)) != len(names):
            raise ValueError(f"two axes share a name: {', '.join(names)}")
        sizes = tuple(len(axis.values) for axis in self.axes)
        seen: set[tuple[int, ...]] = set()
        for cell in self.cells:
            inside = len(cell.index) == len(sizes) and all(
                0 <= i < n for i, n in zip(cell.index, sizes, strict=True)
            )
            if not inside:
                raise ValueError(f"cell {cell.index} lies outside of a grid of {sizes}")
            if cell.index in seen:
                raise ValueError(f"cell {cell.index} is listed twice")
            seen.add(cell.index)


@dataclass(frozen=True)
class Candidate:
    """One run of a ranking. `final_*` is set for runs that were continued.

    Scores belong to the short run unless their name begins with `final`; `*_judge` scores
    come from the held-out encoder.
    """

    run: int
    seed: int
    short: float | None = None
    final: float | None = None
    short_judge: float | None = None
    final_judge: float | None = None
    picture: str = ""
    thumb: str = ""
    final_picture: str = ""
    final_thumb: str = ""
    command: str = ""
    final_command: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        for path in (self.picture, self.thumb, self.final_picture, self.final_thumb):
            check_relative(path)
        check_numbers((self.short, self.final, self.short_judge, self.final_judge))


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two scores over `runs` runs, with its confidence interval."""

    name: str
    rho: float
    low: float
    high: float
    runs: int
    level: float = 0.95


@dataclass(frozen=True)
class RankingPage:
    """A ranking: many short runs, a few of which were continued.

    `best` and `worst` are run numbers in the order of the table. `facts` are
    pairs shown under the title (model, device, time and the like).
    """

    title: str
    prompt: str
    candidates: tuple[Candidate, ...]
    best: tuple[int, ...]
    worst: tuple[int, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    command: str = ""
    csv: str = ""
    guide: str = ""
    judge: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    created_by: str = "clipig"

    def __post_init__(self) -> None:
        check_relative(self.csv)
        runs = [c.run for c in self.candidates]
        if len(set(runs)) != len(runs):
            raise ValueError("two candidates share a run number")
        unknown = sorted(set(self.best + self.worst) - set(runs))
        if unknown:
            raise ValueError(f"runs {unknown} are in the table but not among the candidates")


@dataclass(frozen=True)
class PageImage:
    """One image of a contact sheet. `scores` has one entry per column of the sheet.

    Images are not copied, so `picture` may lead out of the folder.
    """

    name: str
    picture: str
    thumb: str = ""
    scores: tuple[float | None, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        check_relative(self.picture, climb=True)
        check_relative(self.thumb, climb=True)
        check_numbers(self.scores)


@dataclass(frozen=True)
class PageGroup:
    """Images under one heading, for example one cluster."""

    name: str
    pictures: tuple[PageImage, ...]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """A contact sheet. `columns` holds the names of the scores."""

    title: str
    groups: tuple[PageGroup, ...]
    columns: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    created_by: str = "clipig"

    def __post_init__(self) -> None:
        for group in self.groups:
            for picture in group.pictures:
                if len(picture.scores) != len(self.columns):
                    raise ValueError(
                        f"{picture.name!r} has {len(picture.scores)} scores "
                        f"for {len(self.columns)} columns"
                    )
