"""Encoders on a device: no pass through them waits for it, in any precision."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipig import encoders
from clipig.encoders.architecture import Traits
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.protocol import Encoder, EncoderInfo
from tests.support.meta_device import DEVICE, elsewhere
from tests.support.tiny_checkpoints import random_checkpoint


@functools.cache
def tensors(name: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = random_checkpoint.random_state_dict(name)
    return found


def openai(name: str) -> Callable[[str], Encoder]:
    def build(precision: str) -> Encoder:
        return OpenAIEncoder(tensors(name), EncoderInfo(name, 0, 0), DEVICE, precision)

    return build


def gelu(precision: str) -> Encoder:
    return OpenAIEncoder(
        tensors("tiny-ViT"), EncoderInfo("gelu", 0, 0), DEVICE, precision, Traits("gelu")
    )


@functools.cache
def written(kind: str) -> str:
    """A model of a library on the disk, by its name in `test_layouts`."""
    pytest.importorskip("transformers")
    pytest.importorskip("open_clip")
    from tests.encoders.test_layouts import CASES

    folder = Path(tempfile.mkdtemp(prefix="clipig-test-")) / "model"
    folder.mkdir()
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    return CASES[kind](folder).name


def layout(kind: str) -> Callable[[str], Encoder]:
    return lambda precision: encoders.load(encoders.resolve(written(kind)), DEVICE, precision)


LAYOUTS = (
    "transformers, GELU", "SigLIP, transformers", "open_clip, own text tower",
    "timm ViT (PE-Core, SigLIP)", "timm EVA02", "timm FastViT (MobileCLIP2)",
)
BUILD: dict[str, Callable[[str], Encoder]] = {
    "tiny-ViT": openai("tiny-ViT"),
    "tiny-RN": openai("tiny-RN"),
    "gelu": gelu,
    "embedded": lambda precision: encoders.load("embedded", DEVICE, precision),
    **{kind: layout(kind) for kind in LAYOUTS},
}
CASES = [(name, precision) for name in BUILD for precision in ("fp32", "bf16", "fp16")
         if (name, precision) != ("embedded", "fp16")
         # open_clip's towers compute in half precision by autocast, which meta does not have
         and (precision == "fp32" or not name.startswith("timm"))]
PASSES: dict[str, Callable[[Encoder, Tensor], list[Tensor]]] = {
    "image": lambda e, x: [e.encode_image(x)],
    "features": lambda e, x: list(e.features(x)),  # type: ignore[attr-defined]
    "both": lambda e, x: [(b := e.encode_with_features(x))[0], *b[1]],  # type: ignore[attr-defined]
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", PASSES)
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_forward_and_backward(name: str, precision: str, what: str) -> None:
    encoder = BUILD[name](precision)
    side = encoder.info.size
    views = torch.zeros(4, 3, side, side, device=DEVICE, requires_grad=True)
    with elsewhere():
        found = PASSES[what](encoder, views)
        torch.autograd.backward(found, [torch.ones_like(x) for x in found])
    assert views.grad is not None and views.grad.shape == views.shape
    assert {x.dtype for x in (*found, views.grad)} == {torch.float32}
    if what == "image":
        assert tuple(found[0].shape) == (4, encoder.info.width)
