"""Measures the shipped models; the numbers of docs/embedded.md come from here.

    python -m training.evaluate retrieval          # needs the bank of drawings
    python -m training.evaluate speed
    python -m training.evaluate pictures --recipe layers --set grid

Each part adds its results to renders/embedded/results.json; `pictures` also writes
a contact sheet beside it, and keeps the pictures in training/runs/pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clipig.encoders.embedded import embedded_info, load_embedded
from clipig.encoders.embedded.vocabulary import Vocabulary
from training.pictures import (
    RECIPES,
    Prompt,
    article_prompts,
    judge_ranks,
    make_pictures,
    noun_captions,
    pair_captions,
    save_sheet,
)
from training.retrieval import measure_retrieval
from training.sources import load_bank
from training.weights import PACKAGE, new_network, read_weights

OUT = Path(__file__).parents[1] / "renders" / "embedded"
KEPT = Path(__file__).parent / "runs" / "pictures"
GRID_THINGS = (
    *("piano", "pizza", "watermelon", "sushi", "carrot"),
    *("salami", "pineapple", "maple leaf", "rubiks cube"),
)
NOUNS = (
    *("strawberry", "heart", "banana", "pizza", "violin", "umbrella", "sunflower", "cactus"),
    *("fish", "owl", "butterfly", "car", "house", "candle", "rocket", "snowman"),
    *("apple", "carrot", "mushroom", "star"),
)


def evaluate_retrieval(model: str, weights: Path | None = None) -> dict[str, Any]:
    """Top-1 of 400 with training drawings and with the held-out styles."""
    path = weights or PACKAGE / f"{model}.safetensors"
    config, words, tensors = read_weights(path)
    network = new_network(config)
    network.load_state_dict(tensors, strict=False)
    vocabulary = Vocabulary(words, config.buckets, config.groups, config.context)
    return {
        f"retrieval {path.stem}": measure_retrieval(network, vocabulary, load_bank(), full=True)
    }


def evaluate_speed(model: str) -> dict[str, Any]:
    """Seconds to load, and views per second forward plus gradient at the input.

    One thread, in seconds of processor time, so that other work on the machine counts
    less; two cores do nearly twice as much.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    load_embedded(model)
    results: dict[str, Any] = {"load seconds": round(time.process_time() - began, 3)}
    path = PACKAGE / f"{model}.safetensors"
    results["megabytes"] = round(path.stat().st_size / 1e6, 2)
    size = embedded_info(model).size
    for precision in ("fp32", "bf16"):
        encoder = load_embedded(model, precision=precision)
        views = torch.rand(64, 3, size, size, requires_grad=True)
        best = 0.0
        for _ in range(20):
            began = time.process_time()
            encoder.encode_image(views)[:, 0].sum().backward()
            best = max(best, len(views) / (time.process_time() - began))
        results[f"views/s {precision}, one core"] = round(best)
    return {f"speed {model}": results}


def evaluate_pictures(recipe: str, which: str, epochs: int, model: str) -> dict[str, Any]:
    """Make pictures of one set with one recipe; the judge's ranks of their captions."""
    animals, _ = article_prompts()
    sets: dict[str, Callable[[], list[Prompt]]] = {
        "grid": lambda: [Prompt(a, b) for a in animals for b in GRID_THINGS],
        "pairs": lambda: [Prompt(a, b) for a in animals for b in GRID_THINGS[:3]],
        "nine": lambda: [Prompt(a, b) for a, b in zip(animals, GRID_THINGS, strict=True)],
        "animals": lambda: [Prompt(a) for a in animals],
        "nouns": lambda: [Prompt(noun) for noun in NOUNS],
    }
    prompts = sets[which]()
    overrides = [f"epochs={epochs}"] if epochs else []
    began = time.perf_counter()
    pictures = make_pictures(recipe, prompts, model, overrides=overrides)
    seconds = (time.perf_counter() - began) / len(prompts)
    judge = load_embedded("embedded-judge")
    captions = [prompt.caption for prompt in prompts]
    candidates = pair_captions() if which in ("grid", "pairs", "nine") else noun_captions()
    candidates += [caption for caption in captions if caption not in candidates]
    ranks = judge_ranks(judge, pictures, prompts, candidates)
    names = [f"{p.animal} of {p.thing}" if p.thing else p.animal for p in prompts]
    labels = [f"{name} {rank}" for name, rank in zip(names, ranks, strict=True)]
    name = f"{which}-{recipe.replace(' ', '-')}"
    save_sheet(OUT / f"{name}.jpg", pictures, labels, columns=9 if which != "nouns" else 10)
    KEPT.mkdir(parents=True, exist_ok=True)
    torch.save({"pictures": pictures.half(), "captions": captions}, KEPT / f"{name}.pt")
    count = len(ranks)
    return {
        name: {
            "weights": embedded_info(model).checksum[:15],
            "pictures": count,
            "epochs": epochs or "as in the config",
            "candidates": len(candidates),
            "top 1": round(sum(rank == 1 for rank in ranks) / count, 3),
            "top 5": round(sum(rank <= 5 for rank in ranks) / count, 3),
            "median rank": sorted(ranks)[count // 2],
            "seconds each": round(seconds, 1),
            "ranks": dict(zip(captions, ranks, strict=True)),
        }
    }


def write_results(results: dict[str, Any]) -> None:
    """Merge results into the file and show them."""
    path = OUT / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, **results}, indent=1) + "\n", "utf-8")
    print(json.dumps(results, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("part", choices=["retrieval", "speed", "pictures"])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--weights", type=Path, help="retrieval: of this file, not the package's")
    parser.add_argument("--recipe", choices=list(RECIPES), default="layers")
    parser.add_argument(
        "--set", choices=["grid", "pairs", "nine", "animals", "nouns"], default="grid"
    )
    parser.add_argument("--epochs", type=int, default=0, help="0: as in the config")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part == "retrieval":
        write_results(evaluate_retrieval(options.model, options.weights))
    elif options.part == "speed":
        write_results(evaluate_speed(options.model))
    else:
        write_results(evaluate_pictures(options.recipe, options.set, options.epochs, options.model))


if __name__ == "__main__":
    main()
