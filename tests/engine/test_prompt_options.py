"""Options of a feature: presets, and the bridge over the gap between texts and pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import clipig
from clipig.engine.goals import PromptCache
from tests.support.tiny_encoder import TinyEncoder

CONFIG = """\
epochs: 2
resolution: 16
targets:
  - features:
      - {text: a cat}
      - %s
"""


def second(words: str) -> clipig.Experiment:
    return clipig.load_text(CONFIG % words)


def test_no_text_is_written_out() -> None:
    experiment = second("{preset: no-text}")
    feature = experiment.targets[0].features[1]
    assert "letters" in (feature.texts or []) and feature.weight.numbers() == (-0.3,)
    assert clipig.load_text(clipig.dump(experiment)) == experiment


def test_a_preset_may_be_weighted_and_have_a_window() -> None:
    feature = second("{preset: no-text, weight: -.1, end: 50%}").targets[0].features[1]
    assert feature.weight.numbers() == (-0.1,) and feature.texts


@pytest.mark.parametrize(("words", "message"), [
    ("{preset: no-txt}", "no-text"),
    ("{preset: no-text, text: a dog}", "a preset beside `text`"),
])
def test_bad_presets(words: str, message: str) -> None:
    with pytest.raises(clipig.ConfigError, match=message):
        second(words)


class WithGap(TinyEncoder):
    gap = torch.linspace(-1, 1, 8)


def test_the_bridge_moves_texts_towards_pictures() -> None:
    encoder = WithGap()
    dogs = [second(f"{{text: a dog, bridge: {b}}}").targets[0].features[1] for b in (0, 0.5, 1)]
    plain, half, whole = PromptCache().embed(encoder, dogs)
    expected = torch.nn.functional.normalize(plain + encoder.gap, dim=0)
    torch.testing.assert_close(whole, expected)
    assert float(half @ expected) > float(plain @ expected)
    assert half.norm() == pytest.approx(1)


def test_a_bridge_needs_statistics() -> None:
    feature = second("{text: a dog, bridge: .5}").targets[0].features[1]
    with pytest.raises(clipig.ClipigError, match="leave `bridge` out"):
        PromptCache().embed(TinyEncoder(), [feature])


@pytest.mark.parametrize("name", ["embedded"])
def test_the_embedded_model_knows_its_gap(name: str) -> None:
    encoder = clipig.load_encoder(name)
    feature = second("{text: a dog, bridge: 1}").targets[0].features[1]
    assert PromptCache().embed(encoder, [feature]).shape == (1, encoder.info.width)


# ------------------------------------------------------------ one word for the whole recipe


def test_quality_is_written_out_and_gives_way() -> None:
    plain = clipig.load_text("quality: good\ntargets: [{features: [{text: a cat}]}]")
    assert plain.canvas.name == "pyramid" and plain.epochs.numbers() == (160,)
    assert plain.targets[0].transforms and plain.targets[0].batch_size.numbers() == (8,)
    assert plain.quality is None and clipig.load_text(clipig.dump(plain)) == plain
    own = clipig.load_text(
        "quality: best\nepochs: 5\ncanvas: pixels\n"
        "targets: [{features: [{text: a cat}], transforms: [{noise: .1}]}]"
    )
    assert own.canvas.name == "pixels" and own.epochs.numbers() == (5,) and own.ema == 0.9
    assert len(own.targets[0].transforms) == 1 and own.targets[0].batch_size.numbers() == (1,)


@pytest.mark.parametrize("word", ["draft", "good", "best"])
def test_every_quality_runs(word: str) -> None:
    experiment = clipig.load_text(
        f"quality: {word}\nmodel: embedded\nseed: 1\ntargets: [{{features: [{{text: a cat}}]}}]",
        overrides=["epochs=2"],
    )
    assert clipig.run(experiment).images.isfinite().all()


def test_bad_quality() -> None:
    with pytest.raises(clipig.ConfigError, match="draft"):
        clipig.load_text("quality: fine\ntargets: [{features: [{text: a cat}]}]")


@pytest.mark.parametrize("other", [
    {"name": "tiny-0", "checksum": "sha256:other"}, {"device": "meta"}, {"dtype": torch.bfloat16},
])
def test_embeddings_are_kept_apart_by_weights_device_and_precision(
    other: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, first = PromptCache(), TinyEncoder()
    twin = TinyEncoder(1, device=str(other.get("device", "cpu")))
    checksum = str(other.get("checksum", first.info.checksum))
    twin._info = replace(first.info, checksum=checksum)
    if "dtype" in other:
        monkeypatch.setattr(TinyEncoder, "dtype", property(
            lambda self: torch.bfloat16 if self is twin else torch.float32))
    feature = second("{text: a dog}").targets[0].features[1]
    rows: list[str] = []
    for encoder in (first, twin):
        real = encoder.encode_text
        monkeypatch.setattr(encoder, "encode_text", lambda t, real=real, **k: rows.append("x")
                            or real(t, **k))
        assert cache.embed(encoder, [feature]).device == encoder.device
    assert len(rows) == 2
