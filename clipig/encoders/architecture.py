"""What a CLIP's weights say about its architecture, from names and shapes, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from clipig.errors import EncoderError

Shapes = Mapping[str, tuple[int, ...]]
Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
VOCABULARY = 49408  # tokens of CLIP's tokenizer, which is the only one for these models
_HEAD_WIDTH = 64  # in every OpenAI model
_OTHER_HEADS = {1280: 16, 1408: 16, 1664: 16}  # by width: ViT-H, ViT-g, ViT-bigG
_MAX_LAYERS = 256
_MAX_CONTEXT = 4096
_MAX_SIDE = 4096  # of the input, in pixels


def to_activation(name: str) -> Activation | None:
    """The activation of a name, None for any other word."""
    return next((known for known in ACTIVATIONS if known == name), None)


@dataclass(frozen=True)
class Traits:
    """What the tensors of a CLIP do not say about it.

    Attributes:
        activation: The nonlinearity of the transformers; None where nothing says it.
        vision_heads: Attention heads of the image tower; None: as published ones of its width.
        text_heads: Attention heads of the text tower; None: 64 wide.
        mean: Mean of the training pixels, per channel, in 0..1.
        std: Their standard deviation.
        epsilon: Added to the variance in layer norms.
        source: Where `activation` comes from, in a few words.
    """

    activation: Activation | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    epsilon: float = 1e-5
    source: str = ""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a CLIP.

    Attributes:
        embed: D, width of the embedding.
        size: Side of the square input in pixels.
        vision_layers: Blocks of the image tower; of a ResNet, blocks per stage.
        vision_width: Width of the image tower.
        patch: Side of a patch in pixels; None for a ResNet.
        context: Maximum number of text tokens.
        vocabulary: Number of different tokens.
        text_width: Width of the text tower.
        text_layers: Blocks of the text tower.
        traits: What the shapes do not say.
    """

    embed: int
    size: int
    vision_layers: int | tuple[int, int, int, int]
    vision_width: int
    patch: int | None
    context: int
    vocabulary: int
    text_width: int
    text_layers: int
    traits: Traits = field(default_factory=Traits, compare=False)

    @property
    def text_heads(self) -> int:
        """Attention heads of the text tower."""
        return self.traits.text_heads or max(1, self.text_width // _HEAD_WIDTH)

    @property
    def vision_heads(self) -> int:
        """Attention heads of the image tower, or of a ResNet's pooling."""
        if self.patch is None:
            return max(1, self.vision_width * 32 // _HEAD_WIDTH)
        usual = _OTHER_HEADS.get(self.vision_width, max(1, self.vision_width // _HEAD_WIDTH))
        return self.traits.vision_heads or usual


def count_children(shapes: Shapes, prefix: str) -> int:
    """Count the numbered children below a prefix.

    Args:
        shapes: Names of tensors and their shapes.
        prefix: Such as `"transformer.resblocks."`.

    Returns:
        Their number.

    Raises:
        EncoderError: There are more than any CLIP has.
    """
    start = len(prefix)
    found = len({key[start:].split(".", 1)[0] for key in shapes if key.startswith(prefix)})
    if found > _MAX_LAYERS:
        raise EncoderError(f"{prefix}* has {found} layers, expected at most {_MAX_LAYERS}")
    return found


def square_side(positions: int, key: str) -> int:
    """Return the side of a square grid of `positions`, or raise `EncoderError` naming `key`."""
    side = math.isqrt(positions)
    if side < 1 or side * side != positions:
        raise EncoderError(f"{key} has {positions} positions for patches, which is no square grid")
    return side


def checked_shape(shapes: Shapes, key: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor that must be there, with `dims` dimensions."""
    if key not in shapes:
        raise EncoderError(f"no OpenAI-style CLIP: the tensor {key} is missing")
    found = tuple(shapes[key])
    if len(found) != dims or min(found) < 1:
        raise EncoderError(f"the tensor {key} has shape {found}, expected {dims} dimensions")
    return found


def infer_architecture(shapes: Shapes, traits: Traits | None = None) -> Architecture:
    """Read the architecture off the tensors of a checkpoint.

    Args:
        shapes: Names as in OpenAI's state dicts, and shapes.
        traits: What a config says. Without, the heads are those of published models
            of the same width.

    Returns:
        The sizes, with `traits`.

    Raises:
        EncoderError: A tensor is missing, misshapen or does not fit the others.
    """
    traits = traits or Traits()
    text_width, embed = checked_shape(shapes, "text_projection", 2)
    context = checked_shape(shapes, "positional_embedding", 2)[0]
    vocabulary = checked_shape(shapes, "token_embedding.weight", 2)[0]
    layers: int | tuple[int, int, int, int]
    if "visual.proj" in shapes:
        width, _, patch, _ = checked_shape(shapes, "visual.conv1.weight", 4)
        key = "visual.positional_embedding"
        size = patch * square_side(checked_shape(shapes, key, 2)[0] - 1, key)
        layers = count_children(shapes, "visual.transformer.resblocks.")
        depth = layers
    else:
        patch = 0
        width = checked_shape(shapes, "visual.layer1.0.conv1.weight", 4)[0]
        key = "visual.attnpool.positional_embedding"
        size = 32 * square_side(checked_shape(shapes, key, 2)[0] - 1, key)
        counts = [count_children(shapes, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
        layers = (counts[0], counts[1], counts[2], counts[3])
        depth = min(counts)
    text_layers = count_children(shapes, "transformer.resblocks.")
    if not depth or not text_layers:
        raise EncoderError("no OpenAI-style CLIP: a tower has no layers")
    found = Architecture(
        embed, size, layers, width, patch or None, context, vocabulary, text_width, text_layers,
        traits,
    )
    _check(found)
    return found


def _check(a: Architecture) -> None:
    """Raise `EncoderError` for sizes that no CLIP has or whose heads are unknown."""
    if a.vocabulary < VOCABULARY:
        raise EncoderError(
            f"its vocabulary has {a.vocabulary} tokens, expected the {VOCABULARY} of CLIP"
        )
    if not 3 <= a.context <= _MAX_CONTEXT:
        raise EncoderError(f"its texts have {a.context} positions, expected 3 to {_MAX_CONTEXT}")
    if a.size > _MAX_SIDE:
        raise EncoderError(f"its input has {a.size} px, expected at most {_MAX_SIDE}")
    if a.patch and a.traits.vision_heads is None and (
        a.vision_width % _HEAD_WIDTH and a.vision_width not in _OTHER_HEADS
    ):
        raise EncoderError(
            f"a vision transformer of width {a.vision_width} is none of OpenAI's, and nothing "
            "says how many heads it has: load the folder with its config.json, or by its own "
            "name, open_clip:ARCH/FILE"
        )
    for what, width, heads in (
        ("image", a.vision_width if a.patch else 64, a.vision_heads if a.patch else 1),
        ("text", a.text_width, a.text_heads),
    ):
        if width % heads:
            raise EncoderError(
                f"its {what} tower is {width} wide, which {heads} heads cannot share"
            )


def block_shapes(prefix: str, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one transformer block below `prefix`."""
    return {
        f"{prefix}ln_1.weight": (width,), f"{prefix}ln_1.bias": (width,),
        f"{prefix}attn.in_proj_weight": (3 * width, width),
        f"{prefix}attn.in_proj_bias": (3 * width,),
        f"{prefix}attn.out_proj.weight": (width, width), f"{prefix}attn.out_proj.bias": (width,),
        f"{prefix}ln_2.weight": (width,), f"{prefix}ln_2.bias": (width,),
        f"{prefix}mlp.c_fc.weight": (mlp, width), f"{prefix}mlp.c_fc.bias": (mlp,),
        f"{prefix}mlp.c_proj.weight": (width, mlp), f"{prefix}mlp.c_proj.bias": (width,),
    }


def expected_shapes(a: Architecture, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Every tensor that a CLIP of this architecture needs, the ResNet's image tower left out.

    Args:
        a: The architecture.
        shapes: The checkpoint's, for the width of the MLPs.

    Returns:
        Names and shapes.
    """

    def mlp(prefix: str) -> int:
        return checked_shape(shapes, f"{prefix}0.mlp.c_fc.weight", 2)[0]

    width = a.text_width
    wanted: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (a.vocabulary, width),
        "positional_embedding": (a.context, width),
        "ln_final.weight": (width,), "ln_final.bias": (width,),
        "text_projection": (width, a.embed),
    }
    text = "transformer.resblocks."
    for layer in range(a.text_layers):
        wanted |= block_shapes(f"{text}{layer}.", width, mlp(text))
    if a.patch is None or not isinstance(a.vision_layers, int):
        return wanted
    width, image = a.vision_width, "visual.transformer.resblocks."
    wanted |= {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((a.size // a.patch) ** 2 + 1, width),
        "visual.conv1.weight": (width, 3, a.patch, a.patch),
        "visual.ln_pre.weight": (width,), "visual.ln_pre.bias": (width,),
        "visual.ln_post.weight": (width,), "visual.ln_post.bias": (width,),
        "visual.proj": (width, a.embed),
    }
    for layer in range(a.vision_layers):
        wanted |= block_shapes(f"{image}{layer}.", width, mlp(image))
    return wanted
