"""Makes the pictures of renders/gallery and the contact sheet.

    python renders/make_gallery.py                    # all, some minutes on two cores
    python renders/make_gallery.py --missing          # those that are not there or out of date
    python renders/make_gallery.py --only cat dragon  # those whose names contain a word
    python renders/make_gallery.py --sheet            # only the sheet, from the pictures there

Each entry is a name, a config, and what is changed in it. Runs of equal structure
are rows of one batch, so eight prompts for one recipe are one call of the engine.
Seeds are those of the configs, else made of the name: nothing was chosen among
several seeds. `clipig info PICTURE` prints the config that a picture was
made with, `clipig reproduce PICTURE` makes it again.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

import clipig
from clipig.images import read_metadata, save_png
from clipig.config.prompts import set_text
from clipig.session import Session
from clipig.outputs.contact_sheet import contact_sheet
from clipig.outputs.pictures import describe

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "renders" / "gallery"
ROW = ROOT / "examples" / "morph_row.yaml"
"""Shown as a strip of all its runs."""
Entry = tuple[str, str, str | None, tuple[str, ...]]
"""Name of the picture, config, prompt in place of the config's own, overrides."""

MADE_OF = (
    "a cat made of pizza", "a cat made of strawberry", "an elephant made of watermelon",
    "a penguin made of sushi", "a snail made of piano", "an owl made of chocolate",
    "a rabbit made of broccoli", "a bear made of cookie",
)
SINGLE = ("a strawberry", "a red heart", "a ladybug", "an owl", "a soccer ball", "a frog")
WAVES = ("a peacock", "a fish")
NETWORKS = ("a red heart", "a sunflower")
PIXELS = ("a penguin", "a ghost", "a skull", "a red heart")
STICKERS = ("a turtle", "a dragon")
TILES = ("pizza", "leaf")


def slug(text: str) -> str:
    """`a cat made of pizza` -> `cat_made_of_pizza`."""
    words = [w for w in text.split() if w not in ("a", "an")]
    return "_".join(words)


def entries() -> list[Entry]:
    """Everything in the gallery but the walkthrough's pictures, what matters most first."""
    examples = ROOT / "examples"
    fewer = ("epochs=80",)  # shapes are settled by then
    found: list[Entry] = [("penguin_piano", "penguin_piano", None, ())]
    found += [
        (path.stem, str(path), None, ()) for path in sorted(examples.glob("*.yaml"))
        if path != ROW
    ]
    found += [(slug(t), "penguin_piano", t, fewer) for t in MADE_OF]
    found += [(slug(t), "pyramid", t, fewer) for t in SINGLE]
    found += [(f"siren_{slug(t)}", "siren", t, fewer) for t in NETWORKS]
    found += [(f"pixel_art_{slug(t)}", str(examples / "pixel_art.yaml"), t, ()) for t in PIXELS]
    found += [(f"fourier_{slug(t)}", "fourier", t, fewer) for t in WAVES]
    found += [(f"sticker_{slug(t)}", str(examples / "sticker.yaml"), t, ()) for t in STICKERS]
    found += [
        (f"seamless_{t}", str(examples / "seamless.yaml"), None,
         (f"targets.0.features.0.texts=[{t} texture, many {t}]",))
        for t in TILES
    ]
    found += [
        ("symmetry_snowflake", str(examples / "symmetry.yaml"),
         "a snowflake on a blue background", ("symmetry=rotate4",)),
        ("method_1_strawberry", "method_1", "a strawberry", ("model=embedded", "epochs=80")),
        ("method_2_strawberry", "method_2", "a strawberry", ("model=embedded", "epochs=80")),
    ]
    return found


def experiment(entry: Entry, epochs: int | None) -> clipig.Experiment:
    """What an entry asks for, with the config's seed, else one made of its name."""
    name, config, text, overrides = entry
    extra = [f"epochs={epochs}"] if epochs else []
    found = clipig.load(config, overrides=[*overrides, *extra])
    if found.seed is None:
        found = clipig.load(config, overrides=[*overrides, *extra, f"seed={zlib.crc32(name.encode()) % 100}"])
    return found if text is None else set_text(found, text)


def current(path: Path, wanted: clipig.Experiment, session: Session) -> bool:
    """Whether a picture is there that was made from this config with these weights."""
    if not path.exists():
        return False
    texts = read_metadata(path)
    checksums = ", ".join(info.checksum for info in session.infos(wanted))
    config = clipig.dump(wanted)
    return (texts.get("clipig config"), texts.get("clipig model checksum")) == (config, checksums)


def render(
    folder: Path, session: Session, only: Sequence[str] = (), missing: bool = False,
    epochs: int | None = None,
) -> None:
    """Make the pictures of entries; a file that is there is replaced."""
    settled: list[clipig.Experiment] = []
    names = []
    for entry in entries():
        if only and not any(word in entry[0] for word in only):
            continue
        try:
            wanted = session.settle(experiment(entry, epochs))[0]
            if missing and current(folder / f"{entry[0]}.png", wanted, session):
                continue
            session.infos(wanted)
        except clipig.ClipigError as fault:  # a model that does not come with this version
            print(f"{entry[0]}: left out: {fault}")
            continue
        settled.append(wanted)
        names.append(entry[0])
    began = time.monotonic()
    for group, event in session.render(settled):
        if not isinstance(event, clipig.Finished):
            continue
        seconds = (time.monotonic() - began) / len(group.rows)
        for i, row in enumerate(group.rows):
            likeness = float(event.similarity[i])
            texts = describe(group, i, likeness, event.epochs, seconds)
            rgb = event.picture.rgb[i].clamp(0, 1)
            path = folder / f"{names[row]}.png"
            save_png(rgb, path, texts, overwrite=True)
            alpha = event.picture.layers.get("alpha")
            if alpha is not None and "sticker" in names[row]:
                cut = event.picture.layers.get("cutout", event.picture.rgb)[i].clamp(0, 1)
                save_png(torch.cat([cut, alpha[i]]), path, texts, overwrite=True)
            print(f"{path.name}: similarity {likeness:.1f}, {seconds:.1f} s", flush=True)
        began = time.monotonic()


def morph(folder: Path, session: Session, epochs: int | None = None) -> None:
    """The strip of examples/morph_row.yaml: its runs side by side."""
    wanted = clipig.load(ROW, overrides=[f"epochs={epochs}"] if epochs else [])
    pictures = list(session.run(wanted).images)
    strip = contact_sheet(pictures, columns=len(pictures), cell=96, gap=0, font_size=1)
    texts = {"Description": " to ".join(wanted.let.values()), "clipig config": clipig.dump(wanted)}
    save_png(strip, folder / "morph_row.png", texts, overwrite=True)


def sheet(folder: Path, order: Sequence[str], cell: int = 112, columns: int = 10) -> Path:
    """The contact sheet of the pictures that are there, in the table's order."""
    paths = [p for name in order if (p := folder / f"{name}.png").exists()]
    pictures = [Image.open(p) for p in paths]
    labels = [label(p) for p in paths]
    found = contact_sheet(pictures, labels, columns, cell=cell, gap=6, font_size=10, lines=2)
    small = found.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)  # a third of the bytes
    target = folder / "contact_sheet.png"
    small.save(target, optimize=True)
    return target


def label(path: Path) -> str:
    """The prompt, unless the name of the picture says more."""
    stem = path.stem.replace("_", " ")
    if not (ROOT / "examples" / f"{path.stem}.yaml").exists():
        return stem
    prompt = read_metadata(path).get("Description", "").split(";")[0]
    return f"{stem}: {prompt}" if prompt else stem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="parts of names")
    parser.add_argument("--epochs", type=int, help="instead of the configs' own")
    parser.add_argument("--missing", action="store_true", help="only what is out of date")
    parser.add_argument("--sheet", action="store_true", help="only the contact sheet")
    parser.add_argument("--group", type=int, default=8, help="greatest number of runs in a batch")
    parser.add_argument("-o", "--output", type=Path, default=GALLERY)
    args = parser.parse_args()
    args.output = args.output.resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)  # configs name their pictures as seen from here
    if not args.sheet:
        session = Session(group=args.group)
        render(args.output, session, args.only, args.missing, args.epochs)
        if not args.only or "morph_row" in args.only:
            morph(args.output, session, args.epochs)
    print(sheet(args.output, [e[0] for e in entries()]))


if __name__ == "__main__":
    main()
