"""What the documentation site has beyond the pages in docs/: generated pages, links, pictures.

- The cookbook: a page per example, made of its comment, its picture and its YAML.
- The command line, from the commands themselves; the index of the reference.
- CONTRIBUTING, RELEASING and CHANGELOG as pages.
- Pages in docs/ link to other files of the repository as one sees them there; here these links
  lead to the page of the file on the site, to its picture, or to the repository.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import clipig
from clipig.cli import group

ROOT = Path(__file__).resolve().parent.parent
LOG = logging.getLogger("mkdocs.hooks.site")  # a warning fails `mkdocs build --strict`
PAGES = {
    "README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
    "RELEASING.md": "releasing.md", "SECURITY.md": "security.md", "renders/README.md": "gallery.md",
    "examples/README.md": "cookbook/index.md", "examples": "cookbook/index.md",
    "docs/reference": "reference/index.md",
}
"""Files of the repository and the pages of the site that stand for them."""
COPIED = ("CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md", "renders/README.md")
PICTURES = ("renders/gallery/*.png", "renders/embedded/*.jpg", "examples/inputs/*.png")
FENCE = re.compile(r"(^( *)```.*?^\2```[^\n]*$)", re.S | re.M)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(?=\))|(<(?:img|a)\b[^>]*?\b(?:src|href)=\")([^\"]+)")
ROW = re.compile(
    r"^\| <img src=\"(?P<picture>[^\"]+)\"[^|]*\| \[(?P<file>[^\]]+\.yaml)\]\([^)]*\) "
    r"\| (?P<idea>.*?) \| (?P<seen>.*?) \| (?P<keys>.*?) \|$", re.M,
)
_origins: dict[str, str] = {}
"""Generated pages and the files of the repository as seen from which their links are written."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the cookbook; check that the Python reference is complete."""
    for section in config.nav or []:
        if "Cookbook" in section:
            section["Cookbook"] = ["cookbook/index.md", *(cookbook_uri(p) for p in examples())]
    shown = re.findall(r"^::: clipig\.(\w+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.M)
    if sorted(shown) != sorted(clipig.__all__):
        LOG.warning("docs/api.md and clipig.__all__ differ in %s",
                    ", ".join(sorted(set(shown) ^ set(clipig.__all__))) or "repeated names")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the pictures that they show."""
    def add(uri: str, text: str, origin: str) -> None:
        _origins[uri] = origin
        files.append(File.generated(config, uri, content=text))

    for name in COPIED:
        add(PAGES[name], (ROOT / name).read_text("utf-8"), name)
    add("commands.md", commands_page(), "docs/commands.md")
    add("reference/index.md", reference_page(), "docs/reference/index.md")
    rows = example_rows()
    add("cookbook/index.md", cookbook_page(rows), "examples/README.md")
    for path in examples():
        add(cookbook_uri(path), example_page(path, rows.get(path.name)), f"examples/{path.name}")
    for pattern in PICTURES:
        for path in sorted(ROOT.glob(pattern)):
            uri = f"pictures/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that are right in the repository into links that are right on the site."""
    uri = page.file.src_uri
    origin = _origins.get(uri, f"docs/{uri}")
    if uri in _origins:
        shown = origin if (ROOT / origin).is_file() else "docs/site_hooks.py"
        page.edit_url = f"{config.repo_url}/edit/main/{shown}"
    if uri == "reference/postproc.md" or uri.startswith("cookbook/"):
        page.meta.setdefault("search", {"boost": 0.5})  # the page of the key itself comes first
    if uri.startswith("cookbook/"):
        page.meta.setdefault("hide", ["toc"])
    return outside_code(markdown, lambda link: moved(link, origin, uri, str(config.repo_url)))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Change the links of a page, but nothing that looks like one in its code blocks."""
    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return match[1] + change(match[2])
        return match[3] + re.sub(r"\.md(?=#|$)", ".html", change(match[4]))  # MkDocs leaves HTML

    parts = FENCE.split(markdown)  # text, block, its indent, text ...
    kept = [LINK.sub(replaced, part) if i % 3 == 0 else part for i, part in enumerate(parts)]
    return "".join(part for i, part in enumerate(kept) if i % 3 != 2)


def moved(link: str, origin: str, uri: str, repository: str) -> str:
    """A link of file `origin` of the repository as page `uri` of the site has to write it."""
    target, mark, anchor = link.partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if not (ROOT / path).exists():
        if path.startswith("docs/") and f"{path[5:]}" in _origins:
            return link  # from one page of the site to a generated one
        LOG.warning("%s: the link to %s leads nowhere", origin, target)
        return link
    if path in PAGES:
        found = PAGES[path]
    elif path.startswith("examples/") and path.endswith((".yaml", ".py")):
        found = cookbook_uri(ROOT / path)
    elif path.startswith("docs/"):
        found = path.removeprefix("docs/")
    elif path.endswith((".png", ".jpg")):
        found = f"pictures/{path}"
    else:
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{repository}/{kind}/main/{quote(path)}{mark}{anchor}"
    return posixpath.relpath(found, posixpath.dirname(uri) or ".") + mark + anchor


# The cookbook


def examples() -> list[Path]:
    """The examples in the order of examples/README.md, configs before scripts."""
    order = list(example_rows())
    configs = sorted(
        (ROOT / "examples").glob("*.yaml"),
        key=lambda p: (order.index(p.name) if p.name in order else len(order), p.name),
    )
    scripts = [p for p in (ROOT / "examples").glob("*.py") if p.stem != "make_inputs"]
    return [*configs, *sorted(scripts), ROOT / "examples/make_inputs.py"]


def example_rows() -> dict[str, dict[str, str]]:
    """What examples/README.md tells about each config, by its file name."""
    text = (ROOT / "examples/README.md").read_text("utf-8")
    return {match["file"]: match.groupdict() for match in ROW.finditer(text)}


def cookbook_uri(path: Path) -> str:
    """The page of an example."""
    return f"cookbook/{path.stem.replace('_', '-')}.md"


def title(path: Path) -> str:
    """`pixel_art.yaml` -> `Pixel art`."""
    return path.stem.replace("_", " ").capitalize()


def picture(path: Path) -> Path | None:
    """The picture of the gallery that an example makes."""
    found = ROOT / "renders/gallery" / f"{path.stem}.png"
    return found if found.exists() else None


def cookbook_page(rows: dict[str, dict[str, str]]) -> str:
    """All examples as cards, each with its picture and its idea."""
    cards = []
    for path in examples():
        row = rows.get(path.name, {})
        idea = plain(row.get("idea", "")) or _summary(path)
        shown = picture(path)
        wide = ' class="wide"' if path.stem == "morph_row" else ""
        image = f'<img src="../renders/gallery/{shown.name}" alt="">' if shown else ""
        cards.append(f'<a href="{path.name}"{wide}>{image}<b>{title(path)}</b>'
                     f"<span>{idea}</span></a>")
    intro = (
        "Each example shows one idea and is one file in `examples/`. Run one from the root of "
        "the repository with `clipig run examples/NAME.yaml`: each takes less than a minute on "
        "one core with the small model that comes with clipig. The pictures are those of the "
        "files as they are, with the seed in the file; none was chosen among several."
    )
    return f'# Cookbook\n\n{intro}\n\n<div class="cards">\n' + "\n".join(cards) + "\n</div>\n"


def example_page(path: Path, row: dict[str, str] | None) -> str:
    """One example: its picture, what it is about, what one sees, its whole text."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return _script_page(path, text)
    comment, body = split_comment(text)
    blocks = [f"# {title(path)}"]
    if shown := picture(path):
        wide = " wide" if path.stem == "morph_row" else ""
        alt = plain(row["seen"]) if row else title(path)
        blocks.append(f'<div class="recipe{wide}"><img src="../renders/gallery/{shown.name}" '
                      f'alt="{alt}"></div>')
    blocks.append(comment)
    if row:
        blocks += [f"**What one sees**: {row['seen']}.", f"**Keys**: {linked(row['keys'])}."]
    blocks.append(f'```yaml title="examples/{path.name}"\n{body}```')
    return "\n\n".join(blocks) + "\n"


def _script_page(path: Path, text: str) -> str:
    docstring, _, body = text.removeprefix('"""').partition('"""')
    words = _fenced(docstring)
    words = re.sub(r"((?:^\w+\.png .*\n(?: +.*\n)*)+)", r"```text\n\1```\n", words, flags=re.M)
    code = f'```python title="examples/{path.name}"\n{body.lstrip()}```'
    return f"# {title(path)}\n\n{words.strip()}\n\n{code}\n"


def _summary(path: Path) -> str:
    """The first sentence of a script's docstring, or the first line of a config's comment."""
    text = path.read_text("utf-8")
    script = path.suffix == ".py"
    first = text.removeprefix('"""').split(".\n")[0] if script else text[2:].split("\n")[0]
    return plain(" ".join(first.split()))


def split_comment(text: str) -> tuple[str, str]:
    """The comment at the head of a config as Markdown, and the rest."""
    lines = text.splitlines(keepends=True)
    count = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    words = "".join(re.sub(r"^# ?", "", line) for line in lines[:count])
    return _fenced(words).strip(), "".join(lines[count:])


def _fenced(words: str) -> str:
    """Indented lines, which are commands, as a block of their own."""
    def block(match: re.Match[str]) -> str:
        return "```sh\n" + "\n".join(line[4:] for line in match[1].splitlines()) + "\n```\n"

    return re.sub(r"((?:^ {4}\S.*\n?)+)", block, words, flags=re.M)


def plain(text: str) -> str:
    """Markdown of a table cell as text for an attribute or a card."""
    return text.replace("`", "").replace('"', "&quot;")


def linked(keys: str) -> str:
    """Each key in backticks as a link to its entry in the reference."""
    def link(match: re.Match[str]) -> str:
        for word in reversed(re.findall(r"\w+", match[1])):
            if word in _entries():
                return f"[`{match[1]}`](../docs/reference/{_entries()[word]})"
        return match[0]

    return re.sub(r"`([^`]+)`", link, keys)


# The reference


def _entries(order: tuple[str, ...] = ("transforms", "constraints", "canvases")) -> dict[str, str]:
    """Names of ops and the anchors under which they are described; canvases win."""
    found: dict[str, str] = {}
    for kind in order:
        found |= {name: f"{kind}.md#{name}" for name in _headings(kind)}
    return found


def _headings(kind: str) -> list[str]:
    text = (ROOT / f"docs/reference/{kind}.md").read_text("utf-8")
    return re.findall(r"^## (\w+)", text, re.M)


def reference_page() -> str:
    """What a config can name, at a glance."""
    kinds = {
        "transforms": "done to a view before the encoder sees it",
        "constraints": "penalties on what the encoder sees",
        "canvases": "how the picture is stored",
        "optimizers": "what makes a step of the gradient",
        "schedules": "learning rates with a name",
        "postproc": "edits of the picture after each step",
    }
    blocks = [
        "# Reference\n\nEverything that a config can say. `clipig list transforms` prints the "
        "same on the command line, and `clipig schema` gives an editor completion.\n",
        "[Config](config.md): all keys. [Expressions](expressions.md): formulas in place of "
        "numbers. [Command line](../commands.md). [Python](../api.md).\n",
    ]
    for kind, words in kinds.items():
        names = ", ".join(f"[{name}]({kind}.md#{name})" for name in _headings(kind))
        shown = "Post-processing" if kind == "postproc" else kind.capitalize()
        blocks.append(f"## [{shown}]({kind}.md)\n\n{words.capitalize()}: {names}.\n")
    return "\n".join(blocks)


def commands_page() -> str:
    """The help of every command, as it is printed."""
    context = click.Context(group, info_name="clipig", max_content_width=88, terminal_width=88,
                            help_option_names=["-h", "--help"])
    blocks = [f"# Command line\n\n```text\n{group.get_help(context)}\n```\n"]
    for name in group.list_commands(context):
        command: Any = group.get_command(context, name)
        inner = click.Context(command, info_name=name, parent=context, terminal_width=88,
                              max_content_width=88)
        blocks.append(f"## {name}\n\n{command.get_short_help_str(200)}\n\n"
                      f"```text\n{command.get_help(inner)}\n```\n")
    return "\n".join(blocks)
