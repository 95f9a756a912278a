"""Contact sheets: many small labelled images on one large image."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from clipig.errors import ImageError
from clipig.images import to_pil

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Common system fonts with many scripts, tried when the bundled font lacks a letter.
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_MAX_PIXELS = 200_000_000


def contact_sheet(
    images: Sequence[Any],
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    *,
    cell: int | None = None,
    gap: int = 8,
    font_size: int = 14,
    lines: int = 2,
) -> Image.Image:
    """Arrange images in rows, with a label below each.

    Args:
        images: Tensors `[3 or 4, H, W]` in [0, 1] or Pillow images.
        labels: One text per image; None: no labels.
        columns: Images per row; None: a nearly square sheet.
        cell: Side in pixels of the square into which each image is scaled; None: the longest
            side of all images.
        gap: Pixels between cells.
        font_size: Of the labels, in pixels.
        lines: Maximum number of lines of a label; an ellipsis replaces the rest.

    Raises:
        ImageError: No images, a wrong number of labels, or a sheet too large.
    """
    if not images:
        raise ImageError("a contact sheet of no pictures")
    if labels is not None and len(labels) != len(images):
        raise ImageError(f"{len(labels)} labels for {len(images)} pictures")
    pictures = [i if isinstance(i, Image.Image) else to_pil(i) for i in images]
    cell = cell or max(max(p.size) for p in pictures)
    columns = columns or round(len(pictures) ** 0.5 + 0.49)
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    texts = [wrap_label(t, cell, font_size, lines) for t in labels or [""] * len(pictures)]
    line_height = round(font_size * 1.3)
    below = max(len(t) for t in texts) * line_height
    size = (gap + columns * (cell + gap), gap + rows * (cell + below + gap))
    if size[0] * size[1] > _MAX_PIXELS:
        raise ImageError(f"a contact sheet of {size[0]} x {size[1]} pixels is too large")
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        left = gap + (number % columns) * (cell + gap)
        top = gap + (number // columns) * (cell + below + gap)
        small = _scaled(picture, cell)
        corner = (left + (cell - small.width) // 2, top + (cell - small.height) // 2)
        sheet.paste(small, corner, small if small.mode == "RGBA" else None)
        for index, line in enumerate(text):
            place = (left, top + cell + 2 + index * line_height)
            draw.text(place, line, fill=_INK, font=_font_for(line, font_size))
    return sheet


def _scaled(picture: Image.Image, cell: int) -> Image.Image:
    picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    factor = cell / max(picture.size)
    if factor == 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    enlarge = factor >= 2
    return picture.resize(size, Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS)


def wrap_label(text: str, width: int, font_size: int = 14, lines: int = 2) -> list[str]:
    """Lines of a label that are at most `width` pixels wide; the last may end in an ellipsis."""
    words = " ".join(text.split()).split(" ") if text.strip() else []
    words = [_drawable(word, font_size) for word in words]
    found: list[str] = []
    while words and len(found) < lines:
        last = len(found) == lines - 1
        line = words.pop(0)
        if last and _width(" ".join([line, *words]), font_size) > width:
            return [*found, _cut(" ".join([line, *words]), width, font_size)]
        while words and _width(f"{line} {words[0]}", font_size) <= width:
            line = f"{line} {words.pop(0)}"
        if _width(line, font_size) > width:  # a long word continues on the next line
            head = _longest_head(line, width, font_size)
            if head < len(line):
                words.insert(0, line[head:])
            line = line[:head]
        found.append(line)
    return found


def _longest_head(text: str, width: int, font_size: int) -> int:
    """Number of leading letters that fit into `width`, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _width(text[:middle], font_size) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(text: str, width: int, font_size: int) -> str:
    room = width - _width("…", font_size)
    return text[: _longest_head(text, int(room), font_size)].rstrip() + "…"


def _width(text: str, font_size: int) -> float:
    return _font_for(text, font_size).getlength(text)


@lru_cache(maxsize=16)
def _bundled(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=16)
def _wide(size: int) -> Font | None:
    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    """Whether the font has a glyph for the letter (not its sign for missing glyphs)."""
    if letter.isspace():
        return True
    shape, missing = font.getmask(letter), font.getmask("\U000f0000")
    return (shape.size, bytes(shape)) != (missing.size, bytes(missing))


def _font_for(text: str, size: int) -> Font:
    bundled, wide = _bundled(size), _wide(size)
    if wide is None or all(_has(bundled, letter) for letter in text):
        return bundled
    return wide


def _drawable(text: str, size: int) -> str:
    """Replace letters that no available font can draw by their ASCII base letter, else by `?`."""
    fonts = [font for font in (_bundled(size), _wide(size)) if font is not None]
    found = []
    for letter in text:
        if any(_has(font, letter) for font in fonts):
            found.append(letter)
            continue
        plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        found.append(plain or ("" if unicodedata.combining(letter) else "?"))
    return "".join(found)
