"""Runs the missing cells of a grid and writes its page and contact sheets."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clipig.config.dump import dump
from clipig.config.grid import GridCell, LoadedGrid, make_cell
from clipig.config.prompts import first_prompt
from clipig.errors import ClipigError, ConfigError, OutputError, Problem, UsageError
from clipig.files import atomic_write, slug
from clipig.images import load_image, save_png
from clipig.jobs.batches import Batch, Execute, Job, Made, Scoring, Tick, chunks, execute, settle
from clipig.jobs.folder import Folder, RunRecord
from clipig.outputs.contact_sheet import contact_sheet
from clipig.outputs.pages.explorer import write_explorer
from clipig.outputs.pages.model import Axis, Explorer, PageCell, Recipe, Status
from clipig.session import Session
from clipig.values.faults import found, nearest

STAGE = "pictures"
SHOWN = 20
"""Maximum number of reported problems of cells; further ones mostly repeat them."""


@dataclass(frozen=True)
class GridRun:
    """A grid with its seed, output folder, scoring and batch size."""

    loaded: LoadedGrid
    seed: int
    folder: Folder
    scoring: Scoring = field(default_factory=Scoring)
    group: int = 16

    @property
    def id(self) -> str:
        """Key of the favourites in the browser; it does not change when a grid is resumed."""
        return f"{self.loaded.name}-{self.seed}"


def save_run(run: GridRun, text: str) -> None:
    """Write the grid's text and seed into its folder. Raises `OutputError`."""
    atomic_write(run.folder.root / "grid.yaml", text)
    atomic_write(run.folder.root / "settings.json", json.dumps({"seed": run.seed}) + "\n")


def stored_seed(root: Path) -> int | None:
    """Read the seed of the grid in a folder; None without a grid. Raises `OutputError`."""
    path = root / "settings.json"
    if not os.path.exists(path):
        return None
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise OutputError(f"{root}: no grid that could be resumed ({fault})") from fault


def select(
    loaded: LoadedGrid, only: Sequence[str] = (), shard: str | None = None, limit: int | None = None
) -> list[tuple[int, ...]]:
    """Select cells of a grid.

    Args:
        loaded: The grid.
        only: Texts `AXIS=VALUE` or `AXIS=VALUE,VALUE`.
        shard: `i/n`: the i-th of n parts, counted from 1.
        limit: Maximum number of cells.

    Returns:
        Indices of cells, one position per axis each.

    Raises:
        UsageError: An axis or value does not exist, or `shard` is invalid.
    """
    wanted: dict[str, set[str]] = {}
    axes = loaded.grid.axes
    for text in only:
        axis, equals, names = text.partition("=")
        if not equals or axis not in axes:
            hint = nearest(axis, axes) or f" (axes are {', '.join(axes)})"
            raise UsageError(f"--only {text}: expected AXIS=VALUE, found the axis {axis!r}{hint}")
        known = [e.name for e in axes[axis]]
        parts = [names] if names in known else [n.strip() for n in names.split(",")]
        for name in parts:
            if name not in known:
                hint = nearest(name, known) or f" (known are {', '.join(known[:12])} ...)"
                raise UsageError(f"--only {text}: {found(name)} is not on the axis{hint}")
            wanted.setdefault(axis, set()).add(name)
    chosen = [
        index for index in loaded.coordinates()
        if all(
            axis not in wanted or label in wanted[axis]
            for axis, label in zip(axes, loaded.labels(index), strict=True)
        )
    ]
    if shard is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", shard)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--shard {shard}: expected i/n with 1 <= i <= n, e.g. 2/4")
        chosen = chosen[int(match[1]) - 1 :: int(match[2])]
    return chosen if limit is None else chosen[:limit]


def make_cells(session: Session, run: GridRun, places: Sequence[Sequence[int]]) -> list[GridCell]:
    """Make the cells at `places`, ready to run. Raises `ConfigError` with the faults of all."""
    cells: list[GridCell] = []
    problems: set[Problem] = set()
    names = run.loaded.cell_names()
    for place in places:
        try:
            cell = make_cell(run.loaded, place, run.seed)
            experiment = settle(session, cell.experiment)
            cells.append(replace(cell, name=names[cell.index], experiment=experiment))
        except ConfigError as e:
            problems.update(e.problems)
    if problems:
        raise ConfigError(sorted(problems)[:SHOWN])
    return cells


def jobs_of(session: Session, cells: Sequence[GridCell]) -> list[Job]:
    """Make the jobs of cells. The key of a job hashes its config and the models' weights."""
    return [
        Job(c.name, c.experiment, _key("\n".join([
            dump(c.experiment), *(info.checksum for info in session.infos(c.experiment)),
        ])))
        for c in cells
    ]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def batches_of(jobs: Sequence[Job], run: GridRun) -> list[Batch]:
    """Divide jobs into batches whose names are derived from their jobs."""
    batches = []
    for part in chunks(jobs, run.group):
        name = _key("\n".join(f"{job.name} {job.key}" for job in part))
        batches.append(Batch(name, part, run.scoring))
    return batches


def finished(run: GridRun, jobs: Sequence[Job]) -> dict[str, RunRecord]:
    """Records of finished jobs, including failed ones, that have not changed since."""
    keys = {job.name: job.key for job in jobs}
    return {
        name: row for name, row in run.folder.rows(STAGE).items() if keys.get(name) == row.key
    }


def open_batches(
    run: GridRun, jobs: Sequence[Job], again: bool = False
) -> tuple[list[Batch], dict[str, RunRecord]]:
    """Batches of the jobs still to do, divided as in an uninterrupted run, and finished records.

    With `again`, failed jobs count as still to do.
    """
    done = {n: r for n, r in finished(run, jobs).items() if not (again and r.error)}
    left = []
    for batch in batches_of(jobs, run):
        missing = tuple(job for job in batch.jobs if job.name not in done)
        if len(missing) == len(batch.jobs):
            left.append(batch)
        elif missing:
            name = _key("\n".join(f"{job.name} {job.key}" for job in missing))
            left.append(replace(batch, name=name, jobs=missing))
    return left, done


def make_grid(
    session: Session, run: GridRun, jobs: Sequence[Job], execute: Execute = execute,
    tick: Tick | None = None, again: bool = False,
) -> Iterator[dict[str, RunRecord]]:
    """Run the missing jobs; yields the records of all finished jobs, first and per batch."""
    left, done = open_batches(run, jobs, again)
    yield done
    for batch, made in execute(session, left, tick):
        done = {**done, **_written(run, batch, made)}
        yield done


def _written(run: GridRun, batch: Batch, made: Sequence[Made]) -> dict[str, RunRecord]:
    return {row.name: row for row in run.folder.write(STAGE, batch, made)}


Command = Callable[[GridCell, RunRecord], str]
"""Returns the command line that reproduces a cell."""


def write_page(
    run: GridRun, cells: Sequence[GridCell], rows: dict[str, RunRecord], command: Command
) -> Path:
    """Write `index.html` and `data.js`; returns the page. Cells without a record are missing."""
    grid = run.loaded.grid
    axes = tuple(Axis(name, tuple(e.name for e in values)) for name, values in grid.axes.items())
    guides = dict.fromkeys(m.name for c in cells for m in c.experiment.model)
    shown, recipes = _with_configs(
        cells, [_page_cell(cell, rows.get(cell.name), command) for cell in cells]
    )
    page = Explorer(
        run.id, run.loaded.title, axes, shown, recipes, ", ".join(guides), run.scoring.judge or "",
    )
    return write_explorer(run.folder.root, page)


def _page_cell(cell: GridCell, row: RunRecord | None, command: Command) -> PageCell:
    prompt = first_prompt(cell.experiment)
    if row is None:
        return PageCell(cell.index, "missing", prompt=prompt, seed=cell.experiment.seed)
    status: Status = "failed" if row.error else "done"
    return PageCell(
        cell.index, status, row.picture, row.thumb, prompt, row.seed, row.fresh, row.held_out,
        None, command(cell, row), row.error,
    )


def _with_configs(
    cells: Sequence[GridCell], shown: Sequence[PageCell]
) -> tuple[tuple[PageCell, ...], tuple[Recipe, ...]]:
    """Store the configs of cells as recipes and changes to them.

    Configs of a grid differ in a few lines (seed, prompts). One of each length becomes a
    recipe; the others are stored as the lines that differ from it.
    """
    recipes: dict[int, tuple[int, list[str]]] = {}
    found: list[PageCell] = []
    texts: list[Recipe] = []
    for cell, page_cell in zip(cells, shown, strict=True):
        lines = dump(cell.experiment).split("\n")
        if len(lines) not in recipes:
            recipes[len(lines)] = (len(texts), lines)
            texts.append(Recipe(cell.name, "\n".join(lines)))
        number, base = recipes[len(lines)]
        changes = tuple((i, a) for i, (a, b) in enumerate(zip(lines, base, strict=True)) if a != b)
        found.append(replace(page_cell, recipe=number, changes=changes))
    return tuple(found), tuple(texts)


def write_sheets(run: GridRun, cells: Sequence[GridCell], rows: dict[str, RunRecord]) -> list[Path]:
    """Write a contact sheet per method (the axes after the second), arranged as on the page."""
    axes = list(run.loaded.grid.axes.values())
    groups: dict[tuple[int, ...], list[GridCell]] = {}
    for cell in cells:
        if (row := rows.get(cell.name)) is not None and row.thumb:
            groups.setdefault(cell.index[2:], []).append(cell)
    written = []
    for place, members in sorted(groups.items()):
        members.sort(key=lambda c: (c.index[1] if len(c.index) > 1 else 0, c.index[0]))
        pictures, labels = [], []
        for cell in members:
            try:
                pictures.append(load_image(run.folder.root / rows[cell.name].thumb))
            except ClipigError:
                continue
            labels.append(f"{' '.join(cell.labels[:2])} {_show(rows[cell.name].fresh)}")
        if not pictures:
            continue
        columns = len({c.index[0] for c in members})
        names = [axes[2 + k][i].name for k, i in enumerate(place)]
        path = run.folder.root / f"{'_'.join(['contact_sheet', *map(slug, names)])}.png"
        save_png(contact_sheet(pictures, labels, columns=columns), path, overwrite=True)
        written.append(path)
    return written


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
