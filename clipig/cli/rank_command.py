"""`clipig rank`: makes many short runs, finishes the best, and writes a page."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from clipig.cli.options import (
    DEFAULT,
    SHOWN,
    Many,
    batch_option,
    engine_options,
    rating_options,
    ray_option,
    speed_options,
)
from clipig.errors import UsageError

if TYPE_CHECKING:
    from clipig.config.schema import Experiment
    from clipig.jobs.stages import Ranking
    from clipig.session import Session

KEPT = ("runs", "top", "bottom", "short_epochs", "final_epochs", "restart", "views", "judge", "by",
        "halving", "seed")
"""Options that a resume takes from the folder."""


@click.command(short_help="Make many short runs and finish the best of them.")
@click.argument("config", required=False)
@click.option("-n", "--runs", type=click.IntRange(1, 100_000), default=512, show_default=True,
              help="Number of short runs.")
@click.option("--top", type=click.IntRange(1), default=6, show_default=True,
              help="How many of the best to finish.")
@click.option("--bottom", type=click.IntRange(0), default=2, show_default=True,
              help="How many of the worst to finish, too, to see whether ranking pays.")
@click.option("-t", "--text", metavar="PROMPT", help="Replace the prompt of the recipes.")
@click.option("--final", "final_config", metavar="CONFIG",
              help="Recipe of the final runs, if it is another one (rank_1_detail ...).")
@click.option("--short-epochs", type=click.IntRange(1), default=20, show_default=True,
              help="Epochs of the short runs.")
@click.option("--final-epochs", type=click.IntRange(1), default=300, show_default=True,
              help="Epochs of the final runs.")
@click.option("--continue/--restart", "go_on", default=True, show_default=True,
              help="Final runs go on from the candidate's picture, or run the whole final "
              "recipe from the candidate's seed.")
@click.option("--halving", is_flag=True,
              help="Successive halving instead of one cut: the better half goes on twice as "
              "long, again and again, with the same number of view evaluations.")
@rating_options
@click.option("--by", type=click.Choice(["fresh", "held-out"]), default="fresh",
              show_default=True, help="Which score ranks: the guide's or the judge's.")
@click.option("--only", metavar="NUMBERS", help="Make only these runs, e.g. 344 or 0-9,344.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1),
              help="Seed from which the seeds of all runs follow; chosen and reported if absent.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override any key of both recipes. May be repeated.")
@batch_option("Runs")
@click.option("-o", "--output", metavar="DIR", help="Folder; default renders/rank-NAME/.")
@click.option("--resume", is_flag=True,
              help="Go on in the folder if a ranking was begun there; its settings are kept.")
@click.option("--dry-run", is_flag=True,
              help="Print what would be done and how long it would take; make nothing.")
@ray_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and the table.")
@engine_options
@speed_options
@click.pass_context
def command(context: click.Context, /, **options: object) -> None:
    """Make many short runs of CONFIG, rate them over fresh views, finish the best and the worst.

    CONFIG is a YAML file or the name of a shipped one; default penguin_piano.
    Everything is written to a folder, batch by batch: a table (ranking.csv),
    pictures, a contact sheet and a page (index.html).

    \b
    clipig rank --runs 512 --top 6
    clipig rank --text "a snail made of harp" --dry-run
    clipig rank rank_1_init --final rank_1_detail --resume
    """
    given = frozenset(
        name for name in options
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    )
    start(RankOptions(**options), given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RankOptions(Many):
    """Options of `clipig rank`."""

    config: str | None
    runs: int
    top: int
    bottom: int
    text: str | None
    final_config: str | None
    short_epochs: int
    final_epochs: int
    go_on: bool
    halving: bool
    by: str
    only: str | None
    overrides: tuple[str, ...]

    @property
    def restart(self) -> bool:
        return not self.go_on

    @property
    def name(self) -> str:
        """Name of the output folder."""
        from clipig.config.sources import stem
        from clipig.files import slug

        name = stem(self.config or DEFAULT)
        return slug(f"{name}-{self.text}" if self.text else name)

    @property
    def folder(self) -> Path:
        return Path(self.output) if self.output else Path("renders") / f"rank-{self.name}"


def start(options: RankOptions, given: frozenset[str]) -> None:
    """Run a new ranking or resume one."""
    from clipig.cli.meter import Meter
    from clipig.files import claim_folder, locked
    from clipig.jobs.batches import execute
    from clipig.jobs.cluster import open_cluster
    from clipig.jobs.folder import Folder
    from clipig.jobs.ranking import rank
    from clipig.jobs.ranking_report import table, write_report
    from clipig.jobs.stages import load_ranking, save_ranking

    if options.by == "held-out" and not options.judge and not options.resume:
        raise UsageError("--by held-out needs a judge: name one with --judge MODEL")
    meter = Meter(options.quiet)
    # a resume takes models and devices from the recipes in the folder
    session = replace(options, model=None, device=None, precision=None).session()
    begun = options.resume and os.path.exists(options.folder / "settings.json")
    if begun:
        ranking = load_ranking(options.folder)
        _refuse_changes(options, ranking, given)
        _refuse_other_recipes(session, options, ranking, given)
        if weights(session, ranking.short, ranking.final) != ranking.settings.weights:
            raise UsageError(
                f"{options.folder} was begun with other weights of the model; "
                "its runs cannot be compared with new ones"
            )
    else:
        ranking = build(session, options)
    check(session, ranking)
    if options.dry_run:
        return print_plan(session, ranking)
    run = execute if options.ray is None else open_cluster(options.ray, meter.say)
    if not begun:
        ranking = replace(ranking, folder=Folder(claim_folder(options.folder)))
        save_ranking(ranking)
    root = ranking.folder.root
    meter.say(f"{'going on in' if begun else 'writing to'} {root}{'' if options.quiet else '/'}")
    try:
        with locked(root / ".lock", f"{root}: another process is at work on this ranking"):
            ranked = rank(session, ranking, run, meter.tell, meter.tick)
    except KeyboardInterrupt:
        meter.close()
        click.echo(f"interrupted; to go on: clipig rank --resume -o {root}", err=True)
        sys.exit(130)
    meter.close()
    write_report(ranking, ranked, f"clipig rank --resume -o {root}")
    click.echo(table(ranking, ranked))
    click.echo(str(root / "index.html"))
    return None


def build(session: Session, options: RankOptions) -> Ranking:
    """Make a new ranking from the options. Raises `ConfigError` or `UsageError`."""
    import secrets

    from clipig.config.prompts import first_prompt
    from clipig.jobs.batches import group_size
    from clipig.jobs.folder import Folder
    from clipig.jobs.halving import final_epochs
    from clipig.jobs.stages import Ranking, RankSettings

    numbers = parse_numbers(options.only, options.runs) if options.only else ()
    seed = options.seed
    epochs = options.short_epochs
    if options.halving:
        epochs = final_epochs(len(numbers) or options.runs, options.top, epochs)
    short = recipe(session, options, options.config or DEFAULT, epochs)
    final = recipe(
        session, options, options.final_config or options.config or DEFAULT, options.final_epochs
    )
    if seed is None:
        seed = short.seed if short.seed is not None else secrets.randbelow(2**32)
    settings = RankSettings(
        options.name, first_prompt(short), seed, options.runs, options.top, options.bottom,
        options.short_epochs, options.final_epochs, options.restart, options.views, options.judge,
        options.by, options.halving, numbers, options.group or group_size(short.device),
        weights(session, short, final),
    )
    clean = {"seed": None, "runs": 1}
    return Ranking(
        settings, short.model_copy(update=clean), final.model_copy(update=clean),
        Folder(options.folder),
    )


def recipe(session: Session, options: RankOptions, config: str, epochs: int) -> Experiment:
    """Load one of the two recipes, with options applied and model names resolved."""
    from clipig.config.load import read
    from clipig.config.prompts import set_text
    from clipig.jobs.batches import settle

    changes: dict[str, tuple[str, object]] = {"epochs": ("--epochs", epochs)}
    for key, value in (("device", options.device), ("precision", options.precision),
                       ("model", options.model)):
        if value is not None:
            changes[key] = (f"--{key}", value)
    experiment = read(config, overrides=options.overrides, options=changes).experiment
    if options.text is not None:
        experiment = set_text(experiment, options.text)
    return settle(session, experiment)


def weights(session: Session, *experiments: Experiment) -> str:
    """Checksums of all models of the experiments."""
    infos = [info for e in experiments for info in session.infos(e)]
    return " ".join(dict.fromkeys(info.checksum for info in infos if info.checksum))


def check(session: Session, ranking: Ranking) -> None:
    """Find faults in recipes, models, prompts and the judge before any run begins."""
    from clipig.encoders import resolve
    from clipig.engine.device import pick_device
    from clipig.jobs.batches import refuse_guide
    from clipig.jobs.fresh_views import last_look

    for experiment in (ranking.short, ranking.final):
        settled = experiment.model_copy(update={"seed": 0})
        pick_device(settled.device)
        group = session.plan([settled])[0]
        session.inputs(group.plan)
    last_look(session, ranking.final.model_copy(update={"seed": 0}))
    judge = ranking.settings.judge
    if judge is not None:
        refuse_guide(session, judge, ranking.final)
        session.encoder(resolve(judge), pick_device(ranking.final.device))


def parse_numbers(text: str, runs: int) -> tuple[int, ...]:
    """Parse run numbers: `0-2,344` -> (0, 1, 2, 344). Raises `UsageError`."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise UsageError(f"--only: found {part!r}, expected numbers such as 344 or 0-9,344")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high or high >= runs:
            raise UsageError(f"--only: found {part.strip()}, expected runs from 0 to {runs - 1}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _refuse_changes(options: RankOptions, ranking: Ranking, given: frozenset[str]) -> None:
    """Check that given options equal those of the folder. Raises `UsageError`."""
    names = {"go_on": "restart"}
    for option in sorted(given):
        key = names.get(option, option)
        if key not in KEPT:
            continue
        wanted, stored = getattr(options, key), getattr(ranking.settings, key)
        if wanted != stored:
            flag = "--" + key.replace("_", "-")
            raise UsageError(
                f"{ranking.folder.root} was begun with {flag} {stored}, not {wanted}; "
                "leave the option out to go on, or choose another folder with -o"
            )


RECIPES = ("config", "text", "final_config", "overrides", "model", "precision")
"""Options that shape the recipes, which a resume takes from the folder."""


def _refuse_other_recipes(
    session: Session, options: RankOptions, ranking: Ranking, given: frozenset[str]
) -> None:
    """Check that requested recipes equal those of the folder. Raises `UsageError`."""
    from clipig.config.compare import differences

    if not given.intersection(RECIPES):
        return
    stored = ranking.settings
    kept = {key: getattr(stored, key) for key in KEPT if key not in ("restart", "seed")}
    asked = replace(options, **kept, go_on=not stored.restart, only=None, seed=stored.seed)
    wanted = build(session, asked)
    found = [
        f"{name} run: {d}"
        for name, old, new in (("short", ranking.short, wanted.short),
                               ("final", ranking.final, wanted.final))
        for d in differences(old, new)
    ]
    if found:
        raise UsageError(
            f"{ranking.folder.root} was begun with other recipes:\n  " + "\n  ".join(found[:SHOWN])
            + f"\nto go on as it was begun: clipig rank --resume -o {ranking.folder.root}"
            "\nfor a new ranking: leave --resume out, or choose another folder with -o"
        )


def print_plan(session: Session, ranking: Ranking) -> None:
    """Print the planned work and an estimate from a few steps on this machine."""
    from clipig.jobs.batches import Scoring
    from clipig.jobs.folder import RunRecord
    from clipig.jobs.halving import rungs
    from clipig.jobs.pace import duration, measure, size
    from clipig.jobs.stages import final_job, short_jobs

    settings = ranking.settings
    jobs = short_jobs(ranking)
    sample = [job.experiment for job in jobs[: settings.group]]
    short = measure(session, sample, ranking.scoring)
    finals = min(settings.top + settings.bottom, len(jobs))
    none = RunRecord("0", 0, None, None, None, None, 0, "", "none", "")
    final = measure(session, [final_job(ranking, none).experiment] * finals, Scoring(
        ranking.final, settings.views, settings.judge
    ))
    batches = -(-len(jobs) // settings.group)
    search = len(jobs) * short.seconds
    if settings.halving:
        ladder = rungs(len(jobs), settings.top, settings.short_epochs)
        per_step = short.optimising / ladder[-1].steps
        search = len(jobs) * settings.short_epochs * per_step
        search += sum(r.runs for r in ladder) * short.rating
        click.echo("rungs        " + ", ".join(f"{r.runs} runs to epoch {r.steps}" for r in ladder))
    click.echo(f"short runs   {len(jobs)} x {settings.short_epochs} epochs in {batches} batches of "
               f"up to {settings.group}: {duration(search)}")
    click.echo(f"final runs   {finals} x {settings.final_epochs} epochs: "
               f"{duration(finals * final.seconds)}")
    click.echo(f"together     {duration(search + finals * final.seconds)}, at most "
               f"{size(len(jobs) * short.bytes + finals * final.bytes)} on disk")
    click.echo(f"folder       {ranking.folder.root}")
