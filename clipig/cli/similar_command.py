"""`clipig similar`: finds near-duplicates, neighbours and clusters among pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipig.cli.options import offline_option
from clipig.errors import UsageError
from clipig.files import user_path

if TYPE_CHECKING:
    from PIL import Image

    from clipig.jobs.picture_features import Features
    from clipig.jobs.similar import ImagePair


@click.command(short_help="Find near-duplicates, neighbours and clusters among pictures.")
@click.argument("images", nargs=-1, metavar="IMAGES...")
@click.option("-n", "--neighbours", "count", type=click.IntRange(1), default=3, show_default=True,
              help="Nearest neighbours per picture.")
@click.option("--above", type=click.FloatRange(-100, 100), default=98.0, show_default=True,
              help="Similarity (100 * cosine) from which two pictures count as near-duplicates.")
@click.option("-k", "--clusters", "wanted", metavar="K|auto",
              help="Sort into K clusters, or into as many as fit best. Needs clipig[cluster].")
@click.option("-m", "--model", default="auto", show_default=True, metavar="NAME",
              help="Encoder.")
@offline_option
@click.option("-d", "--device", default="auto", show_default=True, metavar="NAME",
              help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "json_file", metavar="FILE", help="Write a JSON file; - for stdout.")
@click.option("-o", "--output", metavar="DIR",
              help="Write a page and a contact sheet per cluster to a new folder.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write features on disk.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and the table.")
def command(
    images: tuple[str, ...], count: int, above: float, wanted: str | None, model: str,
    device: str, json_file: str | None, output: str | None, no_cache: bool, quiet: bool,
) -> None:
    """Print for each of IMAGES its nearest neighbours by image features.

    IMAGES are files, folders, globs or http(s) addresses.

    \b
    clipig similar renders/ --clusters auto -o clusters/
    clipig similar photos/ --above 95
    """
    from clipig.cli.meter import Meter
    from clipig.cli.rate_command import open_encoders, report_problems
    from clipig.jobs.picture_features import FeatureCache, expand, picture_features
    from clipig.jobs.similar import clusters, near_duplicates, neighbours

    if wanted not in (None, "auto") and not str(wanted).isdecimal():
        raise UsageError(f"--clusters {wanted}: expected a number or auto")
    names, problems = expand(images)
    meter = Meter(quiet, "picture")
    encoder = open_encoders([model], device, meter)[0]
    meter.tell("looking", len(names))
    cache = FeatureCache(None) if no_cache else FeatureCache()
    found = picture_features(encoder, names, cache, meter.tick)
    meter.close()
    report_problems((*problems, *found.problems))
    if len(found.names) < 2:
        raise UsageError(f"{len(found.names)} pictures could be read, expected at least 2")
    groups = []
    if wanted is not None:
        groups = clusters(found.rows, None if wanted == "auto" else int(wanted))
    outcome = SimilarImages(
        found, near_duplicates(found.rows, above), neighbours(found.rows, count), groups
    )
    if json_file != "-":
        click.echo(outcome.table())
    from clipig.cli.rate_command import write_data

    write_data(json_file, outcome.json())
    if output:
        click.echo(str(outcome.write(user_path(output), encoder.info.name)))


_ON_A_SHEET = 1000
"""Maximum number of images on the contact sheet of a cluster, the most typical ones."""


def _small(path: Path, side: int) -> Image.Image:
    """Load a thumbnail and reduce it to fit into a square, as thousands are kept in memory."""
    from PIL import Image

    with Image.open(path) as picture:
        kind = "RGBA" if "A" in picture.getbands() else "RGB"
        small: Image.Image = picture.convert(kind)
    small.thumbnail((side, side))
    return small


@dataclass(frozen=True)
class SimilarImages:
    """Near-duplicates, neighbours and clusters found among images."""

    found: Features
    pairs: list[ImagePair]
    near: list[list[ImagePair]]
    groups: list[list[int]]

    def table(self) -> str:
        """Format the results as text."""
        names = self.found.names
        lines = [f"near-duplicates: {len(self.pairs)}"]
        lines += [f"{p.similarity:8.2f}  {names[p.first]}  {names[p.second]}" for p in self.pairs]
        width = max(len(n) for n in names)
        lines.append("neighbours:")
        for name, row in zip(names, self.near, strict=True):
            cells = "  ".join(f"{names[p.second]} {p.similarity:.2f}" for p in row)
            lines.append(f"  {name.ljust(width)}  {cells}")
        for number, group in enumerate(self.groups, 1):
            lines.append(f"cluster {number}: {len(group)} pictures")
            lines += [f"  {names[i]}" for i in group]
        return "\n".join(lines)

    def json(self) -> str:
        """Format the results as JSON."""
        names = self.found.names
        return json.dumps({
            "near_duplicates": [
                {"images": [names[p.first], names[p.second]],
                 "similarity": round(p.similarity, 4)} for p in self.pairs
            ],
            "neighbours": {
                name: [
                    {"image": names[p.second], "similarity": round(p.similarity, 4)} for p in row
                ] for name, row in zip(names, self.near, strict=True)
            },
            "clusters": [[names[i] for i in group] for group in self.groups],
        }, indent=1, ensure_ascii=False) + "\n"

    def write(self, wanted: Path, model: str) -> Path:
        """Write a page and a contact sheet per cluster into a new folder; returns the page."""
        from clipig.files import claim_folder
        from clipig.images import save_png
        from clipig.jobs.rating import show_picture
        from clipig.outputs.contact_sheet import contact_sheet
        from clipig.outputs.pages.model import PageGroup, Sheet
        from clipig.outputs.pages.sheet import write_sheet

        folder = claim_folder(wanted)
        names = self.found.names
        everything = self.groups or [list(range(len(names)))]
        pages, shown_at = [], {}
        for number, group in enumerate(everything, 1):
            title = f"Cluster {number}" if self.groups else "Pictures"
            pictures = []
            for i in group:
                nearest = self.near[i][0]
                note = f"nearest: {Path(names[nearest.second]).name} {nearest.similarity:.2f}"
                shown_at[i] = show_picture(folder, names[i], i, (), note)
                pictures.append(shown_at[i])
            pages.append(PageGroup(title, tuple(pictures)))
            shown = pictures[:_ON_A_SHEET]
            thumbs = [_small(folder / p.thumb, 112) for p in shown]
            sheet = contact_sheet(thumbs, [p.name for p in shown], cell=112)
            save_png(sheet, folder / f"cluster_{number:02d}.png", overwrite=True)
        if self.pairs:
            twins = [
                replace(shown_at[i], note=f"{pair.similarity:.2f} like {Path(names[j]).name}")
                for pair in self.pairs
                for i, j in ((pair.first, pair.second), (pair.second, pair.first))
            ]
            pages.insert(0, PageGroup("Near-duplicates", tuple(twins), "each pair side by side"))
        facts = (("pictures", str(len(names))), ("model", model),
                 ("near-duplicates", str(len(self.pairs))))
        return write_sheet(folder, Sheet(
            "Similar pictures", tuple(pages), (), self.found.problems, facts
        ))
