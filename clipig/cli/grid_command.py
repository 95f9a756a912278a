"""`clipig grid`: makes a picture for each combination of lists, and a page to browse them."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipig.cli.options import (
    Many,
    Size,
    batch_option,
    engine_options,
    rating_options,
    ray_option,
    speed_options,
)

if TYPE_CHECKING:
    from clipig.cli.meter import Meter
    from clipig.config.grid import GridCell
    from clipig.jobs.batches import Execute, Job
    from clipig.jobs.folder import RunRecord
    from clipig.jobs.grid import GridRun
    from clipig.session import Session

REFRESH = 30.0
"""Seconds between two updates of the page while cells are running."""


@click.command(short_help="Make a picture for each combination of some lists.")
@click.argument("grid", metavar="GRID")
@click.option("--only", multiple=True, metavar="AXIS=VALUE",
              help="Make only cells with this value, e.g. animal=penguin; several values are "
              "separated by commas. May be repeated.")
@click.option("--shard", metavar="I/N",
              help="Make only the I-th of N parts of the cells, to share the work by hand.")
@click.option("-t", "--text", metavar="PROMPT",
              help="Prompt of every cell; blanks such as {animal} are filled by the axes.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override any key in every cell. May be repeated.")
@click.option("-e", "--epochs", type=click.IntRange(1), help="Epochs of every cell.")
@click.option("-r", "--resolution", type=Size(), metavar="SIZE|WIDTHxHEIGHT",
              help="Size of the pictures, e.g. 256 or 320x240.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Make at most N cells.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1),
              help="Seed of the grid, from which those of the cells follow; chosen and "
              "reported if absent.")
@rating_options
@batch_option("Cells")
@click.option("-o", "--output", metavar="DIR", help="Folder; default renders/grid-NAME/.")
@click.option("--resume", is_flag=True,
              help="Go on in the folder if a grid was begun there; what is done stays.")
@click.option("--retry", is_flag=True, help="With --resume: try cells that failed once more.")
@click.option("--dry-run", is_flag=True,
              help="Print cells, batches and an estimate of time and disk; make nothing.")
@ray_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and the page's name.")
@engine_options
@speed_options
def command(**options: object) -> None:
    """Make a picture for each combination of the lists in GRID, and a page to browse them.

    GRID is a YAML file or the name of a shipped one (docs/grid.md describes it).
    The page is renders/grid-NAME/index.html; it needs no server and no network.

    \b
    clipig grid grid_small
    clipig grid grid_article --dry-run
    clipig grid my_grid.yaml --only animal=penguin --resume
    """
    start(GridOptions(**options))  # type: ignore[arg-type]


@dataclass(frozen=True)
class GridOptions(Many):
    """Options of `clipig grid`."""

    grid: str
    only: tuple[str, ...]
    shard: str | None
    limit: int | None
    retry: bool
    text: str | None
    overrides: tuple[str, ...]
    epochs: int | None
    resolution: tuple[int, ...] | None

    @property
    def changes(self) -> list[str]:
        """Options that change keys of every cell, as overrides `KEY=VALUE`."""
        found = list(self.overrides)
        if self.epochs is not None:
            found.append(f"epochs={self.epochs}")
        if self.resolution:
            found.append(f"resolution={' '.join(map(str, self.resolution))}")
        return found

    @property
    def folder(self) -> Path:
        from clipig.config.sources import stem
        from clipig.files import slug

        name = slug(stem(self.grid).removeprefix("grid_"))
        return Path(self.output) if self.output else Path("renders") / f"grid-{name}"


def start(options: GridOptions) -> None:
    """Run a new grid or resume one."""
    from dataclasses import replace

    from clipig.cli.meter import Meter
    from clipig.config.grid import load_grid, with_options
    from clipig.config.sources import fetch
    from clipig.files import claim_folder
    from clipig.jobs.batches import execute
    from clipig.jobs.cluster import open_cluster
    from clipig.jobs.folder import Folder
    from clipig.jobs.grid import GridRun, jobs_of, make_cells, save_run, select, stored_seed

    meter = Meter(options.quiet)
    loaded = with_options(load_grid(options.grid), options.text, options.changes)
    places = select(loaded, options.only, options.shard, options.limit)
    session = options.session()
    begun = stored_seed(options.folder) if options.resume else None
    wanted = options.seed if options.seed is not None else loaded.grid.seed
    seed = next(s for s in (begun, wanted, secrets.randbelow(2**32)) if s is not None)
    if begun is not None and options.seed not in (None, begun):
        from clipig.errors import UsageError

        raise UsageError(f"{options.folder} was begun with --seed {begun}, not {options.seed}")
    run = GridRun(loaded, seed, Folder(options.folder))
    everything = make_cells(session, run, loaded.coordinates())
    chosen = set(places)
    cells = [cell for cell in everything if cell.index in chosen]
    jobs = jobs_of(session, cells)
    run = tuned(session, run, options, jobs)
    if options.dry_run:
        return print_plan(session, run, jobs)
    execute_batches = execute if options.ray is None else open_cluster(options.ray, meter.say)
    if begun is None:
        run = replace(run, folder=Folder(claim_folder(options.folder)))
        save_run(run, text_of(fetch(str(loaded.path))[0]))
    meter.say(f"{'going on in' if begun is not None else 'writing to'} {run.folder.root}/, "
              f"{len(cells)} cells, seed {seed}")
    return _make(session, run, options, meter, jobs, everything, execute_batches)


def text_of(data: bytes) -> str:
    """Decode a file for its copy in the output folder."""
    return data.decode("utf-8", errors="replace")


def tuned(session: Session, run: GridRun, options: GridOptions, jobs: Sequence[Job]) -> GridRun:
    """Set batch size and judge of a grid, and find faults before any cell runs.

    One cell of each structure is planned and its encoders are loaded.
    """
    from dataclasses import replace

    from clipig.encoders import resolve
    from clipig.engine.device import pick_device
    from clipig.jobs.batches import Scoring, chunks, group_size, refuse_guide
    from clipig.jobs.fresh_views import last_look

    size = options.group
    for part in chunks(jobs, 10**6):
        first = part[0].experiment
        size = size or group_size(first.device)
        last_look(session, first)
        session.encoders(first)
    if options.judge is not None and jobs:
        device = pick_device(jobs[0].experiment.device)
        refuse_guide(session, options.judge, jobs[0].experiment)
        session.encoder(resolve(options.judge), device)
    return replace(run, scoring=Scoring(None, options.views, options.judge), group=size or 1)


def _make(
    session: Session, run: GridRun, options: GridOptions, meter: Meter, jobs: Sequence[Job],
    everything: Sequence[GridCell], execute: Execute,
) -> None:
    """Run the cells. The page is written first and then updated regularly."""
    from clipig.files import locked
    from clipig.jobs.grid import finished, jobs_of, make_grid, open_batches, write_page

    left, _ = open_batches(run, jobs, options.retry)
    meter.tell("grid", sum(b.steps for b in left))
    others = finished(run, jobs_of(session, everything))
    spoken = -REFRESH
    rows: dict[str, RunRecord] = {}
    lock = run.folder.root / f".{(options.shard or 'all').replace('/', '-of-')}.lock"
    busy = f"{run.folder.root}: another process is at work on this grid"
    try:
        with locked(lock, busy):
            for rows in make_grid(session, run, jobs, execute, meter.tick, options.retry):
                if time.monotonic() - spoken > REFRESH:
                    spoken = time.monotonic()
                    write_page(run, everything, {**others, **rows}, again(run))
    except KeyboardInterrupt:
        meter.close()
        write_page(run, everything, {**others, **rows}, again(run))
        click.echo(
            f"interrupted; to go on: clipig grid {options.grid} --resume -o {run.folder.root}",
            err=True,
        )
        sys.exit(130)
    meter.close()
    report(run, everything, {**others, **rows}, meter)


def report(
    run: GridRun, everything: Sequence[GridCell], rows: dict[str, RunRecord], meter: Meter
) -> None:
    """Write the page and the contact sheets, and report failed cells."""
    from clipig.jobs.grid import write_page, write_sheets

    page = write_page(run, everything, rows, again(run))
    sheets = write_sheets(run, everything, rows)
    failed = [row for row in rows.values() if row.error]
    for row in failed:
        click.echo(f"failed: {row.name}: {row.error}", err=True)
    meter.say(f"{len(rows) - len(failed)} of {len(everything)} cells done, {len(failed)} failed")
    for sheet in sheets:
        meter.say(str(sheet))
    click.echo(str(page))


def again(run: GridRun) -> Callable[[GridCell, RunRecord], str]:
    """Make a function that returns the command line to reproduce a cell."""
    from clipig.files import shell

    def command(cell: GridCell, row: RunRecord) -> str:
        picture = (run.folder.root / row.picture).as_posix()
        return shell("clipig", "reproduce", picture) if row.picture else ""

    return command


def print_plan(session: Session, run: GridRun, jobs: Sequence[Job]) -> None:
    """Print cells, batches and an estimate from a few steps of each kind of cell."""
    from clipig.jobs.batches import chunks
    from clipig.jobs.grid import open_batches
    from clipig.jobs.pace import duration, measure, size

    left, done = open_batches(run, jobs)
    open_jobs = [job for batch in left for job in batch.jobs]
    click.echo(f"cells    {len(jobs)} of {len(run.loaded.coordinates())}, {len(done)} done already")
    click.echo(f"batches  {len(left)} of up to {run.group} cells")
    seconds, disk = 0.0, 0
    for part in chunks(open_jobs, 10**6):
        pace = measure(session, [job.experiment for job in part[: run.group]], run.scoring)
        first = part[0].experiment
        seconds += len(part) * pace.seconds
        disk += len(part) * pace.bytes
        click.echo(f"         {len(part)} like {part[0].name}: {first.epochs.plain()} epochs, "
                   f"{pace.seconds:.1f} s each")
    click.echo(f"time     {duration(seconds)} on this machine")
    click.echo(f"disk     at most {size(disk)}")
    click.echo(f"folder   {run.folder.root}")
