"""A row of pictures between two prompts, made at once.

    python examples/morph_row.py "a lemon" "a red heart" --pictures 7

Runs are rows of one batch and may differ in their numbers: here in the weights
of two prompts, w and 1 - w, with the same seed. Written is one strip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import clipig
from clipig.sheets import contact_sheet

CONFIG = Path(__file__).with_name("morph.yaml")


def experiment(first: str, second: str, share: float, epochs: int, seed: int) -> clipig.Experiment:
    """Both prompts from start to end, `share` of the second."""
    return clipig.load(CONFIG, overrides=[
        f"epochs={epochs}", f"seed={seed}", "learnrate=.1 + .9*(.5 + .5*cos(pi*t))",
        f"targets.0.features.0.text={first}", f"targets.0.features.0.weight={1 - share}/8",
        f"targets.0.features.1.text={second}", f"targets.0.features.1.weight={share}/8",
    ])


def row(
    first: str, second: str, pictures: int = 7, epochs: int = 150, seed: int = 2,
    session: clipig.Session | None = None,
) -> list[object]:
    """The pictures from the first prompt to the second, `[3, H, W]` each."""
    session = session or clipig.Session()
    settled = [
        session.settle(experiment(first, second, k / (pictures - 1), epochs, seed))[0]
        for k in range(pictures)
    ]
    shown: dict[int, object] = {}
    for group, event in session.render(settled):
        if isinstance(event, clipig.Finished):
            for place, number in enumerate(group.rows):
                shown[number] = event.picture.rgb[place].clamp(0, 1).cpu()
    return [shown[k] for k in range(pictures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", nargs="?", default="a lemon")
    parser.add_argument("second", nargs="?", default="a red heart")
    parser.add_argument("--pictures", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("renders/morph_row.png"))
    args = parser.parse_args()
    pictures = row(args.first, args.second, max(2, args.pictures), args.epochs, args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, columns=len(pictures), gap=0, font_size=1).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
