"""Put a page together from its template, style and scripts."""

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
    """Text of one template that is shipped with this package."""
    return (files("clipig.outputs.pages") / name).read_text(encoding="utf-8")


def script_json(value: object) -> str:
    """JSON that is safe inside a script, inline or not.

    Plain ASCII, so that no line separator can end a line of script; `<`, `>`
    and `&` are escaped, so that no text can end the script element.
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
    """Hash source of a content security policy for one inline element."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def build_page(
    template: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    slots: Mapping[str, str],
) -> str:
    """One HTML file: template with style, scripts and slots (HTML) in place.

    The page gets a policy that allows its own style, its own scripts and files
    beside it, and nothing else: a text that escaped escaping could not run,
    and no request can leave the machine.
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
    # One pass: a mark inside the data is never filled.
    return MARK.sub(lambda match: filled[match.group(1)], read_part(template))


def write_page(folder: Path, name: str, text: str) -> Path:
    """Write a file whole or not at all, and return its path."""
    return atomic_write(make_folder(folder) / name, text)


def show(score: float | None) -> str:
    """A score as the article prints it."""
    return "–" if score is None else f"{score:.2f}"


def render_facts(facts: Sequence[tuple[str, str]]) -> str:
    """Pairs of names and values, as a list under a heading."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def render_code(what: str, text: str) -> str:
    """A command or a config with a button that copies it."""
    return (
        f'<div class="code"><pre tabindex="0" aria-label="{escape(what)}">{escape(text)}</pre>'
        f'<button type="button" data-copy="{escape(text)}" data-what="{escape(what)}" '
        f'aria-label="Copy {escape(what.lower())}">Copy</button></div>'
    )
