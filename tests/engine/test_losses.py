"""What is added up to the loss, and steps without a loss."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from clipig.config.schema import Experiment
from clipig.engine.events import Finished, Step
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.plan.compiler import compile
from clipig.plan.grouping import split
from tests.support.tiny_encoder import TinyEncoder

CAT = {
    "batch_size": 3, "features": [{"text": "a cat"}],
    "transforms": [{"random_shift": "-.3 .3"}, {"noise": 0.1}],
}


def experiment(seed: int = 1, **keys: Any) -> Experiment:
    return Experiment.model_validate(
        {"epochs": 6, "resolution": 20, "targets": [CAT], "seed": seed, **keys}
    )


def steps(*runs: Experiment) -> tuple[list[Step], list[torch.Tensor]]:
    """The steps of a plan, and the image after each."""
    encoder = TinyEncoder()
    plan = compile(runs, [encoder.info])
    found, images = [], []
    for event in optimize(plan, [encoder], encode_prompts(plan, [encoder], PromptCache())):
        if isinstance(event, Step):
            found.append(event)
            images.append(event.picture().rgb)
        assert not isinstance(event, Finished) or torch.equal(event.picture.rgb, images[-1])
    return found, images


def moves(images: list[torch.Tensor]) -> list[bool]:
    return [not torch.equal(a, b) for a, b in itertools.pairwise(images)]


@pytest.mark.parametrize("target", [
    {"end": 1}, {"weight": "1 if epoch < 2 else 0"},
    {"features": [{"text": "a cat", "end": 1}]},
    {"features": [{"text": "a cat", "weight": "1 if epoch < 2 else 0"}]},
    {"features": [], "constraints": [{"mean": {"above": 0.9, "end": 1, "weight": 1e-3}}]},
    {"features": [], "constraints": [{"mean": {"above": 0.9, "weight": "1e-3*(epoch < 2)"}}]},
])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprob", "sgd"])
def test_an_image_stays_when_the_last_loss_has_ended(
    target: dict[str, Any], optimizer: str
) -> None:
    _, images = steps(experiment(targets=[{**CAT, **target}], optimizer=optimizer))
    assert moves(images) == [True, False, False, False, False]


def test_the_first_step_with_a_loss_is_the_first_of_the_optimizer() -> None:
    """Adam's first step has the size of the learning rate, however late it comes."""
    _, images = steps(experiment(targets=[{**CAT, "start": 3}]))
    assert moves(images) == [False, False, True, True, True]
    assert float((images[3] - images[2]).abs().median()) == pytest.approx(0.01, rel=0.02)


def test_a_second_target_goes_on_when_the_first_has_ended() -> None:
    _, images = steps(experiment(targets=[{**CAT, "end": 1}, {**CAT, "start": 4}]))
    assert moves(images) == [True, False, False, True, True]


def test_runs_without_a_loss_do_not_share_a_plan_with_others() -> None:
    still = [{**CAT, "weight": "epoch < 2"}]
    runs = [experiment(1), experiment(2, targets=still), experiment(3)]
    assert split(runs) == [[0, 2], [1]]


def test_a_weight_that_depends_on_the_similarity_weighs_each_view() -> None:
    """Not their mean times the sum of the losses."""
    (step, *_), _ = steps(experiment(targets=[{**CAT, "weight": "1 + sim/10"}]))
    (rating,) = step.targets[0].ratings
    expected = ((1 + rating.similarity / 10) * rating.losses).sum()
    torch.testing.assert_close(step.loss[0], expected)
    mean = (1 + rating.similarity / 10).mean() * rating.losses.sum()
    assert float((expected - mean).abs()) > 1e-3


def test_a_random_weight_weighs_each_view() -> None:
    run = experiment(targets=[{**CAT, "weight": "random() + 0*t"}])
    (step, *_), _ = steps(run)
    plan = compile([run], [TinyEncoder().info])
    weight = plan.phases[0].targets[0].bound.tables["weight"].at(0)[..., 0]
    assert weight.shape == (1, 3)
    expected = (weight * step.targets[0].ratings[0].losses[..., 0]).sum()
    torch.testing.assert_close(step.loss[0], expected)
