"""Fetches the drawing sets and renders them, and our own drawings, to one bank of pictures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.concepts import CONCEPTS_FILE, Concept, read_concepts
from training.fetching import fetch_debian, fetch_npm
from training.rendering import SIDE, Drawing, color_in, glyph, render, webp

HERE = Path(__file__).parent
DATA = HERE / "data"
DRAWINGS = HERE / "drawings"
OPENCLIPART_FILE = HERE / "openclipart.txt"
OWN = "own"
OPENCLIPART = "openclipart"
UNSEEN_HANDS = "openclipart-unseen"
# Families of drawings that training never sees, and what their measures are called.
HELD_OUT = {"twemoji": "unseen_style_", UNSEEN_HANDS: "unseen_hands_"}

# npm package and version of every drawing style; licences are listed in docs/embedded.md
ICON_SETS = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "fluent-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5"),
    "fluent-contrast": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
}
SHADED = "fluent-3d"  # pictures by code point
SHADED_SET = ("@lobehub/fluent-emoji-3d", "1.1.0")
MONO = "noto-mono"  # a font of lines
MONO_SET = ("@fontsource/noto-emoji", "5.3.2")
CLIPART_SET = ("openclipart-svg", "1:0.18+dfsg-19")
# One colour throughout; they get the colour that the concept has in the other sets.
COLORLESS = ("fluent-contrast", MONO)


@dataclass(frozen=True)
class Bank:
    """Rendered drawings.

    pixels    `[N, 4, SIDE, SIDE]` uint8, colours multiplied by alpha
    concept   `[N]` index into `concepts`
    style     N style names
    extra     N further names of what this very drawing shows ("cat face"), or ""
    """

    concepts: list[Concept]
    pixels: Tensor
    concept: Tensor
    style: list[str]
    extra: list[str]


def load_bank(data: Path = DATA, workers: int = 2) -> Bank:
    """The bank, from the cache in `data` if nothing that goes into it has changed."""
    stamp = _stamp()
    cache = data / "bank.pt"
    if cache.exists():
        saved = torch.load(cache, weights_only=True)
        if saved["stamp"] == stamp:
            return Bank(read_concepts(), **{k: saved[k] for k in _FIELDS})
    bank = render_bank(data, workers)
    torch.save({"stamp": stamp, **{k: getattr(bank, k) for k in _FIELDS}}, cache)
    return bank


def render_bank(data: Path = DATA, workers: int = 2) -> Bank:
    """Fetch what is missing and render every drawing of every concept in every style."""
    concepts = read_concepts()
    jobs = list(find_all(concepts, data))
    with ProcessPoolExecutor(workers) as pool:
        pictures = list(pool.map(render, [job[3] for job in jobs], chunksize=32))
    kept = [
        (job, picture) for job, picture in zip(jobs, pictures, strict=True) if picture is not None
    ]
    bank = Bank(
        concepts,
        torch.stack([torch.from_numpy(picture) for _, picture in kept]),
        torch.tensor([job[0] for job, _ in kept]),
        [job[1] for job, _ in kept],
        [job[2] for job, _ in kept],
    )
    full = torch.tensor([style in ICON_SETS or style == OWN for style in bank.style])
    pale = torch.tensor([style in COLORLESS for style in bank.style])
    unseen = torch.tensor([style in HELD_OUT for style in bank.style])
    clipart = torch.tensor([style == OPENCLIPART for style in bank.style])
    color_in(bank.pixels, bank.concept, full & ~pale & ~unseen, pale, clipart)
    return bank


def find_all(concepts: list[Concept], data: Path) -> Iterator[tuple[int, str, str, Drawing]]:
    """(concept, style, extra name, drawing) of everything there is."""
    sets = {style: fetch_icons(style, data) for style in ICON_SETS}
    codes = read_codes(data)
    shaded = fetch_npm(*SHADED_SET, data) / "assets"
    mono = fetch_npm(*MONO_SET, data)
    for index, concept in enumerate(concepts):
        for icon, extra in concept.icons:
            for style, svg in find_drawings(icon, sets):
                yield index, style, extra, svg
            for code in codes.get(icon, ()):
                picture = shaded / f"{code}.webp"
                if picture.exists():
                    yield index, SHADED, extra, webp(picture)
                    break
            for code in codes.get(icon, ())[:1]:
                sign = glyph(mono, code)
                if sign is not None:
                    yield index, MONO, extra, sign
    folder = fetch_debian(*CLIPART_SET, data) / "usr/share/openclipart/svg"
    numbers = {concept.name: index for index, concept in enumerate(concepts)}
    for name, style, file in read_openclipart():
        svg = (folder / f"{file}.svg").read_text("utf-8", errors="replace")
        yield numbers[name], style, "", svg


def read_openclipart(path: Path = OPENCLIPART_FILE) -> Iterator[tuple[str, str, str]]:
    """(concept, style, file) of every chosen drawing; the table explains its notation."""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, _, files = line.partition(" = ")
        seen, _, unseen = files.partition("|")
        for style, part in ((OPENCLIPART, seen), (UNSEEN_HANDS, unseen)):
            for file in part.split():
                yield name, style, file


def read_codes(data: Path) -> dict[str, list[str]]:
    """Icon name to file names by code point, with and without the variation selector."""
    codes: dict[str, list[str]] = {}
    for style in ("noto", "fluent", "twemoji"):
        folder = fetch_npm(*ICON_SETS[style], data)
        table = json.loads((folder / "chars.json").read_text("utf-8"))
        icons = json.loads((folder / "icons.json").read_text("utf-8"))
        for code, icon in table.items():
            known = codes.setdefault(icon, [])
            known += [name for name in (code, f"{code}-fe0f") if name not in known]
        for alias, entry in icons.get("aliases", {}).items():
            if entry["parent"] in codes:
                codes.setdefault(alias, codes[entry["parent"]])
    return codes


def fetch_icons(style: str, data: Path = DATA) -> dict[str, Any]:
    """The icons of one set."""
    path = fetch_npm(*ICON_SETS[style], data) / "icons.json"
    icons: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return icons


def find_drawings(icon: str, sets: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(style, SVG text) of every drawing of an icon."""
    for path in sorted(DRAWINGS.glob("*.svg")):
        if re.sub(r"-\d+$", "", path.stem) == icon:
            yield OWN, path.read_text("utf-8")
    for style, icons in sets.items():
        name = _fxemoji_name(icon) if style == "fxemoji" else icon
        for _ in range(4):
            if name in icons["icons"]:
                yield style, _svg(icons, icons["icons"][name])
                break
            name = icons.get("aliases", {}).get(name, {}).get("parent", "")


_FIELDS = ("pixels", "concept", "style", "extra")


def _svg(icons: dict[str, Any], icon: dict[str, Any]) -> str:
    left, top, width, height = (
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">'
        f"{icon['body']}</svg>"
    )


def _fxemoji_name(icon: str) -> str:
    table = dict(
        line.split()
        for line in (HERE / "fxemoji_names.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    return table.get(icon, icon.replace("-", ""))


def _stamp() -> str:
    tables = [CONCEPTS_FILE, HERE / "fxemoji_names.txt", OPENCLIPART_FILE]
    files = [*tables, HERE / "rendering.py", *sorted(DRAWINGS.glob("*.svg"))]
    sets = (ICON_SETS, SHADED_SET, MONO_SET, CLIPART_SET)
    digest = hashlib.sha256(repr((SIDE, sets)).encode())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
