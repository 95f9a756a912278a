"""Writes the grid explorer: an interactive page and its data file."""

from __future__ import annotations

from dataclasses import asdict, fields
from html import escape
from pathlib import Path

from clipig.outputs.pages.model import Explorer, PageCell
from clipig.outputs.pages.parts import build_page, script_json, write_page

STYLES = ("base.css", "explorer.css", "explorer_stage.css")
SCRIPTS = (
    "base.js",
    "explorer_grid.js",
    "explorer_favourites.js",
    "explorer_state.js",
    "explorer_wall.js",
    "explorer_matrix.js",
    "explorer_stage.js",
    "explorer_zoom.js",
    "explorer.js",
)


def write_explorer(folder: Path, data: Explorer) -> Path:
    """Write `index.html` and `data.js` into `folder` and return the page's path.

    The data file is written first, so that a page never appears without its data.
    """
    write_page(folder, "data.js", render_data(data))
    slots = {"title": escape(data.title)}
    page = build_page("explorer.html", STYLES, SCRIPTS, slots)
    return write_page(folder, "index.html", page)


def _row(cell: PageCell) -> tuple[object, ...]:
    """Fields of a cell. Seeds are text, because JavaScript rounds integers beyond 2^53."""
    values = asdict(cell)
    values["seed"] = None if cell.seed is None else str(cell.seed)
    return tuple(values.values())


def render_data(data: Explorer) -> str:
    """The grid as a script, with one cell per line so that two versions can be diffed."""
    head = {
        "format": 1,
        "id": data.id,
        "title": data.title,
        "guide": data.guide,
        "judge": data.judge,
        "createdBy": data.created_by,
        "axes": [{"name": axis.name, "values": axis.values} for axis in data.axes],
        "recipes": [{"name": recipe.name, "yaml": recipe.yaml} for recipe in data.recipes],
        "fields": [field.name for field in fields(PageCell)],
    }
    rows = (script_json(_row(cell)) for cell in sorted(data.cells, key=lambda c: c.index))
    lines = ",\n".join(rows)
    return (
        '"use strict";\n(window.clipig = window.clipig || {}).data = '
        f'{script_json(head)[:-1]},"cells":[\n{lines}\n]}};\n'
    )
