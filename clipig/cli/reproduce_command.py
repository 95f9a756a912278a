"""`clipig reproduce`: makes a picture again from its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipig.cli.options import engine_options, talk_options
from clipig.cli.stopping import tell
from clipig.cli.streams import printable
from clipig.errors import ImageError, InputError, UsageError

if TYPE_CHECKING:
    from clipig.config.schema import Experiment


@click.command(short_help="Make a picture again from what is stored in it.")
@click.argument("picture", metavar="PIC.png")
@click.option("-o", "--output", metavar="DIR/|FILE.png",
              help="Where to write; default renders/NAME/.")
@click.option("--allow", is_flag=True,
              help="Open the models, images and addresses that the picture's metadata name.")
@engine_options
@talk_options
def command(picture: str, output: str | None, allow: bool, model: str | None,
            device: str | None, precision: str | None, quiet: bool, verbose: bool) -> None:
    """Run the config in PIC.png again and say whether the result is the same.

    The config may be a stranger's: models that are no published names, images and
    addresses are opened only with --allow.
    """
    from pathlib import Path

    from clipig.config.dump import dump
    from clipig.config.foreign import load_foreign
    from clipig.files import atomic_write
    from clipig.images import load_image, read_metadata
    from clipig.outputs import Sink
    from clipig.outputs.metadata import PREFIX
    from clipig.outputs.pictures import Files
    from clipig.outputs.places import choose, claim
    from clipig.outputs.progress import ProgressBar
    from clipig.session import Session

    texts = read_metadata(picture)
    if f"{PREFIX}config" not in texts:
        raise ImageError(f"{picture}: holds no clipig metadata")
    experiment = load_foreign(texts[f"{PREFIX}config"], picture)
    wanted = texts.get(f"{PREFIX}model", "")
    _check_names(picture, experiment, wanted, model, allow)
    _check_images(picture, experiment, texts.get(f"{PREFIX}images", ""), quiet)
    one = wanted if wanted and "," not in wanted else None
    session = Session(model or one, device, precision)
    experiments = session.settle(experiment)
    groups = session.plan(experiments)
    checksum = ", ".join(e.checksum for e in groups[0].encoders)
    stored = texts.get(f"{PREFIX}model checksum", "")
    if stored and checksum and stored != checksum and not quiet:
        click.echo("note: the model's weights are others than those of the picture", err=True)
    if f"{PREFIX}stages" in texts:
        click.echo(
            f"note: the picture was continued with other epochs ({texts[PREFIX + 'stages']}), "
            "so its config alone makes another one", err=True,
        )
    place = claim(choose(output, f"{Path(picture).stem}-again"))
    text = dump(experiments[0], header=f"from {Path(picture).name}")
    files = Files(place, experiments, text, 0)
    sinks: list[Sink] = [files] if quiet else [files, ProgressBar(1)]
    with place.working():
        atomic_write(place.config, text)
        interrupted = tell(session.render(experiments), sinks)
    if 0 in files.pictures:
        click.echo(str(files.pictures[0]))
    if interrupted:
        kept = f"; to go on: clipig run {place.config} --resume -o {place.picture(0, 1)}"
        click.echo(f"interrupted{kept if place.checkpoint.exists() else ''}", err=True)
        raise click.exceptions.Exit(130)
    if not quiet:
        old, new = load_image(picture), load_image(files.pictures[0])
        if old.shape != new.shape:
            click.echo("another size than the original", err=True)
        else:
            steps = round(float((old - new).abs().max()) * 255)
            same = "identical" if steps == 0 else f"differs by at most {steps} of 255 steps"
            click.echo(f"{same} (original: {texts.get(PREFIX + 'epochs', '?')} epochs)", err=True)


def _check_names(
    picture: str, experiment: Experiment, guide: str, model: str | None, allow: bool
) -> None:
    """Refuse to open models, files and addresses from metadata, which may be a stranger's.

    Raises:
        UsageError: The metadata name an unpublished model, a file or an address, and `allow`
            is not set.
    """
    from clipig.config.foreign import foreign
    from clipig.encoders.names import AUTO, EMBEDDED, OPENAI

    if allow:
        return
    known = {"", AUTO, *EMBEDDED, *OPENAI}
    own = {m.name for m in experiment.model} if model else set()
    named = foreign(experiment, known | own)
    named += [] if model else [name for name in guide.split(", ") if name not in known]
    strange = list(dict.fromkeys(named))
    if strange:
        shown = ", ".join(repr(name[:80]) for name in strange[:4])
        more = f" and {len(strange) - 4} more" if len(strange) > 4 else ""
        raise UsageError(
            f"{picture}: its metadata name {shown}{more}, which would be opened; "
            "if you trust them: --allow"
        )


def _check_images(picture: str, experiment: Experiment, stored: str, quiet: bool) -> None:
    """Compare the images that a config reads with their stored checksums. Raises `InputError`."""
    from clipig.outputs.metadata import image_names, input_image, read_input_images
    from clipig.web import is_url

    were = {image.name: image for image in read_input_images(stored)}
    for name in image_names(experiment):
        now, then = input_image(name), were.get(name)
        if not now.sha256 and not is_url(name):
            where = f"; it was {then.path}, sha256 {then.sha256[:12]}" if then else ""
            raise InputError(
                printable(f"{picture}: needs the image {name}, which does not exist{where}")
            )
        if then and now.sha256 and then.sha256 not in ("", now.sha256) and not quiet:
            click.echo(printable(f"note: the image {name} is another than it was"), err=True)
