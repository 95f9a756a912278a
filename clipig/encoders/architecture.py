"""What a CLIP's weights say about its architecture, from names and shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from clipig.errors import EncoderError

Shapes = Mapping[str, tuple[int, ...]]

_HEAD_WIDTH = 64  # in every OpenAI model
_OTHER_HEADS = (1280, 1408, 1664)  # open_clip's ViT-H, ViT-g, ViT-bigG: heads of 80, 88, 104


@dataclass(frozen=True)
class Architecture:
    """The arguments of `clip.model.CLIP`. Patch is None for a ResNet."""

    embed: int
    size: int
    vision_layers: int | tuple[int, int, int, int]
    vision_width: int
    patch: int | None
    context: int
    vocabulary: int
    text_width: int
    text_layers: int

    @property
    def text_heads(self) -> int:
        return max(1, self.text_width // _HEAD_WIDTH)


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered children there are below `prefix`."""
    start = len(prefix)
    return len({key[start:].split(".", 1)[0] for key in shapes if key.startswith(prefix)})


def _side(positions: int, key: str) -> int:
    """Side of the square grid that `positions` (with one for the class) are for."""
    side = math.isqrt(positions - 1)
    if side < 1 or side * side + 1 != positions:
        raise EncoderError(f"{key} has {positions} positions, which is no square grid plus one")
    return side


def infer_architecture(shapes: Shapes) -> Architecture:
    """Read the architecture off the tensors of a checkpoint.

    `shapes`: tensor names as in OpenAI's state dicts to their shapes.
    Raises `EncoderError` naming the first tensor that is missing or misshapen.
    Heads are taken to be 64 wide, as in OpenAI's nine models.
    """

    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in shapes:
            raise EncoderError(f"no OpenAI-style CLIP: the tensor {key} is missing")
        found = tuple(shapes[key])
        if len(found) != dims or min(found) < 1:
            raise EncoderError(f"the tensor {key} has shape {found}, expected {dims} dimensions")
        return found

    text_width, embed = shape("text_projection", 2)
    context = shape("positional_embedding", 2)[0]
    vocabulary = shape("token_embedding.weight", 2)[0]
    text_layers = _count(shapes, "transformer.resblocks.")
    vision_layers: int | tuple[int, int, int, int]
    if "visual.proj" in shapes:
        vision_width, _, patch, _ = shape("visual.conv1.weight", 4)
        key = "visual.positional_embedding"
        size = patch * _side(shape(key, 2)[0], key)
        vision_layers = _count(shapes, "visual.transformer.resblocks.")
        depth = vision_layers
    else:
        patch = 0
        vision_width = shape("visual.layer1.0.conv1.weight", 4)[0]
        key = "visual.attnpool.positional_embedding"
        size = 32 * _side(shape(key, 2)[0], key)
        counts = [_count(shapes, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
        vision_layers = (counts[0], counts[1], counts[2], counts[3])
        depth = min(counts)
    if patch and (vision_width % _HEAD_WIDTH or vision_width in _OTHER_HEADS):
        raise EncoderError(
            f"a vision transformer of width {vision_width} is none of OpenAI's; "
            "with its own name it may work: open_clip:ARCH/FILE"
        )
    if not depth or not text_layers:
        raise EncoderError("no OpenAI-style CLIP: a tower has no layers")
    return Architecture(
        embed=embed,
        size=size,
        vision_layers=vision_layers,
        vision_width=vision_width,
        patch=patch or None,
        context=context,
        vocabulary=vocabulary,
        text_width=text_width,
        text_layers=text_layers,
    )
