"""Time of one view forth and back through each family of encoders, beside its floor.

    python benchmarks/encoders.py                 # every family
    python benchmarks/encoders.py --patches       # patch dropout, ViT-B/16

Weights are random, so times are real and embeddings are not. The floor is the time of the
matrix products of the tower alone, forth and for the gradient to the input, at the rate that
this machine multiplies 1024 x 1024 float32 matrices with.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import random_checkpoint
import torch
from torch.utils.flop_counter import FlopCounterMode

from clipig.encoders.architecture import Traits
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.protocol import EncoderInfo

REPEATS = 5


def median_seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a function, after one call that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def multiply_rate() -> float:
    """Floating point operations per second of a matrix product."""
    a = torch.rand(1024, 1024)
    return 2 * 1024**3 / median_seconds(lambda: a @ a, 9)


def clip_encoder(name: str, activation: str, **sizes: int) -> OpenAIEncoder:
    """A CLIP of a real architecture, its text tower left at one layer."""
    architecture = random_checkpoint.ARCHITECTURES[name]
    architecture = replace(architecture, text_layers=1, **sizes)  # type: ignore[arg-type]
    state = random_checkpoint.clip_model(architecture).state_dict()
    return OpenAIEncoder(
        state, EncoderInfo(name, 0, 0), traits=Traits(activation)  # type: ignore[arg-type]
    )


def open_clip_encoder(architecture: str) -> object:
    """An encoder around a tower of open_clip's, with random weights."""
    import open_clip

    from clipig.encoders.openclip import OpenClipEncoder

    config = open_clip.get_model_config(architecture)
    config["text_cfg"].update(layers=1, hf_tokenizer_name="")
    model = open_clip.CustomTextCLIP(
        embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg={
            k: v for k, v in config["text_cfg"].items()
            if k in ("context_length", "vocab_size", "width", "heads", "layers")
        },
    ).eval().requires_grad_(False)
    found = OpenClipEncoder.__new__(OpenClipEncoder)
    size = config["vision_cfg"]["image_size"]
    found._info = EncoderInfo(architecture, size, config["embed_dim"])
    found._device, found._dtype, found._model = torch.device("cpu"), torch.float32, model
    found._mean = found._std = torch.full((1, 3, 1, 1), 0.5)
    return found


FAMILIES: dict[str, Callable[[], object]] = {
    "OpenAI ViT-B/32": lambda: clip_encoder("ViT-B/32", "quick_gelu"),
    "LAION, DataComp ViT-B/32": lambda: clip_encoder("ViT-B/32", "gelu"),
    "OpenAI ViT-B/16": lambda: clip_encoder("ViT-B/16", "quick_gelu"),
    "FARE, TeCoA ViT-L/14": lambda: clip_encoder("ViT-L/14", "quick_gelu"),
    "OpenAI RN50": lambda: clip_encoder("RN50", "quick_gelu"),
    "SigLIP ViT-B/16": lambda: open_clip_encoder("ViT-B-16-SigLIP"),
    "MobileCLIP2-S0": lambda: open_clip_encoder("MobileCLIP2-S0"),
    "PE-Core-B-16": lambda: open_clip_encoder("PE-Core-B-16"),
    "EVA02-B-16": lambda: open_clip_encoder("EVA02-B-16"),
}


def both_ways(encoder: object, views: torch.Tensor, *keep: torch.Tensor) -> None:
    """One pass and its gradient to the views."""
    x = views.clone().requires_grad_()
    encoder.encode_image(x, *keep)[:, 0].sum().backward()  # type: ignore[attr-defined]


def families(views: int) -> None:
    """Print time and floor of each family."""
    print(f"{torch.get_num_threads()} threads")
    print("| family | GFLOP per view | floor, ms | measured, ms | times the floor |")
    print("|---|---|---|---|---|")
    for name, build in FAMILIES.items():
        torch.manual_seed(0)
        encoder = build()
        size = encoder.info.size  # type: ignore[attr-defined]
        pixels = torch.rand(views, 3, size, size)
        with FlopCounterMode(display=False) as counter:
            both_ways(encoder, pixels)
        flops = counter.get_total_flops() / views
        before = multiply_rate()
        seconds = median_seconds(lambda e=encoder, x=pixels: both_ways(e, x)) / views
        floor = flops / ((before + multiply_rate()) / 2)  # other work on the machine slows both
        print(f"| {name} | {flops / 1e9:.1f} | {1000 * floor:.0f} | {1000 * seconds:.0f} "
              f"| {seconds / floor:.2f} |", flush=True)


def patches(views: int) -> None:
    """Print time and change of the embedding for some shares of patches left out."""
    torch.manual_seed(0)
    encoder = clip_encoder("ViT-B/16", "quick_gelu")
    pixels = torch.rand(views, 3, 224, 224)
    whole = encoder.encode_image(pixels)
    slope = torch.autograd.grad(_first(encoder, x := pixels.clone().requires_grad_()), x)[0]
    print("| left out | ms per view | cosine to the whole view | cosine of the gradients |")
    print("|---|---|---|---|")
    for share in (0.0, 0.25, 0.5, 0.75):
        count = round((1 - share) * encoder.patches)
        keep = torch.rand(views, encoder.patches).topk(count, dim=-1).indices
        seconds = median_seconds(lambda k=keep: both_ways(encoder, pixels, k)) / views
        found = encoder.encode_image(pixels, keep)
        x = pixels.clone().requires_grad_()
        own = torch.autograd.grad(_first(encoder, x, keep), x)[0]
        like = torch.cosine_similarity(found, whole).mean()
        turn = torch.cosine_similarity(own.flatten(1), slope.flatten(1)).mean()
        print(f"| {share:.0%} | {1000 * seconds:.0f} | {like:.3f} | {turn:.3f} |", flush=True)


def _first(encoder: OpenAIEncoder, views: torch.Tensor, *keep: torch.Tensor) -> torch.Tensor:
    return encoder.encode_image(views, *keep)[:, 0].sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", action="store_true", help="patch dropout instead")
    parser.add_argument("--views", type=int, default=4)
    args = parser.parse_args()
    (patches if args.patches else families)(args.views)


if __name__ == "__main__":
    main()
