"""Patch dropout: an encoder looks at a random part of the patches of each view."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clipig.config.load import load_text
from clipig.config.schema import Experiment
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import ConfigError
from clipig.session import Session
from tests.support.meta_device import DEVICE, elsewhere
from tests.support.tiny_checkpoints import State, own_cache, state

__all__ = ["own_cache", "state"]
TEXT = """{
epochs: 2, resolution: 32, seed: 1, seeds: same, runs: %d, device: cpu, precision: fp32,
model: {name: %s, activation: gelu, patch_dropout: %s},
targets: [{batch_size: 3, features: [{text: a cat}], transforms: [{random_crop: 24}]},
          {features: [{text: a dog}]}]}"""


@pytest.fixture
def file(tmp_path: Path, state: State) -> str:
    torch.save(state, tmp_path / "tiny.pt")
    return str(tmp_path / "tiny.pt")


def experiment(file: str, share: float, runs: int = 1) -> Experiment:
    return load_text(TEXT % (runs, file, share))


def test_all_patches_kept_in_any_order_is_the_whole_view(state: State) -> None:
    encoder = OpenAIEncoder(state, EncoderInfo("", 0, 0))
    views = torch.rand(3, 3, 32, 32)
    order = torch.stack([torch.randperm(16) for _ in range(3)])
    assert encoder.patches == 16
    torch.testing.assert_close(
        encoder.encode_image(views, order), encoder.encode_image(views), atol=1e-5, rtol=1e-5
    )


def test_gradients_reach_the_kept_patches_only(state: State) -> None:
    encoder = OpenAIEncoder(state, EncoderInfo("", 0, 0))
    views = torch.rand(1, 3, 32, 32, requires_grad=True)
    encoder.encode_image(views, torch.tensor([[5, 2, 11]]))[0, 0].backward()
    assert views.grad is not None
    patches = views.grad.unfold(2, 8, 8).unfold(3, 8, 8).abs().sum((0, 1, 4, 5)).flatten()
    assert patches.nonzero().flatten().tolist() == [2, 5, 11]


def test_a_run_does_not_depend_on_its_neighbours_and_patches_change_every_step(file: str) -> None:
    alone = Session().run(experiment(file, 0.5))
    several = Session().run(experiment(file, 0.5, runs=2))
    whole = Session().run(experiment(file, 0))
    torch.testing.assert_close(several.images[0], alone.images[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(Session().run(experiment(file, 0.5)).images, alone.images)
    assert not torch.allclose(whole.images, alone.images, atol=1e-4)


def test_chunks_see_the_same_patches(file: str) -> None:
    session = Session()
    whole = session.run(experiment(file, 0.5)).images
    session.settings = type(session.settings)(chunk=1)
    cut = session.run(experiment(file, 0.5)).images
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-5)


def test_a_model_without_patches_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\[0\].patch_dropout.*embedded has no patches"):
        Session().run(load_text(
            "{model: {name: embedded, patch_dropout: .5}, targets: [{features: [{text: a cat}]}]}"
        ))


def test_nothing_waits_for_the_device(state: State) -> None:
    encoder = OpenAIEncoder(state, EncoderInfo("", 0, 0), DEVICE)
    views = torch.zeros(2, 3, 32, 32, device=DEVICE, requires_grad=True)
    keep = torch.zeros(2, 4, dtype=torch.int64, device=DEVICE)
    with elsewhere():
        encoder.encode_image(views, keep).sum().backward()
    assert views.grad is not None
