"""Renders drawings of every kind to squares of one size, and gives colourless ones a colour."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 96
DRAWN = 192  # pixels that a drawing is rendered at before it is cut out
PALE = 0.05  # mean distance of a gray picture's brightest and darkest channel


@dataclass(frozen=True)
class Raster:
    """A picture file."""

    path: Path


@dataclass(frozen=True)
class Glyph:
    """A character of a font file."""

    font: Path
    character: str


Drawing = str | Raster | Glyph  # text is an SVG


def webp(path: Path) -> Raster:
    """A drawing that is published as a picture."""
    return Raster(path)


def glyph(package: Path, code: str) -> Glyph | None:
    """The character with the code point `code`, hexadecimal, of a package of fonts by ranges."""
    if "-" in code:
        return None
    for start, stop, font in _ranges(package):
        if start <= int(code, 16) <= stop:
            return Glyph(font, chr(int(code, 16)))
    return None


def render(drawing: Drawing) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """`[4, SIDE, SIDE]` uint8, cut to its content, colours multiplied by alpha."""
    if isinstance(drawing, Raster):
        image = Image.open(drawing.path).convert("RGBA")
    elif isinstance(drawing, Glyph):
        image = _draw_glyph(drawing)
    else:
        png = resvg_py.svg_to_bytes(svg_string=drawing, width=DRAWN, dpi=96, skip_system_fonts=True)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return _cut(image)


def color_in(
    pixels: Tensor, concept: Tensor, colored: Tensor, colorless: Tensor, mixed: Tensor
) -> None:
    """Give colourless drawings the mean colour of their concept, in place.

    Args:
        pixels: `[N, 4, S, S]` uint8, colours multiplied by alpha.
        concept: `[N]`, which concept a drawing shows.
        colored: `[N]` bool, the drawings that colours are taken from.
        colorless: `[N]` bool, drawings in one colour throughout.
        mixed: `[N]` bool, drawings of which the gray ones are coloured in.
    """
    sums = pixels.float().sum((2, 3)) / 255
    means = torch.zeros(int(concept.max()) + 1, 4).index_add_(0, concept, sums * colored[:, None])
    colors = means[:, :3] / means[:, 3:].clamp(min=1)
    spread = (pixels[:, :3].amax(1).float() - pixels[:, :3].amin(1).float()).sum((1, 2)) / 255
    gray = spread / sums[:, 3].clamp(min=1) < PALE
    known = means[concept, 3] > 0
    for index in ((colorless | (mixed & gray)) & known).nonzero().flatten().tolist():
        color = colors[concept[index]]
        alpha = pixels[index, 3].float()
        light = pixels[index, :3].float().mean(0)
        if float(light.sum() / alpha.sum()) < 0.25:
            filled = color.view(3, 1, 1) * alpha  # a silhouette
        else:
            filled = (color / color.max().clamp(min=0.2)).view(3, 1, 1) * light  # lines on white
        pixels[index, :3] = filled.round().to(torch.uint8)


def _cut(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
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


def _draw_glyph(drawing: Glyph) -> Image.Image:
    image = Image.new("RGBA", (2 * DRAWN, 2 * DRAWN), (0, 0, 0, 0))
    font = ImageFont.truetype(drawing.font, DRAWN)
    ImageDraw.Draw(image).text((DRAWN // 4, DRAWN // 4), drawing.character, "black", font)
    return image


@cache
def _ranges(package: Path) -> tuple[tuple[int, int, Path], ...]:
    """(first, last, font file) of the package's subsets, the boldest cut."""
    found = []
    table = json.loads((package / "unicode.json").read_text("utf-8"))
    for name, ranges in table.items():
        font = package / "files" / f"noto-emoji-{name.strip('[]')}-700-normal.woff"
        for part in ranges.split(","):
            start, _, stop = part.removeprefix("U+").partition("-")
            found.append((int(start, 16), int(stop or start, 16), font))
    return tuple(found)
