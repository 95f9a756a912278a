"""Several seeds at once, rated by fresh views; the best one is kept.

    python examples/best_of.py "a pineapple" --seeds 8

The similarity of the last step flatters: the picture was made for those views.
So each picture is looked at again through new noise and shifts, and compared
with other prompts, too: the best picture is the one that is most *its own* prompt.
(`clipig rank` does this for hundreds of runs, with a report.)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import clipig

CONFIG = Path(__file__).with_name("multi_caption.yaml")
OTHERS = ("a cat", "a house", "a tree", "a banana", "a fish", "a ball", "a flower", "a car")


def rate(
    encoder: object, pictures: torch.Tensor, prompt: str, views: int = 16, seed: int = 0
) -> torch.Tensor:
    """For each picture: likeness to its prompt minus that to the most similar other one."""
    chance = torch.Generator().manual_seed(seed)
    side = encoder.info.size  # type: ignore[attr-defined]
    small = torch.nn.functional.interpolate(pictures, (side, side), mode="area")
    total = torch.zeros(len(pictures))
    texts = encoder.encode_text([prompt, *OTHERS])  # type: ignore[attr-defined]
    for _ in range(views):
        dx, dy = torch.randint(-4, 5, (2,), generator=chance).tolist()
        noise = torch.randn(small.shape, generator=chance) * 0.1
        seen = encoder.encode_image(small.roll((dy, dx), (2, 3)) + noise)  # type: ignore[attr-defined]
        likeness = seen @ texts.T
        total += likeness[:, 0] - likeness[:, 1:].amax(1)
    return 100 * total / views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a pineapple")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("-o", "--output", type=Path, default=Path("renders/best_of"))
    args = parser.parse_args()
    session = clipig.Session()
    experiment = clipig.load(CONFIG, overrides=[
        f"epochs={args.epochs}", f"runs={args.seeds}", "seed=1",
        f'targets.0.features=[{{text: "{args.prompt}", weight: 1/8}}]',
    ])
    result = session.run(experiment)
    encoder = session.encoders(experiment)[0]
    with torch.no_grad():
        rating = rate(encoder, result.images, args.prompt)
    for k in rating.argsort(descending=True).tolist():
        print(f"seed {result.seeds[k]:>20}  rating {rating[k]:6.1f}  "
              f"similarity {result.similarities[k]:5.1f}")
    best = int(rating.argmax())
    kept = clipig.Result(
        result.images[best : best + 1], (result.similarities[best],), (result.seeds[best],)
    )
    print(*clipig.save(kept, args.output))


if __name__ == "__main__":
    main()
