"""The loop: batched equals alone, seeds reproduce, resume equals uninterrupted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from clipig.config.dump import dump
from clipig.config.load import load_text
from clipig.config.schema import Experiment
from clipig.engine.events import Diverged, Event, Finished, PhaseBegun, Step
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.engine.state import State
from clipig.errors import ConfigError
from clipig.jobs.batches import settle
from clipig.ops.constraints import CONSTRAINTS
from clipig.ops.optimizers import OPTIMIZERS
from clipig.plan.compiler import compile
from clipig.plan.grouping import split
from clipig.session import Session
from tests.support.tiny_encoder import TinyEncoder

BASE: dict[str, Any] = {
    "epochs": 6,
    "resolution": 24,
    "init": {"mean": 0.5, "std": 0.2},
    "targets": [
        {
            "batch_size": 3,
            "features": [{"text": "a cat"}],
            "transforms": [
                {"pad": {"size": 4, "mode": "edge"}},
                {"random_rotate": {"degree": "-20 20", "center": "0 1"}},
                {"mul": "1/2"},
                {"noise": 0.1},
            ],
        }
    ],
}


def experiment(seed: int = 0, **changes: Any) -> Experiment:
    """The base experiment with some keys changed."""
    return Experiment.model_validate({**BASE, "seed": seed, **changes})


def target(**changes: Any) -> list[dict[str, Any]]:
    """A list with the base target, some keys changed."""
    return [{**BASE["targets"][0], **changes}]


def events(experiments: Sequence[Experiment], state: State | None = None,
           encoders: Sequence[TinyEncoder] | None = None) -> list[Event]:
    """All events of a run with the tiny encoder."""
    loaded = encoders or [TinyEncoder()]
    plan = compile(experiments, [e.info for e in loaded])
    prompts = encode_prompts(plan, loaded, PromptCache(painting))
    return list(optimize(plan, loaded, prompts, state=state))


def painting(name: str, side: int) -> torch.Tensor:
    """A picture that depends on its name only."""
    small = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(len(name)))
    return torch.nn.functional.interpolate(small[None], (side, side), mode="bilinear")[0]


def picture(experiments: Sequence[Experiment]) -> torch.Tensor:
    """The final pictures `[R, 3, H, W]`."""
    last = events(experiments)[-1]
    assert isinstance(last, Finished)
    return last.picture.rgb


def assert_alone_equals_batch(**changes: Any) -> None:
    """Each of three runs gives the same picture alone and beside the others."""
    runs = [experiment(seed, **changes) for seed in (1, 2, 3)]
    together = picture(runs)
    for row, one in enumerate(runs):
        torch.testing.assert_close(picture([one])[0], together[row], atol=2e-5, rtol=0)
    assert not torch.equal(together[0], together[1])


def test_similarity_rises() -> None:
    steps = [e for e in events([experiment(epochs=60)]) if isinstance(e, Step)]
    first = torch.stack([e.similarity for e in steps[:5]]).mean()
    last = torch.stack([e.similarity for e in steps[-5:]]).mean()
    assert last > first + 10


def test_equal_seeds_give_equal_bits() -> None:
    assert torch.equal(picture([experiment(5)]), picture([experiment(5)]))
    assert not torch.equal(picture([experiment(5)]), picture([experiment(6)]))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_is_batched_as_alone(name: str) -> None:
    assert_alone_equals_batch(optimizer=name)


@pytest.mark.parametrize("name", sorted(CONSTRAINTS))
def test_every_constraint_is_batched_as_alone(name: str) -> None:
    body: dict[str, Any] = {"weight": 2}
    cls = CONSTRAINTS[name]
    if "above" in cls.model_fields:
        body["above"] = 0.6
    for field, info in cls.model_fields.items():
        if info.is_required() and field not in body:
            body[field] = 0.1
    if name == "colors":
        body["palette"] = [0, 0, 0, 0.8, 0.1, 0.1]
    if name == "style":
        body["image"] = "a.png"
    assert_alone_equals_batch(targets=target(constraints=[{name: body}]))


@pytest.mark.parametrize("changes", [
    {"targets": target(select="best", features=[{"text": "a cat"}, {"text": "a dog"}])},
    {"targets": target(
        select="mix", features=[{"text": "a cat"}, {"text": "a dog", "weight": -1}])},
    {"targets": target(feature_scale="fair", features=[{"text": "a cat"}, {"text": "a dog"}])},
    {"targets": target(features=[{"text": "a cat", "weight": "1+sim/100"}])},
    {"resolution": ["{0: 8, 1: 16}.get(int(t*4), 24)"], "optimizer_state": "carry"},
    {"postproc": [{"blur": 3, "end": "50%"}, {"noise": 0.02}]},
    {"gradient": "normalize"}, {"gradient": "clip"}, {"ema": 0.9},
    {"targets": target(transforms=[{"rotate": "uniform(-9, 9)*t"}, {"noise": "random()*.2"}])},
])
def test_options_are_batched_as_alone(changes: dict[str, Any]) -> None:
    assert_alone_equals_batch(**changes)


def test_rows_may_differ_in_numbers_and_prompts() -> None:
    runs = [
        experiment(1, learnrate=1), experiment(2, learnrate="2*(1-t)"),
        experiment(3, targets=target(features=[{"text": "a dog"}])),
        experiment(4, targets=target(transforms=[
            {"pad": {"size": 4, "mode": "edge"}},
            {"random_rotate": {"degree": "-50 50", "center": 0.5}}, {"mul": 0.3},
            {"noise": 0.2},
        ])),
    ]
    assert split(runs) == [[0, 1, 2, 3]]
    together = picture(runs)
    for row, one in enumerate(runs):
        torch.testing.assert_close(picture([one])[0], together[row], atol=2e-5, rtol=0)


def test_structure_splits_batches() -> None:
    runs = [
        experiment(1), experiment(2, epochs=7), experiment(3, optimizer="sgd"),
        experiment(4, targets=target(batch_size=2)), experiment(5, resolution=20),
        experiment(6, canvas={"pixels": "sigmoid"}), experiment(7),
    ]
    assert split(runs) == [[0, 6], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("changes", [
    {}, {"ema": 0.8}, {"optimizer": "rmsprob"},
    {"resolution": ["8 if t<.5 else 24"], "optimizer_state": "carry"},
    {"targets": target(feature_scale="fair", features=[{"text": "a cat"}, {"text": "a dog"}])},
])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_equals_uninterrupted(changes: dict[str, Any], stop: int) -> None:
    runs = [experiment(1, **changes), experiment(2, **changes)]
    loaded = [TinyEncoder()]
    plan = compile(runs, [loaded[0].info])
    prompts = encode_prompts(plan, loaded, PromptCache())
    state = None
    for event in optimize(plan, loaded, prompts):
        if isinstance(event, Step) and event.step == stop:
            state = event.state()
            break
    resumed = list(optimize(plan, loaded, prompts, state=state))[-1]
    assert isinstance(resumed, Finished)
    assert torch.equal(resumed.picture.rgb, picture(runs))


def test_a_run_that_diverges_keeps_its_picture_and_harms_nobody() -> None:
    wild = target(constraints=[{"mean": {"above": 0.9, "weight": "1e38*1e38 if t>.5 else 0"}}])
    calm = target(constraints=[{"mean": {"above": 0.9, "weight": 0}}])
    runs = [experiment(1, targets=calm), experiment(2, targets=wild)]
    seen = events(runs)
    diverged = [e for e in seen if isinstance(e, Diverged)]
    assert [e.runs for e in diverged] == [(1,)]
    last = seen[-1]
    assert isinstance(last, Finished)
    assert last.alive.tolist() == [True, False]
    assert torch.isfinite(last.picture.rgb).all()
    torch.testing.assert_close(last.picture.rgb[0], picture(runs[:1])[0], atol=2e-5, rtol=0)


def test_phases_begin_where_sizes_change() -> None:
    run = experiment(resolution=["8 if t<.5 else 24"], epochs=10)
    sizes = [e.size for e in events([run]) if isinstance(e, PhaseBegun)]
    assert sizes == [(8, 8), (24, 24)]
    shapes = {e.size for e in events([run]) if isinstance(e, Step)}
    assert shapes == {(8, 8), (24, 24)}


def test_views_without_randomness_are_made_once_and_count_fully() -> None:
    plain = target(transforms=[{"mul": 0.5}], batch_size=5)
    plan = compile([experiment(targets=plain)], [TinyEncoder().info])
    assert (plan.phases[0].targets[0].views, plan.phases[0].targets[0].repeats) == (1, 5)
    alone = target(transforms=[{"mul": 0.5}], batch_size=1)
    five = next(e for e in events([experiment(targets=plain)]) if isinstance(e, Step))
    one = next(e for e in events([experiment(targets=alone)]) if isinstance(e, Step))
    torch.testing.assert_close(five.loss, 5 * one.loss)


def test_losses_follow_their_formulas() -> None:
    encoder = TinyEncoder()
    features = [{"text": "a cat", "loss": kind} for kind in ("cosine", "l1", "l2")]
    run = experiment(targets=target(transforms=[], features=features, batch_size=1))
    step = next(e for e in events([run]) if isinstance(e, Step))
    start = next(iter(_start_picture(run)))
    with torch.no_grad():
        view = torch.nn.functional.interpolate(
            start[None].clamp(0, 1), size=(16, 16), mode="bilinear", antialias=True
        )
        image = encoder.encode_image(view)[0]
    text = encoder.encode_text(["a cat"])[0]
    expected = [
        1 - float(image @ text), 100 * float((image - text).abs().mean()),
        100 * float((image - text).square().mean()),
    ]
    torch.testing.assert_close(
        step.targets[0].losses[0], torch.tensor(expected), atol=1e-4, rtol=1e-4
    )
    assert step.loss[0] == pytest.approx(sum(expected), abs=1e-3)


def _start_picture(run: Experiment) -> torch.Tensor:
    from clipig.engine.execution import Execution
    from clipig.engine.loop import Optimization

    encoder = TinyEncoder()
    plan = compile([run], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    running = Optimization(plan, [encoder], prompts, None, None, None, Execution())
    return running.canvas.raw()


def test_negative_weight_pushes_away() -> None:
    away = experiment(targets=target(features=[{"text": "a cat", "weight": -1}]), epochs=40)
    steps = [e for e in events([away]) if isinstance(e, Step)]
    assert steps[-1].targets[0].similarity[0, 0] < steps[0].targets[0].similarity[0, 0] - 5


def test_target_similarity_is_a_ceiling() -> None:
    capped = target(features=[{"text": "a cat", "target_similarity": 10}])
    free = [e for e in events([experiment(epochs=60)]) if isinstance(e, Step)][-1]
    held = [e for e in events([experiment(epochs=60, targets=capped)]) if isinstance(e, Step)][-1]
    assert held.similarity[0] < free.similarity[0] - 10


def test_windows_are_inclusive_at_both_ends() -> None:
    features = [{"text": "a cat"}, {"text": "a dog", "start": 2, "end": 3}]
    steps = [e for e in events([experiment(targets=target(features=features))])
             if isinstance(e, Step)]
    assert [e.epoch for e in steps if 1 in e.targets[0].features] == [2, 3]


def test_an_ensemble_adds_up() -> None:
    run = experiment(model=[{"name": "a", "weight": 2}, {"name": "b", "weight": 0.5}])
    both = events([run], encoders=[TinyEncoder(0), TinyEncoder(1, size=24, width=6)])
    first = next(e for e in both if isinstance(e, Step))
    one = next(e for e in events([experiment()], encoders=[TinyEncoder(0)]) if isinstance(e, Step))
    other = next(
        e for e in events([experiment()], encoders=[TinyEncoder(1, size=24, width=6)])
        if isinstance(e, Step)
    )
    torch.testing.assert_close(first.loss, 2 * one.loss + 0.5 * other.loss)
    last = both[-1]
    assert isinstance(last, Finished)
    assert torch.isfinite(last.picture.rgb).all()


def test_encoders_of_an_ensemble_share_views_or_have_their_own() -> None:
    noisy = target(transforms=[{"random_rotate": "-40 40"}, {"noise": 0.3}])
    twins = [TinyEncoder(0), TinyEncoder(0)]

    def first(models: list[object], encoders: list[TinyEncoder]) -> torch.Tensor:
        seen = events([experiment(model=models, targets=noisy)], encoders=encoders)
        return next(e for e in seen if isinstance(e, Step)).loss

    alone = first(["a"], twins[:1])
    shared = first(["a", "b"], twins)
    fresh = first(["a", {"name": "b", "views": "fresh"}], twins)
    torch.testing.assert_close(shared, 2 * alone)
    assert (fresh - 2 * alone).abs() > 1e-4
    torch.testing.assert_close(first([{"name": "a", "views": "fresh"}, "b"], twins), shared)


def test_views_of_its_own_survive_a_dump_and_a_batch() -> None:
    models = ["embedded", {"name": "embedded-judge", "views": "fresh"}]
    run = experiment(model=models, targets=target())
    assert load_text(dump(run)).model == run.model
    assert settle(Session(device="cpu"), run).model == run.model


def test_constraints_alone_are_enough() -> None:
    only = [{"constraints": [{"mean": {"above": 0.9}}], "batch_size": 1}]
    final = picture([experiment(targets=only, epochs=80)])
    assert final.clamp(0, 1).mean() > 0.8


def test_nothing_but_noise_is_a_picture_too() -> None:
    assert picture([experiment(targets=[])]).shape == (1, 3, 24, 24)


def test_long_texts_are_all_told_and_cut_only_if_asked() -> None:
    long = "cat " * 100
    encoder = TinyEncoder()
    run = experiment(targets=target(features=[{"text": long}, {"text": "a dog"}, {"text": long}]))
    plan = compile([run], [encoder.info])
    with pytest.raises(ConfigError) as caught:
        encode_prompts(plan, [encoder], PromptCache())
    assert [p.key for p in caught.value.problems] == [
        "targets[0].features[0].text", "targets[0].features[2].text",
    ]
    assert "102 tokens" in str(caught.value)
