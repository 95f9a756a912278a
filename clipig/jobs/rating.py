"""Rates images by their similarity to texts and reference images, with one or more models."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from clipig.encoders.protocol import Encoder
from clipig.errors import ClipigError, ImageError, UsageError
from clipig.files import csv_cell, user_path
from clipig.images import load_image, save_png
from clipig.jobs.folder import save_thumb
from clipig.jobs.picture_features import FeatureCache, picture_features
from clipig.outputs.pages.model import PageGroup, PageImage, Sheet
from clipig.outputs.pages.sheet import write_sheet
from clipig.web import is_url


@dataclass(frozen=True)
class Column:
    """A text or reference image (`kind`: text or image) with which a model compares images."""

    label: str
    model: str
    kind: str

    def title(self, several: bool) -> str:
        """Heading of the column, including the model if there are several."""
        return f"{self.label} [{self.model}]" if several else self.label


@dataclass(frozen=True)
class ImageRating:
    """Similarities (100 * cosine): one row per image, one value per column."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    scores: tuple[tuple[float, ...], ...]
    problems: tuple[tuple[str, str], ...] = ()
    hits: int = 0

    @property
    def titles(self) -> tuple[str, ...]:
        """Headings of the columns."""
        several = len({c.model for c in self.columns}) > 1
        return tuple(c.title(several) for c in self.columns)


def rate(
    encoders: Sequence[Encoder],
    names: Sequence[str],
    texts: Sequence[str] = (),
    references: Sequence[str] = (),
    cache: FeatureCache | None = None,
    tick: Callable[[int], None] | None = None,
) -> ImageRating:
    """Rate images by texts and reference images; unreadable images are listed in the result.

    Args:
        encoders: The models.
        names: Paths and addresses of the images.
        texts: Texts to compare with.
        references: Paths and addresses of reference images.
        cache: Cache of image features; None: the user's.
        tick: Called with the number of further images done.

    Raises:
        UsageError: There is neither a text nor a reference.
        ImageError: A reference cannot be read.
        EncoderError: A model cannot encode a text.
    """
    if not texts and not references:
        raise UsageError("nothing to compare with: give --text or --image")
    columns: list[Column] = []
    blocks: list[dict[str, list[float]]] = []
    problems: dict[str, str] = {}
    hits = 0
    for encoder in encoders:
        model = encoder.info.name
        targets = [encoder.encode_text(list(texts)).float().cpu()] if texts else []
        if references:
            known = picture_features(encoder, list(dict.fromkeys(references)), cache)
            if known.problems:
                raise ImageError(": ".join(known.problems[0]))
            by_name = dict(zip(known.names, known.rows, strict=True))
            targets.append(torch.stack([by_name[r] for r in references]))
        columns += [Column(t, model, "text") for t in texts]
        columns += [Column(Path(r).name or r, model, "image") for r in references]
        found = picture_features(encoder, names, cache, tick)
        problems.update(found.problems)
        hits += found.hits
        scores = 100 * found.rows @ torch.cat(targets).T
        if encoder.info.zero:  # SigLIP: makes its texts as comparable with images as CLIP's
            count = len(texts)
            scores[:, :count] *= encoder.info.scale / 100
            scores[:, :count] += encoder.info.zero
        blocks.append(dict(zip(found.names, scores.tolist(), strict=True)))
    kept = tuple(n for n in names if all(n in block for block in blocks))
    rows = tuple(tuple(v for block in blocks for v in block[n]) for n in kept)
    return ImageRating(kept, tuple(columns), rows, tuple(problems.items()), hits)


def sorted_by(rating: ImageRating, column: int) -> ImageRating:
    """Sort a rating by a column, counted from 1; a negative number sorts descending.

    Raises:
        UsageError: The column does not exist.
    """
    if not 1 <= abs(column) <= len(rating.columns):
        raise UsageError(
            f"--sort {column}: there are {len(rating.columns)} columns, counted from 1 "
            "(negative: descending)"
        )
    order = sorted(
        range(len(rating.names)),
        key=lambda i: math.copysign(1, column) * rating.scores[i][abs(column) - 1],
    )
    return ImageRating(
        tuple(rating.names[i] for i in order), rating.columns,
        tuple(rating.scores[i] for i in order), rating.problems, rating.hits,
    )


def extremes(rating: ImageRating, best: int, worst: int, column: int = 1) -> ImageRating:
    """Reduce a rating to the best and worst images of a column; no change if both are 0."""
    if not best and not worst:
        return rating
    down = sorted_by(rating, -abs(column))
    count = len(down.names)
    kept = [*range(min(best, count)), *range(max(min(best, count), count - worst), count)]
    return replace(
        down, names=tuple(down.names[i] for i in kept), scores=tuple(down.scores[i] for i in kept)
    )


def as_table(rating: ImageRating) -> str:
    """Format as an aligned table with one line per image and numbered columns."""
    titles = rating.titles
    lines = [f"{i}: {title}" for i, title in enumerate(titles, 1)]
    width = max([len(n) for n in rating.names] + [5])
    lines.append("image".ljust(width) + "".join(f"{i:>9}" for i in range(1, len(titles) + 1)))
    for name, row in zip(rating.names, rating.scores, strict=True):
        lines.append(name.ljust(width) + "".join(f"{v:9.2f}" for v in row))
    return "\n".join(lines)


def as_summary(rating: ImageRating) -> str:
    """Format mean, deviation, minimum and maximum of each column."""
    lines = []
    columns = zip(*rating.scores, strict=True)
    for i, (title, values) in enumerate(zip(rating.titles, columns, strict=True), 1):
        v = torch.tensor(values)
        spread = float(v.std()) if len(v) > 1 else 0.0
        lines.append(
            f"{i}: mean {float(v.mean()):.2f}, deviation {spread:.2f}, "
            f"{float(v.min()):.2f} to {float(v.max()):.2f} ({title})"
        )
    return "\n".join(lines)


def as_extremes(rating: ImageRating, best: int, worst: int, column: int = 1) -> str:
    """Format the article's tables: the best and the worst images of a column."""
    place = abs(column)
    down = sorted_by(rating, -place)
    pairs = [(n, row[place - 1]) for n, row in zip(down.names, down.scores, strict=True)]
    lines = []
    if best:
        lines.append(f"best of {len(pairs)}: {rating.titles[place - 1]}")
        lines += [f"  {n} sim: {v:.2f}" for n, v in pairs[:best]]
    if worst:
        lines.append(f"worst of {len(pairs)}: {rating.titles[place - 1]}")
        lines += [f"  {n} sim: {v:.2f}" for n, v in list(reversed(pairs))[:worst]]
    return "\n".join(lines)


def as_csv(rating: ImageRating) -> str:
    """Format as CSV with a line of headings."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", *map(csv_cell, rating.titles)])
    for name, row in zip(rating.names, rating.scores, strict=True):
        writer.writerow([csv_cell(name), *(f"{v:.4f}" for v in row)])
    return out.getvalue()


def as_json(rating: ImageRating) -> str:
    """Format as JSON."""
    return json.dumps({
        "columns": [
            {"label": c.label, "model": c.model, "kind": c.kind} for c in rating.columns
        ],
        "images": [
            {"image": n, "similarities": [round(v, 4) for v in row]}
            for n, row in zip(rating.names, rating.scores, strict=True)
        ],
        "problems": [{"image": n, "problem": text} for n, text in rating.problems],
    }, indent=1, ensure_ascii=False) + "\n"


def write_rating_page(folder: Path, rating: ImageRating, title: str, command: str) -> Path:
    """Write `index.html` with thumbnails and images into the folder; returns the page."""
    pictures = [
        show_picture(folder, name, place, row)
        for place, (name, row) in enumerate(zip(rating.names, rating.scores, strict=True))
    ]
    facts = (("pictures", str(len(pictures))),
             ("models", ", ".join(dict.fromkeys(c.model for c in rating.columns))))
    sheet = Sheet(title, (PageGroup("pictures", tuple(pictures)),), rating.titles, rating.problems,
                  facts, command)
    return write_sheet(folder, sheet)


def show_picture(
    folder: Path, name: str, place: int, scores: tuple[float | None, ...] = (), note: str = ""
) -> PageImage:
    """Put an image and its thumbnail beside a page.

    The page refers to no file outside its folder, so the folder can be moved.
    """
    thumb = folder / "thumbs" / f"{place:05d}.jpg"
    thumb.parent.mkdir(parents=True, exist_ok=True)
    pixels = load_image(name)
    save_thumb(pixels, thumb, 224)
    relative = thumb.relative_to(folder).as_posix()
    label = name if is_url(name) else Path(name).name
    copy = folder / "pictures" / f"{place:05d}{'' if is_url(name) else Path(name).suffix}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    if is_url(name):
        copy = save_png(pixels, copy.with_suffix(".png"), overwrite=True)
    else:
        try:
            _link_or_copy(user_path(name), copy)
        except OSError as fault:
            raise ClipigError(f"{name}: cannot be copied: {fault}") from fault
    return PageImage(label, copy.relative_to(folder).as_posix(), relative, scores, note)


def _link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link to a file, or a copy where the system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
