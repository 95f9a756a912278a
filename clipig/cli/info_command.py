"""`clipig info`: prints the metadata of pictures."""

from __future__ import annotations

import json

import click

from clipig.errors import ImageError


@click.command(short_help="Show what is stored in a picture made by clipig.")
@click.argument("pictures", nargs=-1, required=True, metavar="PIC.png...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.option("--config", "config_only", is_flag=True,
              help="Print only the config, ready to be run again.")
def command(pictures: tuple[str, ...], as_json: bool, config_only: bool) -> None:
    """Show seed, model, similarity and config of pictures made by clipig."""
    from clipig.cli.streams import printable
    from clipig.images import read_metadata
    from clipig.outputs.metadata import PREFIX

    for path in pictures:
        texts = read_metadata(path)
        if f"{PREFIX}config" not in texts:
            raise ImageError(f"{path}: holds no clipig metadata")
        if config_only:
            click.echo(printable(texts[f"{PREFIX}config"]), nl=False)
        elif as_json:
            click.echo(json.dumps({"file": path, **texts}))
        else:
            click.echo(printable(path))
            for key, value in texts.items():
                if key != f"{PREFIX}config":
                    click.echo(f"  {printable(key.removeprefix(PREFIX)):<16} {printable(value)}")
            click.echo(printable(texts[f"{PREFIX}config"]))
