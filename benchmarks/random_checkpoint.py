"""Writes a randomly initialised CLIP of a real architecture, for speed and start-up tests.

    python benchmarks/random_checkpoint.py ViT-B/32 out.pt --seed 0

Shapes, names and dtype are those of OpenAI's state dicts, so sizes and speed are
real; the pictures it guides are noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from clipig.encoders.architecture import Architecture
from clipig.encoders.clip_package import import_clip_model


def _text(embed: int, width: int) -> dict[str, int]:
    return {
        "embed": embed,
        "context": 77,
        "vocabulary": 49408,
        "text_width": width,
        "text_layers": 12,
    }


ARCHITECTURES = {
    "RN50": Architecture(
        size=224, vision_layers=(3, 4, 6, 3), vision_width=64, patch=None, **_text(1024, 512)
    ),
    "RN101": Architecture(
        size=224, vision_layers=(3, 4, 23, 3), vision_width=64, patch=None, **_text(512, 512)
    ),
    "RN50x4": Architecture(
        size=288, vision_layers=(4, 6, 10, 6), vision_width=80, patch=None, **_text(640, 640)
    ),
    "RN50x16": Architecture(
        size=384, vision_layers=(6, 8, 18, 8), vision_width=96, patch=None, **_text(768, 768)
    ),
    "RN50x64": Architecture(
        size=448, vision_layers=(3, 15, 36, 10), vision_width=128, patch=None, **_text(1024, 1024)
    ),
    "ViT-B/32": Architecture(
        size=224, vision_layers=12, vision_width=768, patch=32, **_text(512, 512)
    ),
    "ViT-B/16": Architecture(
        size=224, vision_layers=12, vision_width=768, patch=16, **_text(512, 512)
    ),
    "ViT-L/14": Architecture(
        size=224, vision_layers=24, vision_width=1024, patch=14, **_text(768, 768)
    ),
    "ViT-L/14@336px": Architecture(
        size=336, vision_layers=24, vision_width=1024, patch=14, **_text(768, 768)
    ),
    # Small ones, for tests only.
    "tiny-ViT": Architecture(
        embed=32,
        size=32,
        vision_layers=3,
        vision_width=128,
        patch=8,
        context=77,
        vocabulary=49408,
        text_width=64,
        text_layers=2,
    ),
    "tiny-RN": Architecture(
        embed=32,
        size=96,
        vision_layers=(1, 2, 1, 1),
        vision_width=8,
        patch=None,
        context=77,
        vocabulary=49408,
        text_width=64,
        text_layers=2,
    ),
}


def clip_model(a: Architecture) -> torch.nn.Module:
    """A `clip.model.CLIP` of these sizes."""
    model: torch.nn.Module = import_clip_model().CLIP(
        a.embed, a.size, a.vision_layers, a.vision_width, a.patch, a.context, a.vocabulary,
        a.text_width, a.text_heads, a.text_layers,
    )
    return model


def build_random_model(name: str, seed: int = 0) -> torch.nn.Module:
    """A `clip.model.CLIP` in eval mode, float32, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip_model(ARCHITECTURES[name])
        _liven(model)
    return model.eval()


def _liven(model: torch.nn.Module) -> None:
    """Fill what the class leaves at zero or one, so that every tensor matters in a test."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]


def random_state_dict(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of `build_random_model`."""
    return {
        key: value.clone() for key, value in build_random_model(name, seed).state_dict().items()
    }


def write_random_checkpoint(name: str, path: str | Path, seed: int = 0, half: bool = False) -> Path:
    """Write a state dict as `torch.save` does; `half` stores float16 as OpenAI's files."""
    state = random_state_dict(name, seed)
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(state, path)
    return Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(ARCHITECTURES))
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true", help="store float16")
    args = parser.parse_args()
    write_random_checkpoint(args.name, args.path, args.seed, args.half)


if __name__ == "__main__":
    main()
