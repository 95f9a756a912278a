"""Similarities of encoders with a sigmoid loss are reported on CLIP's scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clipig.config.load import load_text
from clipig.encoders.protocol import sigmoid_calibration
from clipig.engine.events import Step
from clipig.session import Session
from tests.support.tiny_encoder import TinyEncoder

TEXT = "{epochs: 3, resolution: 16, seed: 1, targets: [{batch_size: 2, features: [%s]}]}"


def run(monkeypatch: pytest.MonkeyPatch, feature: str, scale: float, zero: float) -> list[Step]:
    encoder = TinyEncoder(1)
    encoder._info = replace(encoder.info, scale=scale, zero=zero)
    session = Session()
    monkeypatch.setattr(session, "infos", lambda _: (encoder.info,))
    monkeypatch.setattr(session, "encoder", lambda *_: encoder)
    events = session.render(session.settle(load_text(TEXT % feature)))
    return [event for _, event in events if isinstance(event, Step)]


def test_similarities_are_scaled_and_shifted_and_steps_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = run(monkeypatch, "{text: a cat}", 100, 0)
    other = run(monkeypatch, "{text: a cat}", 110, 12)
    for a, b in zip(plain, other, strict=True):
        torch.testing.assert_close(b.similarity, a.similarity * 1.1 + 12)
        torch.testing.assert_close(b.loss, a.loss)
    assert torch.equal(plain[-1].picture().rgb, other[-1].picture().rgb)


def test_a_target_similarity_is_on_the_reported_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    capped = "{text: a cat, target_similarity: 50}"
    still, moving = (
        run(monkeypatch, capped, 110, zero)[-1].picture().rgb for zero in (300, -300)
    )
    free = run(monkeypatch, "{text: a cat}", 100, 0)[-1].picture().rgb
    assert torch.equal(moving, free)
    assert not torch.equal(still, free)


def test_undecided_is_twenty_five() -> None:
    scale, zero = sigmoid_calibration(110.0, -12.9)
    assert scale * (12.9 / 110) + zero == pytest.approx(25)
