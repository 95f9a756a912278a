"""`clipig reproduce`: a picture again, from what is stored in it."""

from __future__ import annotations

import click

from clipig.cli.options import engine_options, talk_options
from clipig.cli.stopping import tell
from clipig.errors import ImageError


@click.command(short_help="Make a picture again from what is stored in it.")
@click.argument("picture", metavar="PIC.png")
@click.option("-o", "--output", metavar="DIR/|FILE.png",
              help="Where to write; default renders/NAME/.")
@engine_options
@talk_options
def command(picture: str, output: str | None, model: str | None, device: str | None,
            precision: str | None, quiet: bool, verbose: bool) -> None:
    """Run the config in PIC.png again and say whether the result is the same."""
    from pathlib import Path

    from clipig.config.dump import dump
    from clipig.config.load import load_text
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
    experiment = load_text(texts[f"{PREFIX}config"], picture)
    wanted = texts.get(f"{PREFIX}model", "")
    session = Session(model or (wanted if "," not in wanted else None), device, precision)
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
    atomic_write(place.config, text)
    files = Files(place, experiments, text, 0)
    sinks: list[Sink] = [files] if quiet else [files, ProgressBar(1)]
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
