"""`clipig run`: a YAML in, a picture out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipig.cli.options import (
    DEFAULT,
    PICTURES,
    SHOWN,
    Common,
    Seed,
    Size,
    engine_options,
    speed_options,
    talk_options,
)
from clipig.cli.stopping import tell
from clipig.errors import OutputError, UsageError

if TYPE_CHECKING:
    from clipig.config.compare import Difference
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


@dataclass(frozen=True)
class RunOptions(Common):
    """The command line's options, named as they are written."""

    text: str | None
    overrides: tuple[str, ...]
    epochs: int | None
    resolution: tuple[int, ...] | None
    learnrate: float | None
    optimizer: str | None
    snapshot_interval: float | None
    runs: int | None
    video: str | None
    verbose: bool

    def as_options(self) -> dict[str, tuple[str, object]]:
        """What the options say of the config: by key, the option's name and the value."""
        out: dict[str, tuple[str, object]] = {}
        for key in ("seed", "epochs", "learnrate", "optimizer", "runs", "snapshot_interval"):
            value = getattr(self, key)
            if value is not None:
                out[key] = (f"--{key.replace('_', '-')}", value)
        if self.resolution:
            out["resolution"] = ("--resolution", list(self.resolution))
        return out


def understood(words: tuple[str, ...], options: RunOptions) -> Request:
    """What is meant by the words of a command line: configs, or a prompt for the default recipe.

    Raises:
        UsageError: Nothing to make, a picture in place of a config, a prompt without quotes.
    """
    from clipig.config.sources import is_config

    pictures = [w for w in words if w.lower().endswith(PICTURES)]
    if pictures:
        raise UsageError(
            f"{pictures[0]} is a picture, expected a config; to make a picture of clipig again: "
            f"clipig reproduce {shlex.quote(pictures[0])}"
        )
    numbers = [w for w in words if w.isdecimal() and not Path(w).exists()]
    if len(numbers) == 1 and options.resolution and len(options.resolution) == 1:
        size = (*options.resolution, int(numbers[0]))  # -r 64 48, as the original took it
        words = tuple(w for w in words if w != numbers[0])
        return understood(words, replace(options, resolution=size))
    if numbers:
        raise UsageError(
            f"found {numbers[0]!r} where a config belongs; a size is written -r 64x48, "
            "and -v takes no number"
        )
    if not words:
        if options.text is None:
            raise UsageError(
                f'nothing to make: name a config (clipig run {DEFAULT}) or give a prompt '
                '(clipig run "a cat made of pizza")'
            )
        return Request((DEFAULT,), options)
    strangers = [w for w in words if w != "-" and not Path(w).exists() and not is_config(w)]
    if options.text is not None and strangers:
        whole = " ".join([options.text, *strangers])
        raise UsageError(
            f"found {' '.join(strangers)!r} after --text {options.text}; put the prompt in "
            f"quotes: --text {shlex.quote(whole)}"
        )
    if len(words) == 1 and " " in words[0].strip() and strangers:
        return Request((DEFAULT,), replace(options, text=words[0]))
    if len(strangers) == len(words) > 1:
        whole = " ".join(words)
        raise UsageError(
            f"found no config among {', '.join(words)}; put a prompt in quotes: "
            f"clipig run {shlex.quote(whole)}"
        )
    return Request(words, options)


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    configs: tuple[str, ...]
    options: RunOptions

    def load(self) -> Loaded:
        """The experiment and where its values stand, options applied. Raises `ConfigError`."""
        from clipig.config.load import read
        from clipig.config.prompts import set_text

        o = self.options
        loaded = read(*self.configs, overrides=o.overrides, options=o.as_options())
        if o.text is None:
            return loaded
        return replace(loaded, experiment=set_text(loaded.experiment, o.text))

    @property
    def is_folder(self) -> bool:
        """Whether a folder is named in place of a config: an interrupted run's."""
        return len(self.configs) == 1 and Path(self.configs[0]).is_dir()

    def name(self) -> str:
        """What the files are called."""
        last = self.configs[-1]
        return "output" if last == "-" else Path(last).stem

    def place(self, loaded: Loaded) -> RunFiles:
        """Where to write, the number that keeps it from overwriting not yet added."""
        from clipig.outputs.places import choose

        return choose(self.options.output or loaded.experiment.output, self.name())

    def session(self) -> Session:
        """A session with the models and devices that were asked for."""
        return self.options.session()


def planned(loaded: Loaded, session: Session) -> tuple[list[Experiment], list[Group]]:
    """The runs and their batches; faults of the config are told with their places."""
    from clipig.engine.device import pick_device
    from clipig.errors import ConfigError

    try:
        experiments = session.settle(loaded.experiment)
        pick_device(experiments[0].device)
        return experiments, session.plan(experiments)
    except ConfigError as e:
        raise loaded.error(e) from None


def start(request: Request) -> None:
    """A new run."""
    from clipig.config.dump import dump
    from clipig.files import atomic_write
    from clipig.outputs.animation import check_kind
    from clipig.outputs.places import claim

    if request.options.video:
        check_kind(request.options.video)
    loaded, session = request.load(), request.session()
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
    """Go on with the last interrupted run of a config, or with that of a folder."""
    place = _interrupted(request)
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
    longer = _longer(request, session, saved, place)
    experiments = session.settle(longer or saved)
    run = read_saved_run(place.checkpoint, about, len(experiments), len(state.alive))
    if longer is not None:
        stages = "; ".join([*run.stages.split("; "), f"epochs {saved.epochs.plain()} until step "
                            f"{state.step}"]).removeprefix("; ")
        run = replace(run, stages=stages)
        text = dump(longer, header=f"made by clipig with more epochs on the way ({stages})")
        atomic_write(place.config, text)
    if not request.options.quiet:
        click.echo(f"resuming {place.config.with_suffix('')} after {state.step} steps", err=True)
    groups = session.plan([experiments[r] for r in run.rows])
    _introduce(request.options, groups)
    cut_trace(place.trace, groups[0].plan.start + state.step)
    _render(request.options, session, experiments, place, text, state, run)


def _interrupted(request: Request) -> RunFiles:
    """The interrupted run that is meant. Raises `OutputError` or `UsageError`."""
    from clipig.outputs.places import RunFiles, unfinished

    if not request.is_folder:
        wanted = request.place(request.load())
        place = unfinished(wanted)
        if place is None:
            raise OutputError(
                f"nothing to resume: no checkpoint of this config was found in {wanted.folder}"
            )
        return place
    folder = Path(request.configs[0])
    found = sorted(folder.glob("*.checkpoint"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise OutputError(f"nothing to resume: no checkpoint was found in {folder}")
    return RunFiles(folder, found[-1].name.removesuffix(".checkpoint"))


def _longer(
    request: Request, session: Session, saved: Experiment, place: RunFiles
) -> Experiment | None:
    """The experiment with more epochs than were saved, if that is all that differs.

    Raises:
        UsageError: The run asked for is another one; names each difference.
    """
    from clipig.config.compare import differences

    if request.is_folder:
        given = [flag for flag, _ in request.options.as_options().values()]
        given += [flag for flag, value in (
            ("--text", request.options.text), ("--set", request.options.overrides),
            ("--model", request.options.model),
        ) if value]
        if not given:
            return None
        found = [f"{flag} was given" for flag in given]
    else:
        asked = request.load().experiment
        wanted = session.prepare(asked)
        if asked.seed is None:
            wanted = wanted.model_copy(update={"seed": saved.seed})
        differing = differences(session.prepare(saved), wanted)
        if [d.key for d in differing] == ["epochs"] and _more(differing[0]):
            return wanted
        found = [str(d) for d in differing]
    if found:
        shown = [*found[:SHOWN], *([f"and {len(found) - SHOWN} more"] * (len(found) > SHOWN))]
        raise UsageError(
            f"{place.config} is another run than the one asked for:\n  "
            + "\n  ".join(shown)
            + "\nto go on with it as it was begun: clipig run --resume "
            + shlex.quote(str(place.folder))
            + "\nfor a new run: leave --resume out"
        )
    return None


def _more(epochs: Difference) -> bool:
    """Whether more epochs are wanted than were saved, both plain numbers."""
    return (
        epochs.saved.isdecimal() and epochs.wanted.isdecimal()
        and int(epochs.wanted) > int(epochs.saved)
    )


def _introduce(options: RunOptions, groups: Sequence[Group]) -> None:
    """The first line of the output: which encoder, and why."""
    if options.quiet:
        return
    for info in groups[0].encoders:
        reason = f" ({info.reason})" if info.reason else ""
        click.echo(f"encoder: {info.name}, {info.size} px{reason}", err=True)


def _preload(loaded: Loaded, session: Session, groups: Sequence[Group]) -> None:
    """Load weights, prompts and init pictures before any file is made."""
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
    """Run what is not done yet, beginning with the batch of `state`, and report to the sinks."""
    from clipig.outputs.animation import Animation
    from clipig.outputs.pictures import Files
    from clipig.outputs.progress import ProgressBar
    from clipig.outputs.statistics import StatisticsTable

    first = experiments[0]
    files = Files(place, experiments, text, first.snapshot_interval, saved=saved)
    sinks: list[Sink] = [files]
    if not options.quiet and first.verbose > 0:
        sinks.append(ProgressBar(len(experiments)))
    if options.verbose or (first.verbose >= 3 and not options.quiet):
        sinks.append(StatisticsTable(live=True))
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
    """Render the runs of each part; groups have their places in the whole list.

    `state` belongs to the first part.
    """
    from clipig.engine.state import split_state

    states = split_state(state) if state else None
    for rows in parts:
        if rows:
            for group, event in session.render([experiments[r] for r in rows], states):
                yield replace(group, rows=tuple(rows[i] for i in group.rows)), event
        states = None
