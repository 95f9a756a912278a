"""A model per target: which encoder looks at which target, and when."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from clipig.config.dump import dump
from clipig.config.load import load_text
from clipig.config.schema import Experiment
from clipig.engine.events import Step
from clipig.errors import ConfigError
from clipig.session import Session
from tests.support.tiny_encoder import TinyEncoder

HEAD = "epochs: 6, resolution: 20, seed: 3, seeds: same, device: cpu, precision: fp32"
VIEWS = "transforms: [{random_crop: 16}], batch_size: 2"


class Counted(TinyEncoder):
    """Counts the passes that a model makes."""

    def __init__(self, seed: int, size: int = 16):
        super().__init__(seed, size)
        self.passes = 0

    def encode_image(self, views: Tensor) -> Tensor:
        self.passes += 1
        return super().encode_image(views)


def session(monkeypatch: pytest.MonkeyPatch) -> tuple[Session, dict[str, Counted]]:
    encoders = {"small": Counted(1), "large": Counted(2, 24)}
    found = Session()
    monkeypatch.setattr(
        found, "infos", lambda e: tuple(encoders[m.name].info for m in e.model)
    )
    monkeypatch.setattr(
        found, "encoders", lambda e: tuple(encoders[m.name] for m in e.model)
    )
    return found, encoders


def experiment(targets: str, model: str = "[small, large]", runs: int = 1) -> Experiment:
    return load_text(f"{{{HEAD}, runs: {runs}, model: {model}, targets: [{targets}]}}")


def test_a_target_with_one_model_is_that_of_this_model_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("small", "large"):
        found, _ = session(monkeypatch)
        target = f"{{features: [{{text: a cat}}], {VIEWS}, models: [{name}]}}"
        among = found.run(experiment(target))
        alone = found.run(experiment(target.replace(f", models: [{name}]", ""), name))
        assert torch.equal(among.images, alone.images)
        assert among.similarities == alone.similarities


TWO = (f"{{features: [{{text: a cat}}], {VIEWS}, models: [small], end: 50%}}, "
       f"{{features: [{{text: a cat}}], {VIEWS}, models: [large], start: 50%}}")


def test_a_small_model_begins_and_a_large_one_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    found, encoders = session(monkeypatch)
    images = found.run(experiment(TWO)).images
    passes = Counter({name: e.passes for name, e in encoders.items()})
    assert passes["small"] + passes["large"] >= 6 and min(passes.values()) >= 2
    steps = [e for _, e in found.render(found.settle(experiment(TWO))) if isinstance(e, Step)]
    assert len(steps) == 6
    assert torch.equal(steps[-1].picture().rgb.clamp(0, 1), images)


def test_runs_share_a_batch_and_a_stopped_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = session(monkeypatch)
    alone = found.run(experiment(TWO)).images
    several = found.run(experiment(TWO, runs=2)).images
    torch.testing.assert_close(several[:1], alone, atol=1e-5, rtol=1e-5)
    settled = found.settle(experiment(TWO))
    for until in (2, 3, 5):
        *_, (_, event) = found.render(settled, until=until)
        assert isinstance(event, Step)
        *_, (_, last) = found.render(settled, [event.state()])
        torch.testing.assert_close(last.picture.rgb, alone)  # type: ignore[union-attr]


def test_the_targets_of_an_ensemble_keep_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = session(monkeypatch)
    target = f"{{features: [{{text: a cat}}], {VIEWS}%s}}"
    model = "[small, {name: large, weight: 3}]"
    only = found.run(experiment(target % ", models: [large]", model)).images
    scaled = found.run(experiment(target % ", weight: 3", "large")).images
    torch.testing.assert_close(only, scaled, atol=1e-6, rtol=1e-5)


def test_the_model_of_the_command_line_looks_at_all_targets() -> None:
    found = Session(model="embedded")
    prepared = found.prepare(experiment(TWO))
    assert [m.name for m in prepared.model] == ["embedded"]
    assert all(t.models is None for t in prepared.targets)


def test_names_are_those_of_the_models() -> None:
    target = "{features: [{text: a cat}], models: %s}"
    with pytest.raises(ConfigError, match=r"found 'lage', expected names from `model`: sm"):
        experiment(target % "[lage]")
    with pytest.raises(ConfigError, match="empty list"):
        experiment(target % "[]")
    whole = experiment(TWO)
    assert load_text(dump(whole)).targets == whole.targets
