"""`clipig schema`: prints the JSON Schema of a config."""

from __future__ import annotations

import json

import click


@click.command(short_help="Print the JSON Schema of a config, for completion in editors.")
def command() -> None:
    """Print the JSON Schema of a config.

    Editors with a YAML language server use it for completion and checks; point
    to it in the first line of a config:

    \b
    # yaml-language-server: $schema=schema.json
    """
    from clipig.config.jsonschema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
