"""Draws the pictures that the examples start from, so that nobody else's are needed.

    python examples/make_inputs.py [FOLDER]

toadstool.png   a drawing, for image_prompt.yaml
landscape.png   hills, a lake and a sun with soft shades, as a photo has; for stylised_photo.yaml
                and style_picture.yaml
mosaic.png      small tiles in blue, gold and white: a style; for style_picture.yaml
sky.png         an evening sky over hills, for mask.yaml
window.png      where mask.yaml may draw: a soft disc
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 192
OVER = 4  # drawn this much larger, then reduced: smooth edges
HERE = Path(__file__).parent / "inputs"


def blank(color: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (SIDE * OVER, SIDE * OVER), color)
    return picture, ImageDraw.Draw(picture)


def scaled(*numbers: float) -> list[float]:
    """Coordinates in 0..1 as pixels of the large picture."""
    return [n * SIDE * OVER for n in numbers]


def reduced(picture: Image.Image) -> Image.Image:
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    """From one colour above to another below."""
    t = np.linspace(0, 1, SIDE * OVER)[:, None, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t
    return Image.fromarray(np.repeat(rows, SIDE * OVER, 1).astype(np.uint8))


def hills(level: float, height: float, waves: float, shift: float) -> list[float]:
    """A polygon: everything below a line of gentle waves."""
    xs = np.linspace(0, 1, 97)
    ys = level - height * (0.6 * np.sin(waves * xs + shift) + 0.4 * np.sin(2.3 * waves * xs))
    line = [n for x, y in zip(xs, ys, strict=True) for n in scaled(float(x), float(y))]
    return [*scaled(0, 1), *line, *scaled(1, 1)]


def toadstool() -> Image.Image:
    picture, draw = blank("#f4f1e8")
    draw.rounded_rectangle(scaled(0.40, 0.45, 0.60, 0.86), scaled(0.06)[0], "#efe3c8", "#6b4a2f", 9)
    draw.chord(scaled(0.12, 0.14, 0.88, 0.90), 180, 360, "#d8252b", "#5e1216", 12)
    for x, y, r in ((0.50, 0.25, 0.065), (0.31, 0.35, 0.055), (0.69, 0.35, 0.055),
                    (0.42, 0.43, 0.04), (0.60, 0.44, 0.04), (0.21, 0.46, 0.03)):
        draw.ellipse(scaled(x - r, y - r, x + r, y + r), "#fffaf0")
    return reduced(picture)


def landscape() -> Image.Image:
    picture = gradient((88, 150, 214), (226, 236, 240))
    draw = ImageDraw.Draw(picture)
    draw.ellipse(scaled(0.66, 0.10, 0.82, 0.26), "#fff3b0")
    draw.polygon(scaled(0.05, 0.62, 0.30, 0.24, 0.58, 0.62), "#77849b")
    draw.polygon(scaled(0.24, 0.33, 0.30, 0.24, 0.37, 0.34, 0.30, 0.38), "#f5f7fa")
    draw.polygon(scaled(0.40, 0.62, 0.62, 0.34, 0.92, 0.62), "#8995aa")
    draw.polygon(hills(0.62, 0.05, 7, 0.4), "#5d8f4a")
    draw.ellipse(scaled(0.18, 0.72, 0.86, 0.94), "#4f8fbe")
    draw.ellipse(scaled(0.26, 0.75, 0.72, 0.84), "#86b7d8")
    for x, y, r in ((0.10, 0.60, 0.07), (0.90, 0.62, 0.08), (0.78, 0.60, 0.05)):
        draw.rectangle(scaled(x - 0.012, y, x + 0.012, y + 0.11), "#5b4030")
        draw.ellipse(scaled(x - r, y - 1.4 * r, x + r, y + 0.6 * r), "#2f6b35")
    soft = picture.filter(ImageFilter.GaussianBlur(OVER * 0.8))
    grain = np.random.default_rng(7).normal(0, 4, (SIDE, SIDE, 1))  # as of a camera
    return Image.fromarray((np.asarray(reduced(soft)) + grain).clip(0, 255).astype(np.uint8))


def mosaic() -> Image.Image:
    picture, draw = blank("#2b2a33")
    random = np.random.default_rng(3)
    colors = ["#14448c", "#1f6fc2", "#2aa0c8", "#e9b93a", "#f4efe0", "#c8791f"]
    step = 1 / 16
    for row in range(16):
        for column in range(16):
            x, y = (column + 0.5) * step, (row + 0.5) * step
            wave = math.sin(9 * x + 3 * math.sin(6 * y))
            color = colors[int((wave + 1) * 2.4 + random.uniform(0, 1.2)) % len(colors)]
            half = step * random.uniform(0.36, 0.45)
            turn = random.uniform(-0.25, 0.25)
            corners = []
            for k in range(4):
                a = turn + math.pi / 4 + k * math.pi / 2
                corners += scaled(x + 1.35 * half * math.cos(a), y + 1.35 * half * math.sin(a))
            draw.polygon(corners, color)
    return reduced(picture)


def sky() -> Image.Image:
    picture = gradient((38, 48, 96), (244, 170, 120))
    draw = ImageDraw.Draw(picture)
    draw.polygon(hills(0.78, 0.05, 6, 2.0), "#3c4a52")
    draw.polygon(hills(0.88, 0.04, 9, 0.0), "#243036")
    return reduced(picture)


def window() -> Image.Image:
    picture = Image.new("L", (SIDE * OVER, SIDE * OVER), 0)
    ImageDraw.Draw(picture).ellipse(scaled(0.22, 0.08, 0.78, 0.64), 255)
    return reduced(picture.filter(ImageFilter.GaussianBlur(OVER * 3)))


PICTURES = {
    "toadstool": toadstool, "landscape": landscape, "mosaic": mosaic, "sky": sky, "window": window,
}


def main(folder: Path = HERE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*(Path(a) for a in sys.argv[1:2]))
