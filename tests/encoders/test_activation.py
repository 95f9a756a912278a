"""The activation of a checkpoint: never guessed without a word."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.encoders import activation, known, load, resolve
from clipig.encoders.activation import decide, name_samples, samples
from clipig.encoders.architecture import Activation, Traits
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.protocol import EncoderInfo
from clipig.errors import EncoderError
from clipig.files import file_sha256
from tests.support.tiny_checkpoints import State, own_cache, state

__all__ = ["own_cache", "state"]


FACTORS = {"visual.conv1.weight": 0.02}


def trained(state: State, act: Activation) -> State:
    """A model that names the drawn samples under `act`: its last layer is solved for that."""
    # Samples that look much alike to the towers: the smallest change of those confuses them.
    found = {k: v * FACTORS.get(k, 8.0 if "mlp.c_fc" in k else 1.0) for k, v in state.items()}
    found |= {"text_projection": torch.eye(64), "visual.proj": torch.eye(128)[:, :64]}
    model = OpenAIEncoder(found, EncoderInfo("", 0, 0), traits=Traits(act))
    images, labels = samples(32)
    texts = model.encode_text([f"a photo of {label}" for label in labels])
    goals = F.normalize(torch.linalg.pinv(texts).T, dim=-1)  # each like its own text only
    model._tower.proj = torch.eye(128)  # type: ignore[assignment]
    inner = model._tower(images)
    return {**found, "visual.proj": torch.linalg.lstsq(inner, goals, driver="gelsd").solution}


@pytest.mark.parametrize("right", ["gelu", "quick_gelu"])
def test_the_activation_of_the_training_is_found(state: State, right: Activation) -> None:
    verdict = decide(trained(state, right), Traits())
    assert verdict.activation == right
    assert verdict.scores[right] > verdict.chance
    assert verdict.clear and f"{right} {verdict.scores[right]:.3f}" in verdict.sentence()


def test_the_choice_is_said_recorded_and_made_once(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "finetune.pt"
    torch.save(trained(state, "gelu"), path)
    with pytest.warns(UserWarning, match=r"nothing says its activation; gelu was taken"):
        info = resolve(str(path))
    assert info.activation == "gelu"
    assert "gelu was taken" in info.reason
    assert load(info).info.activation == "gelu"
    monkeypatch.setattr(activation, "decide", lambda *_: pytest.fail("tried again"))
    with pytest.warns(UserWarning, match="gelu was taken"):
        assert resolve(str(path)) == info


def test_what_the_user_says_stands_above_all(tmp_path: Path, state: State) -> None:
    path = tmp_path / "finetune.pt"
    torch.save(state, path)
    views = torch.rand(1, 3, 32, 32)
    found: dict[str, Tensor] = {}
    for word in ("gelu", "quick_gelu"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            info = resolve(str(path), activation=word)  # type: ignore[arg-type]
        encoder = load(info)
        assert encoder.info.activation == word
        found[word] = encoder.encode_image(views)
    assert float((found["gelu"] - found["quick_gelu"]).abs().max()) > 1e-4
    with pytest.raises(EncoderError, match="its activation is known"):
        resolve("ViT-B/32", activation="gelu")
    with pytest.raises(EncoderError, match="its activation is known"):
        resolve("embedded", activation="gelu")


def test_a_published_file_is_known_by_name_and_checksum(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "a.pt")
    digits = file_sha256(tmp_path / "a.pt")[:8]
    path = (tmp_path / "a.pt").rename(tmp_path / f"vit_b_32-laion-{digits}.pt")
    monkeypatch.setitem(known._BY_CHECKSUM, digits, "gelu")
    assert resolve(str(path)).activation == "gelu"
    monkeypatch.setitem(known._BY_CHECKSUM, "00000000", "gelu")
    other = path.rename(tmp_path / "vit_b_32-laion-00000000.pt")  # the checksum is another
    assert known.known_activation(other) is None


def test_samples_are_named_by_a_real_model() -> None:
    naming = name_samples(load("embedded"))
    assert naming.right >= 12
    assert naming.likelihood > naming.chance


def test_samples_differ_and_fit_any_size() -> None:
    for size in (16, 224):
        images, labels = samples(size)
        assert images.shape == (len(set(labels)), 3, size, size)
        assert float(images.min()) >= 0 and float(images.max()) <= 1
        apart = torch.cdist(images.flatten(1), images.flatten(1)) / size
        assert float((apart + torch.eye(len(labels))).min()) > 0.05
