"""Builds a page from its template, styles and scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from clipig.files import atomic_write, make_folder

MARK = re.compile(r"<!--\{(\w+)\}-->")


def read_part(name: str) -> str:
    """Text of a template shipped with this package."""
    return (files("clipig.outputs.pages") / name).read_text(encoding="utf-8")


def script_json(value: object) -> str:
    """JSON that is safe in a script, inline or in a file.

    It is plain ASCII, so that no line separator can end a line of the script; `<`, `>` and
    `&` are escaped, so that no text can end the script element.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def link(path: str) -> str:
    """A relative file name as a URL, escaped for an HTML attribute."""
    try:
        data = path.encode("utf-8", "surrogateescape")  # as it lies on disk
    except UnicodeEncodeError:
        data = path.encode("utf-8", "replace")
    return escape(quote(data, safe="/"))


def fingerprint(text: str) -> str:
    """Hash source of one inline element, for a content security policy."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def build_page(
    template: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    slots: Mapping[str, str],
) -> str:
    """Build an HTML page.

    The page's content security policy allows only its own style and scripts and files beside
    it. Unescaped text could therefore not run, and no request can leave the machine.

    Args:
        template: Name of the HTML template.
        styles: Names of the CSS files to inline.
        scripts: Names of the JavaScript files to inline.
        slots: HTML by slot name of the template.
    """
    style = "\n" + "\n".join(read_part(name) for name in styles)
    script = "\n" + "\n".join(read_part(name) for name in scripts)
    policy = (
        f"default-src 'none'; style-src {fingerprint(style)}; "
        f"script-src 'self' file: {fingerprint(script)}; "
        "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
    )
    filled = {
        **slots,
        "policy": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "style": f"<style>{style}</style>",
        "script": f"<script>{script}</script>",
    }
    # A single pass, so that marks inside the data are not filled.
    return MARK.sub(lambda match: filled[match.group(1)], read_part(template))


def write_page(folder: Path, name: str, text: str) -> Path:
    """Write a file atomically, creating the folder, and return its path."""
    return atomic_write(make_folder(folder) / name, text)


def show(score: float | None) -> str:
    """Format a score with two decimals, as the article does."""
    return "–" if score is None else f"{score:.2f}"


def render_facts(facts: Sequence[tuple[str, str]]) -> str:
    """Pairs of names and values as an HTML list."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def render_code(what: str, text: str) -> str:
    """A command or config with a button to copy it."""
    return (
        f'<div class="code"><pre tabindex="0" aria-label="{escape(what)}">{escape(text)}</pre>'
        f'<button type="button" data-copy="{escape(text)}" data-what="{escape(what)}" '
        f'aria-label="Copy {escape(what.lower())}">Copy</button></div>'
    )
