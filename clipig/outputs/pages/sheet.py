"""Writes a contact sheet page: images with their scores, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from clipig.outputs.pages.model import PageGroup, PageImage, Sheet
from clipig.outputs.pages.parts import build_page, link, render_code, render_facts, show, write_page


def write_sheet(folder: Path, data: Sheet, name: str = "index.html") -> Path:
    """Write the sheet as `folder/name` and return its path."""
    groups = "\n".join(render_group(group, data.columns) for group in data.groups)
    command = render_code("Command", data.command) if data.command else ""
    slots = {
        "title": escape(data.title),
        "kind": "sheet",
        "head": render_facts(data.facts) + render_order(data),
        "body": f"{groups}\n{render_problems(data.problems)}\n{command}",
        "foot": f"Made by {escape(data.created_by)}",
    }
    page = build_page("report.html", ("base.css", "report.css"), ("base.js", "report.js"), slots)
    return write_page(folder, name, page)


def render_order(data: Sheet) -> str:
    if not data.columns:
        return ""
    options = "".join(
        f'<option value="score{place}">{escape(column)}</option>'
        for place, column in enumerate(data.columns)
    )
    return (
        '<label class="dim">Order <select id="order"><option value="given">as given</option>'
        f'<option value="name">name</option>{options}</select></label>'
    )


def render_group(group: PageGroup, columns: Sequence[str]) -> str:
    count = len(group.pictures)
    pictures = "\n".join(
        render_picture(picture, place, columns) for place, picture in enumerate(group.pictures)
    )
    note = f'<p class="dim">{escape(group.note)}</p>' if group.note else ""
    return (
        f'<section><h2>{escape(group.name)} <span class="dim">{count}</span></h2>{note}'
        f'<div class="prints" data-sortable>{pictures}</div></section>'
    )


def render_picture(picture: PageImage, place: int, columns: Sequence[str]) -> str:
    keys = [f'data-given="{place}"', f'data-name="{escape(picture.name)}"']
    lines = []
    for number, (column, score) in enumerate(zip(columns, picture.scores, strict=True)):
        value = "" if score is None else repr(score)
        keys.append(f'data-score{number}="{value}"')
        head = f'<dt title="{escape(column)}">{escape(column)}</dt>'
        lines.append(f"<div>{head}<dd>{show(score)}</dd></div>")
    scores = f"<dl>{''.join(lines)}</dl>" if lines else ""
    note = f'<span class="dim">{escape(picture.note)}</span>' if picture.note else ""
    return (
        f'<figure {" ".join(keys)}><a href="{link(picture.picture)}"><img loading="lazy" '
        f'decoding="async" src="{link(picture.thumb or picture.picture)}" '
        f'alt="{escape(picture.name)}"></a><figcaption><span class="name" '
        f'title="{escape(picture.name)}">{escape(picture.name)}</span>{note}{scores}'
        "</figcaption></figure>"
    )


def render_problems(problems: Sequence[tuple[str, str]]) -> str:
    if not problems:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(message)}</td></tr>'
        for name, message in problems
    )
    return f'<section><h2>Not rated</h2><table class="plain">{rows}</table></section>'
