"""`clipig run`: makes a picture from a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from clipig.cli.options import (
    Seed,
    Size,
    engine_options,
    speed_options,
    talk_options,
)
from clipig.cli.request import Request, RunOptions, understood
from clipig.cli.resuming import interrupted_run, longer
from clipig.cli.stopping import tell

if TYPE_CHECKING:
    from clipig.config.load import Loaded
    from clipig.config.schema import Experiment
    from clipig.engine.events import Event
    from clipig.engine.state import State
    from clipig.outputs import Sink
    from clipig.outputs.checkpoints import SavedRun
    from clipig.outputs.places import RunFiles
    from clipig.session import Group, Session


@click.command(short_help="Make a picture from a config.")
@click.argument("configs", nargs=-1, metavar="CONFIG...")
@click.option("-o", "--output", metavar="DIR/|FILE.png",
              help="Where to write; default renders/NAME/.")
@click.option("-t", "--text", metavar="PROMPT", help="Replace the prompt of every text feature.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override any key, e.g. --set targets.0.batch_size=4. May be repeated.")
@click.option("--seed", type=Seed(), metavar="NUMBER|random",
              help="Seed of all random numbers; `random`: another one each time.")
@click.option("-e", "--epochs", type=click.IntRange(1), help="Number of optimizer steps.")
@click.option("-r", "--resolution", type=Size(), metavar="SIZE|WIDTHxHEIGHT",
              help="Size of the picture, e.g. 256 or 320x240.")
@click.option("-lr", "--learnrate", type=float, help="Factor of the learning rate.")
@click.option("-opt", "--optimizer", metavar="NAME", help="adam, rmsprop, sgd ...")
@click.option("-s", "--snapshot-interval", type=click.FloatRange(0), metavar="SECONDS",
              help="Seconds between snapshots; 0 for none.")
@click.option("--repeat", "--runs", "runs", type=click.IntRange(1), metavar="N",
              help="Make N pictures from N seeds, in one batch.")
@click.option("--video", type=click.Choice(["mp4", "webp", "gif"]), help="Write an animation, too.")
@click.option("--resume", is_flag=True,
              help="Go on with the last interrupted run of this config, or of a folder.")
@click.option("--dry-run", is_flag=True, help="Print the plan and an estimate; make nothing.")
@engine_options
@speed_options
@talk_options
def command(configs: tuple[str, ...], **options: object) -> None:
    """Make a picture from CONFIG: a YAML file, the name of a shipped one, or - for stdin.

    Instead of a config a prompt in quotes will do: the default recipe draws it.
    Several configs are merged from left to right. Nothing is ever overwritten:
    a number is added to the name.

    \b
    clipig run penguin_piano
    clipig run "a cat made of pizza"
    clipig run penguin_piano --text "a cat made of pizza" --seed 7
    clipig run base.yaml my.yaml --set learnrate=.5 -o out/
    """
    request = understood(configs, RunOptions(**options))  # type: ignore[arg-type]
    if request.options.dry_run:
        from clipig.cli.dry_run import print_plan

        print_plan(request.load(), request.session(), planned)
    elif request.options.resume:
        resume(request)
    else:
        start(request)


def planned(loaded: Loaded, session: Session) -> tuple[list[Experiment], list[Group]]:
    """Settle and plan the runs; faults of the config are reported with their positions."""
    from clipig.engine.device import pick_device
    from clipig.errors import ConfigError

    try:
        experiments = session.settle(loaded.experiment)
        pick_device(experiments[0].device)
        return experiments, session.plan(experiments)
    except ConfigError as e:
        raise loaded.error(e) from None


def start(request: Request) -> None:
    """Start a new run."""
    from clipig.config.dump import dump
    from clipig.config.prompts import unknown_blanks
    from clipig.files import atomic_write
    from clipig.outputs.animation import check_kind
    from clipig.outputs.places import claim

    if request.options.video:
        check_kind(request.options.video)
    loaded, session = request.load(), request.session()
    if loaded.experiment.verbose == 0:
        request = replace(request, options=replace(request.options, quiet=True))
    for blank in [] if request.options.quiet else unknown_blanks(loaded.experiment):
        click.echo(f"note: {blank} stays in the prompt as it is; `let:` would fill it", err=True)
    experiments, groups = planned(loaded, session)
    _introduce(request.options, groups)
    _preload(loaded, session, groups)
    place = claim(request.place(loaded))
    whole = session.prepare(loaded.experiment).model_copy(update={"seed": experiments[0].seed})
    text = dump(whole, header=_header(request, groups))
    with place.working():
        atomic_write(place.config, text)
        _render(request.options, session, experiments, place, text)
    fixed = loaded.experiment.seed is not None and request.options.seed is None
    if fixed and not request.options.quiet:
        click.echo(
            f"seed {experiments[0].seed} is that of the config; for another picture: --seed random",
            err=True,
        )


def resume(request: Request) -> None:
    """Resume the last interrupted run of a config or of a folder."""
    place = interrupted_run(request)
    with place.working():
        _go_on(request, place)


def _go_on(request: Request, place: RunFiles) -> None:
    from clipig.config.dump import dump
    from clipig.config.load import load
    from clipig.files import atomic_write, read_text
    from clipig.outputs.checkpoints import load_state, read_saved_run
    from clipig.outputs.pictures import cut_trace

    text = read_text(place.config)
    state, about = load_state(place.checkpoint, text)
    session = request.session()
    saved = load(str(place.config))
    more = longer(request, session, saved, place)
    experiments = session.settle(more or saved)
    run = read_saved_run(place.checkpoint, about, len(experiments), len(state.alive))
    if more is not None:
        stages = "; ".join([*run.stages.split("; "), f"epochs {saved.epochs.plain()} until step "
                            f"{state.step}"]).removeprefix("; ")
        run = replace(run, stages=stages)
        text = dump(more, header=f"made by clipig with more epochs on the way ({stages})")
        atomic_write(place.config, text)
    if not request.options.quiet:
        click.echo(f"resuming {place.config.with_suffix('')} after {state.step} steps", err=True)
    groups = session.plan([experiments[r] for r in run.rows])
    _introduce(request.options, groups)
    cut_trace(place.trace, groups[0].plan.start + state.step)
    _render(request.options, session, experiments, place, text, state, run)


def _introduce(options: RunOptions, groups: Sequence[Group]) -> None:
    """Print the first line of output: the encoder and why it was chosen."""
    if options.quiet:
        return
    for info in groups[0].encoders:
        reason = f" ({info.reason})" if info.reason else ""
        click.echo(f"encoder: {info.name}, {info.size} px{reason}", err=True)


def _preload(loaded: Loaded, session: Session, groups: Sequence[Group]) -> None:
    """Load weights, prompts and init images before any file is created."""
    from clipig.errors import ConfigError

    try:
        for group in groups:
            session.inputs(group.plan)
    except ConfigError as e:
        raise loaded.error(e) from None


def _header(request: Request, groups: Sequence[Group]) -> str:
    from clipig import __version__

    models = ", ".join(f"{i.name} {i.checksum}".strip() for i in groups[0].encoders)
    alone = "" if len(groups) == 1 and groups[0].plan.runs == 1 else (
        "s again,\nclipig reproduce PICTURE.png one of them alone"
    )
    return (
        f"made by clipig {__version__} from {' '.join(request.configs)}\nmodel: {models}\n"
        f"clipig run THIS_FILE makes the same picture{alone or ' again'}"
    )


def _render(
    options: RunOptions, session: Session, experiments: Sequence[Experiment], place: RunFiles,
    text: str, state: State | None = None, saved: SavedRun | None = None,
) -> None:
    """Run the unfinished runs, beginning with the batch of `state`, and feed the sinks."""
    from clipig.outputs.animation import Animation
    from clipig.outputs.pictures import Files
    from clipig.outputs.progress import ProgressBar
    from clipig.outputs.statistics import StatisticsTable

    first = experiments[0]
    files = Files(place, experiments, text, first.snapshot_interval, saved=saved)
    sinks: list[Sink] = [files]
    if not options.quiet and first.verbose > 0:
        sinks.append(ProgressBar(len(experiments)))
    level = 3 if options.verbose else 0 if options.quiet else first.verbose
    if level >= 2:
        sinks.append(StatisticsTable(live=level >= 3))
    animation = None
    if options.video:
        kind = options.video
        animation = Animation(kind, lambda row: place.animation(row, len(experiments), kind))
        sinks.append(animation)
    begun = saved.rows if saved else ()
    known = {*begun, *(saved.done if saved else ())}
    parts = [begun, [r for r in range(len(experiments)) if r not in known]]
    interrupted = tell(_events(session, experiments, parts, state), sinks)
    for row in sorted(files.pictures):
        click.echo(str(files.pictures[row]))
    if not options.quiet:
        for path in (*files.more, *(animation.written if animation else ())):
            click.echo(f"also written: {path}", err=True)
    if interrupted:
        kept = place.checkpoint.exists()
        then = "--resume goes on from here" if kept else "too early for --resume"
        click.echo(f"interrupted; {then}", err=True)
        raise click.exceptions.Exit(130)


def _events(
    session: Session, experiments: Sequence[Experiment], parts: Sequence[Sequence[int]],
    state: State | None,
) -> Iterator[tuple[Group, Event]]:
    """Render the runs of each part; rows of groups are indices of `experiments`.

    `state` belongs to the first part.
    """
    from clipig.engine.state import split_state

    states = split_state(state) if state else None
    for rows in parts:
        if rows:
            for group, event in session.render([experiments[r] for r in rows], states):
                yield replace(group, rows=tuple(rows[i] for i in group.rows)), event
        states = None
