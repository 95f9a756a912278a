"""Fetches the icon sets and renders them, and our own drawings, to one bank of pictures."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
import torch
from PIL import Image
from torch import Tensor

from training.concepts import CONCEPTS_FILE, Concept, read_concepts

HERE = Path(__file__).parent
DATA = HERE / "data"
DRAWINGS = HERE / "drawings"
SIDE = 96
OWN = "own"
HELD_OUT = "twemoji"

# npm package and version of every drawing style; licences are listed in docs/embedded.md
ICON_SETS = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "fluent-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
}


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
    """Fetch what is missing and render every icon of every concept in every style."""
    sets = {style: fetch_icons(style, data) for style in ICON_SETS}
    concepts = read_concepts()
    jobs = []
    for index, concept in enumerate(concepts):
        for icon, extra in concept.icons:
            for style, svg in find_drawings(icon, sets):
                jobs.append((index, style, extra, svg))
    with ProcessPoolExecutor(workers) as pool:
        pictures = list(pool.map(render_svg, [job[3] for job in jobs], chunksize=32))
    kept = [
        (job, picture) for job, picture in zip(jobs, pictures, strict=True) if picture is not None
    ]
    return Bank(
        concepts,
        torch.from_numpy(np.stack([picture for _, picture in kept])),
        torch.tensor([job[0] for job, _ in kept]),
        [job[1] for job, _ in kept],
        [job[2] for job, _ in kept],
    )


def fetch_icons(style: str, data: Path = DATA) -> dict[str, Any]:
    """The icons of one set, fetched once with `npm pack`."""
    package, version = ICON_SETS[style]
    path = data / f"{style}-{version}.json"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],
            cwd=data,
            check=True,
            capture_output=True,
            text=True,
        )
        archive = data / done.stdout.split()[-1]
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/icons.json")
            assert member is not None
            path.write_bytes(member.read())
        archive.unlink()
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


def render_svg(svg: str) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """`[4, SIDE, SIDE]` uint8, cut to its content, colours multiplied by alpha."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=192, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    box = image.getchannel("A").point(lambda value: 255 if value > 12 else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    side = max(image.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels = np.asarray(square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    if (pixels[..., 3] > 128).mean() < 0.03:
        return None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


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
    files = [CONCEPTS_FILE, HERE / "fxemoji_names.txt", *sorted(DRAWINGS.glob("*.svg"))]
    digest = hashlib.sha256(repr((SIDE, ICON_SETS)).encode())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
