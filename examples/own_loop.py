"""One's own loop over the events of a run: stop when it no longer gets better.

    python examples/own_loop.py "a sunflower" --patience 25

`optimize` (here behind `Session.render`) is a generator: every step is an event
with the picture, the similarities and the losses. Nothing runs between events,
so a caller may stop, show or save whenever it likes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import clipig
from clipig.images import save_png

CONFIG = Path(__file__).with_name("multi_caption.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a sunflower")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--patience", type=int, default=25, help="steps without a better one")
    parser.add_argument("-o", "--output", type=Path, default=Path("renders/own_loop.png"))
    args = parser.parse_args()
    experiment = clipig.load(CONFIG, overrides=[
        f"epochs={args.epochs}", "seed=1",
        f'targets.0.features=[{{text: "{args.prompt}", weight: 1/8}}]',
    ])
    session = clipig.Session()
    smooth, best, since = 0.0, 0.0, 0
    for _, event in session.render(session.settle(experiment)):
        if not isinstance(event, clipig.Step):
            continue
        smooth += 0.1 * (float(event.similarity) - smooth)
        since = 0 if smooth > best else since + 1
        best = max(best, smooth)
        if event.epoch % 20 == 0:
            print(f"{event.epoch:4d} {'#' * max(0, round(smooth))} {smooth:.1f}")
        last = event
        if since > args.patience:
            print(f"no better for {since} steps")
            break
    args.output.parent.mkdir(parents=True, exist_ok=True)
    print(save_png(last.picture().rgb[0].clamp(0, 1), args.output))


if __name__ == "__main__":
    main()
