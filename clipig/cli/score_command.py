"""`clipig score`: measures the quality of pictures by a judge that did not guide them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import click

from clipig.errors import UsageError

ARTICLE = "article"


@click.command(short_help="Measure the quality of pictures by a judge that did not guide them.")
@click.argument("pictures", nargs=-1, required=True, metavar="PIC...")
@click.option("-t", "--text", "texts", multiple=True, metavar="PROMPT",
              help="What the pictures should show: once for all, or once for each. "
              "Default: the first prompt in each picture's metadata.")
@click.option("--judge", default="embedded-judge", show_default=True, metavar="NAME",
              help="The model that measures; it should not be the one that guided.")
@click.option("--among", default=ARTICLE, show_default=True, metavar="FILE",
              help="Texts, one per line, among which the true one is looked for; "
              "`article`: the article's 810 prompts.")
@click.option("-d", "--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def command(pictures: tuple[str, ...], texts: tuple[str, ...], judge: str, among: str,
            device: str, as_csv: bool, as_json: bool) -> None:
    """Measure pictures: held-out similarity, rank of the true prompt, natural statistics.

    The similarity of the model that guided a picture says little about it: noise
    that the model likes scores higher than a photograph.
    """
    from clipig import encoders
    from clipig.engine.device import pick_device
    from clipig.files import csv_cell
    from clipig.images import load_image
    from clipig.jobs.quality import score

    wanted, candidates = _texts(pictures, texts), _candidates(among)
    model = encoders.load(encoders.resolve(judge), pick_device(device), "fp32")
    loaded = [load_image(p) for p in pictures]
    rows = score(loaded, wanted, model, candidates)
    table = [{"file": p, **row.as_dict()} for p, row in zip(pictures, rows, strict=True)]
    if as_json:
        for line in table:
            click.echo(json.dumps(line, ensure_ascii=False))
    elif as_csv:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(table[0]))
        writer.writeheader()
        writer.writerows(
            {k: csv_cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in table
        )
        click.echo(out.getvalue(), nl=False)
    else:
        click.echo(_aligned(table))


def _texts(pictures: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Text of each picture: given once for all, once for each, or read from its metadata."""
    from clipig.images import read_metadata

    if len(texts) == 1:
        return [texts[0]] * len(pictures)
    if texts:
        if len(texts) != len(pictures):
            raise UsageError(
                f"--text was given {len(texts)} times for {len(pictures)} pictures; "
                "give it once, or once for each"
            )
        return list(texts)
    found = []
    for path in pictures:
        known = read_metadata(path) if Path(path).suffix.lower() == ".png" else {}
        prompt = known.get("Description", "").split("; ")[0]
        if not prompt:
            raise UsageError(f"{path}: holds no prompt; say with --text what it should show")
        found.append(prompt)
    return found


def _candidates(among: str) -> list[str]:
    """Texts among which the true text is ranked."""
    if among == ARTICLE:
        from clipig.config.grid import load_grid
        from clipig.config.words import with_article

        axes = load_grid("grid_article").grid.axes
        return [
            f"{with_article(a.name)} made of {t.name}" for a in axes["animal"]
            for t in axes["thing"]
        ]
    from clipig.files import read_lines

    return read_lines(among)


def _aligned(table: Sequence[dict[str, object]]) -> str:
    """Format rows as an aligned table."""
    lines = [
        f"{'sim':>7}{'rank':>10}{'slope':>8}{'tv':>8}{'sat':>8}{'sharp':>8}  file, text (nearest)"
    ]
    for row in table:
        numbers = "".join(
            f"{row[k]:>8.3f}" for k in ("slope", "variation", "saturation", "sharpness")
        )
        place = f"{row['rank']}/{row['of']}"
        other = "" if row["rank"] == 1 else f" ({row['nearest']})"
        lines.append(
            f"{row['similarity']:>7.2f}{place:>10}{numbers}  {row['file']}, {row['text']}{other}"
        )
    return "\n".join(lines)
