"""`clipig list`: prints the reference, from the same source as the docs."""

from __future__ import annotations

import json

import click

KINDS = ("transforms", "constraints", "postproc", "optimizers", "schedules", "canvases", "models",
         "configs")


@click.command(short_help="Show the reference: transforms, constraints, models ...")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print names and summaries as JSON.")
def command(kind: str, name: str | None, as_json: bool) -> None:
    """List what can stand in a config, or explain one NAME."""
    rows = _rows(kind)
    if name is not None:
        click.echo(_explain(kind, name, rows))
    elif as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        width = max(map(len, rows), default=0)
        for key, summary in rows.items():
            click.echo(f"{key:<{width}}  {summary}")


def _rows(kind: str) -> dict[str, str]:
    """Names and one-line summaries."""
    if kind == "models":
        from clipig.encoders import model_names
        from clipig.encoders.discovery import discover
        from clipig.encoders.names import summary

        found = {model.name: f"here: {model.summary()}" for model in discover()}
        return {n: summary(n) for n in model_names() if n not in found} | found
    if kind == "configs":
        from clipig.config.sources import shipped

        return shipped()
    from clipig.config.reference import tables

    return {key: cls.summary() for key, cls in tables()[kind].items()}


def _explain(kind: str, name: str, rows: dict[str, str]) -> str:
    from clipig.errors import UsageError
    from clipig.ops.base import nearest

    if kind == "models":
        from clipig.encoders import resolve

        info = resolve(name, allow_download=False)
        about = [
            f"{info.name}: {rows.get(name, info.reason)}",
            f"input {info.size} px, embedding {info.width}"
            f"{f', {info.context} tokens' if info.context else ''}"
            f"{f', {info.activation}' if info.activation else ''}",
            info.reason, info.checksum, f"revision {info.revision}" if info.revision else "",
        ]
        return "\n".join(dict.fromkeys(line for line in about if line))
    if name not in rows:
        known = ", ".join(rows)
        raise UsageError(f"no {kind} entry {name!r}{nearest(name, rows)} (known: {known})")
    if kind == "configs":
        from clipig.config.sources import read_shipped

        return read_shipped(name)
    from clipig.config.reference import entry, tables

    return entry(tables()[kind][name])
