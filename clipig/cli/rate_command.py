"""`clipig rate`: prints similarities of pictures with texts and other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from clipig.cli.options import offline_option
from clipig.errors import UsageError
from clipig.files import user_path

if TYPE_CHECKING:
    from clipig.cli.meter import Meter
    from clipig.encoders.protocol import Encoder
    from clipig.jobs.rating import ImageRating


@click.command(short_help="Measure how well pictures match texts or other pictures.")
@click.argument("images", nargs=-1, metavar="IMAGES...")
@click.option("-t", "--text", "texts", multiple=True, metavar="TEXT",
              help="A text to compare with. May be repeated.")
@click.option("-i", "--image", "references", multiple=True, metavar="REF",
              help="A reference picture (file or address) to compare with. May be repeated.")
@click.option("-tf", "--text-file", type=click.Path(dir_okay=False), multiple=True,
              help="A file with a text per line.")
@click.option("-if", "--image-file", type=click.Path(dir_okay=False), multiple=True,
              help="A file with the name of a reference picture per line.")
@click.option("-m", "--model", "models", multiple=True, metavar="NAME",
              help="Encoder, auto if absent. May be repeated to compare by several.")
@offline_option
@click.option("-d", "--device", default="auto", show_default=True, metavar="NAME",
              help="auto, cpu, cuda, cuda:N or mps.")
@click.option("-s", "--sort", type=int, metavar="N",
              help="Sort by column N, counted from 1; negative: descending.")
@click.option("--best", type=click.IntRange(0), default=0, metavar="N",
              help="Print only the N best of the sorted column (the first if none).")
@click.option("--worst", type=click.IntRange(0), default=0, metavar="N",
              help="Print only the N worst of that column.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a CSV file; - for stdout.")
@click.option("--json", "json_file", metavar="FILE", help="Write a JSON file; - for stdout.")
@click.option("--html", metavar="DIR", help="Write a page with thumbnails to a new folder.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write features on disk.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and the table.")
def command(
    images: tuple[str, ...], texts: tuple[str, ...], references: tuple[str, ...],
    text_file: tuple[str, ...], image_file: tuple[str, ...], models: tuple[str, ...],
    device: str, sort: int | None, best: int, worst: int, csv_file: str | None,
    json_file: str | None, html: str | None, no_cache: bool, quiet: bool,
) -> None:
    """Print 100 * cosine similarity of IMAGES with texts and reference pictures.

    IMAGES are files, folders, globs or http(s) addresses. What is no picture is
    reported and left out.

    \b
    clipig rate renders/ -t "a penguin made of piano" --sort -1
    clipig rate *.png -t "a snail" -i snail.jpg -m embedded -m ViT-B/32 --csv -
    """
    from clipig.cli.meter import Meter
    from clipig.files import read_lines
    from clipig.jobs.picture_features import FeatureCache, expand
    from clipig.jobs.rating import extremes, rate, sorted_by

    wanted = [*texts, *(line for f in text_file for line in read_lines(f))]
    others = [*references, *(line for f in image_file for line in read_lines(f))]
    if not wanted and not others:
        raise UsageError("nothing to compare with: give --text or --image")
    if csv_file == json_file == "-":
        raise UsageError("--csv - and --json -: only one of them can go to stdout")
    names, problems = expand(images)
    meter = Meter(quiet, "picture")
    encoders = open_encoders(models, device, meter)
    cache = FeatureCache(None) if no_cache else FeatureCache()
    meter.tell("rating", len(names) * len(encoders))
    rating = rate(encoders, names, wanted, others, cache, meter.tick)
    meter.close()
    report_problems((*problems, *rating.problems))
    if not rating.names:
        raise UsageError("no pictures to rate")
    if sort is not None:
        rating = sorted_by(rating, sort)
    _print(rating, sort or 1, best, worst, csv_file, json_file, meter)
    if html:
        _write_page(html, extremes(rating, best, worst, sort or 1))


def _print(
    rating: ImageRating, column: int, best: int, worst: int, csv_file: str | None,
    json_file: str | None, meter: Meter,
) -> None:
    from clipig.jobs.rating import as_csv, as_extremes, as_json, as_summary, as_table

    if "-" not in (csv_file, json_file):
        if best or worst:
            click.echo(as_extremes(rating, best, worst, column))
        else:
            click.echo(as_table(rating))
        meter.say(as_summary(rating))
    for name, text in ((csv_file, as_csv(rating)), (json_file, as_json(rating))):
        write_data(name, text)


def _write_page(html: str, rating: ImageRating) -> None:
    from clipig.files import claim_folder, shell
    from clipig.jobs.rating import write_rating_page

    folder = claim_folder(user_path(html))
    texts = dict.fromkeys(c.label for c in rating.columns if c.kind == "text")
    models = dict.fromkeys(c.model for c in rating.columns)
    words = [w for t in texts for w in ("-t", t)] + [w for m in models for w in ("-m", m)]
    command_line = shell("clipig", "rate", "IMAGES", *words)
    click.echo(str(write_rating_page(folder, rating, "Rating", command_line)))


def open_encoders(models: Sequence[str], device: str, meter: Meter) -> list[Encoder]:
    """Load encoders by name. Raises `EncoderError` or `DeviceError`."""
    from clipig.cli.options import Download
    from clipig.encoders import resolve
    from clipig.engine.device import pick_device
    from clipig.session import Session

    session = Session(progress=None if meter.quiet else Download())
    place = pick_device(device)
    found = [session.encoder(resolve(m), place) for m in dict.fromkeys(models or ("auto",))]
    for encoder in found:
        reason = f" ({encoder.info.reason})" if encoder.info.reason else ""
        meter.say(f"encoder: {encoder.info.name}{reason}")
    return found


def report_problems(problems: Sequence[tuple[str, str]]) -> None:
    """Print pairs (image, reason) of unrated images on stderr."""
    for name, text in problems:
        click.echo(f"left out: {name}: {text}", err=True)


def write_data(name: str | None, text: str) -> None:
    """Write text to a file, or to stdout for `-`. Raises `OutputError`."""
    from clipig.files import atomic_write

    if name == "-":
        click.echo(text, nl=False)
    elif name:
        atomic_write(user_path(name), text)
