"""Encoders on a device: no pass through them waits for it, in any precision."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clipig import encoders
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


BUILD: dict[str, Callable[[str], Encoder]] = {
    "tiny-ViT": openai("tiny-ViT"),
    "tiny-RN": openai("tiny-RN"),
    "embedded": lambda precision: encoders.load("embedded", DEVICE, precision),
}
CASES = [(name, precision) for name in BUILD for precision in ("fp32", "bf16", "fp16")
         if (name, precision) != ("embedded", "fp16")]
PASSES: dict[str, Callable[[Encoder, Tensor], list[Tensor]]] = {
    "image": lambda e, x: [e.encode_image(x)],
    "features": lambda e, x: list(e.features(x)),  # type: ignore[attr-defined]
    "both": lambda e, x: [(b := e.encode_with_features(x))[0], *b[1]],  # type: ignore[attr-defined]
}


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
