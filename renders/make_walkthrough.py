"""Makes the pictures of docs/walkthrough.md from the YAML that stands there.

    python renders/make_walkthrough.py                # all, to renders/gallery
    python renders/make_walkthrough.py --only shift   # those whose names contain a word

Each YAML block of the page belongs to the first picture after it. Several runs
are shown as one picture, small, in rows.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

import clipig
from clipig.images import save_png
from clipig.session import Session
from clipig.outputs.contact_sheet import contact_sheet
from clipig.outputs.pictures import describe

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"
STEP = re.compile(r"^```yaml\n(.*?)^```.*?/gallery/(walkthrough-[\w-]+)\.png\)", re.S | re.M)


def steps() -> list[tuple[str, str]]:
    """Name and YAML of each picture of the page."""
    return [(name, text) for text, name in STEP.findall(PAGE.read_text(encoding="utf-8"))]


def render(name: str, text: str, folder: Path, session: Session, epochs: int | None) -> None:
    """Make one picture of the page."""
    extra = [f"epochs={epochs}"] if epochs else []
    settled = session.settle(clipig.load_text(text, name, overrides=extra))
    rows: dict[int, torch.Tensor] = {}
    texts: dict[str, str] = {}
    for group, event in session.render(settled):
        if isinstance(event, clipig.Finished):
            for i, row in enumerate(group.rows):
                rows[row] = event.picture.rgb[i].clamp(0, 1).cpu()
                if row == 0:
                    likeness = float(event.similarity[0])
                    texts = describe(group, 0, likeness, event.epochs, 0.0)
    if len(rows) == 1:
        save_png(rows[0], folder / f"{name}.png", texts, overwrite=True)
    else:
        pictures = [rows[k] for k in sorted(rows)]
        sheet = contact_sheet(pictures, columns=3, cell=62, gap=2, font_size=1, lines=1)
        save_png(sheet, folder / f"{name}.png", texts, overwrite=True)
    print(f"{name}: similarity {texts.get('clipig similarity')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="parts of names")
    parser.add_argument("--epochs", type=int, help="instead of the page's own")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "renders" / "gallery")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    session = Session()
    for name, text in steps():
        if not args.only or any(word in name for word in args.only):
            render(name, text, args.output, session, args.epochs)


if __name__ == "__main__":
    main()
