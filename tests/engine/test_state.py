"""Resume states: what is wrong with one is named; nothing is taken from it then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from clipig.config.schema import Experiment
from clipig.engine.events import Finished, Step
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.engine.state import State, join_states, split_state
from clipig.errors import StateError
from clipig.ops.canvases import CANVASES
from clipig.plan.compiler import compile
from tests.support.tiny_encoder import TinyEncoder

BASE: dict[str, Any] = {
    "epochs": 8, "resolution": "16 if t < .4 else 24", "ema": 0.5, "optimizer_state": "carry",
    "targets": [{
        "features": [{"text": "a cat"}, {"text": "a dog"}], "feature_scale": "fair",
        "transforms": [{"noise": 0.1}],
    }],
}


def run(state: State | None = None, stop: int | None = None, **keys: Any) -> State | torch.Tensor:
    """The state after `stop` steps, or the images at the end."""
    runs = [Experiment.model_validate({**BASE, **keys, "seed": seed}) for seed in (1, 2)]
    encoder = TinyEncoder()
    plan = compile(runs, [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache())
    for event in optimize(plan, [encoder], prompts, state=state):
        if isinstance(event, Step) and event.step == stop:
            return event.state()
    assert isinstance(event, Finished)
    return event.picture.rgb


@pytest.fixture(scope="module")
def saved() -> State:
    found = run(stop=5)
    assert isinstance(found, State)
    return found


@pytest.mark.parametrize("canvas", sorted(CANVASES))
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_state_of_every_canvas_is_taken_before_and_after_a_change_of_size(
    canvas: str, stop: int
) -> None:
    state = run(stop=stop, canvas=canvas)
    assert isinstance(state, State)
    resumed, whole = run(state, canvas=canvas), run(canvas=canvas)
    assert isinstance(resumed, torch.Tensor) and isinstance(whole, torch.Tensor)
    assert torch.equal(resumed, whole)


def moment(name: str, value: torch.Tensor) -> Callable[[State], State]:
    return lambda s: replace(
        s, optimizer={"pixels": {**s.optimizer["pixels"], name: value}})


WRONG: dict[str, tuple[Callable[[State], State], str]] = {
    "step": (lambda s: replace(s, step=99), "step: found 99, expected 0 to 8"),
    "size": (lambda s: replace(s, size=(9, 9)), "size: found (9, 9), expected (24, 24)"),
    "alive dtype": (lambda s: replace(s, alive=torch.ones(2)), "alive: found torch.float32"),
    "alive shape": (lambda s: replace(s, alive=s.alive[:1]), "alive: found the shape [1]"),
    "no canvas": (lambda s: replace(s, canvas={}), "canvas: found nothing, expected 'pixels'"),
    "other canvas": (lambda s: replace(s, canvas={"waves": torch.zeros(2)}), "canvas: found 'wav"),
    "canvas shape": (
        lambda s: replace(s, canvas={"pixels": torch.zeros(2, 3, 9, 9)}),
        "canvas/pixels: found the shape [2, 3, 9, 9], expected [2, 3, 24, 24]"),
    "canvas dtype": (
        lambda s: replace(s, canvas={"pixels": s.canvas["pixels"].double()}),
        "canvas/pixels: found torch.float64, expected torch.float32"),
    "canvas value": (
        lambda s: replace(s, canvas={"pixels": s.canvas["pixels"] / 0}), "canvas/pixels: found"),
    "canvas sparse": (
        lambda s: replace(s, canvas={"pixels": s.canvas["pixels"].to_sparse()}), "canvas/pixels"),
    "moment name": (moment("extra", torch.zeros(())), "optimizer/pixels: found 'exp_avg'"),
    "moment shape": (moment("exp_avg", torch.zeros(2)), "optimizer/pixels/exp_avg: found the sh"),
    "moment count": (moment("step", torch.zeros(2)), "optimizer/pixels/step: found the shape [2]"),
    "moment value": (moment("step", torch.tensor(torch.inf)), "optimizer/pixels/step: found a val"),
    "other parameter": (lambda s: replace(s, optimizer={"x": {}}), "optimizer: found 'x'"),
    "no average": (lambda s: replace(s, average=None), "average: found none"),
    "average shape": (lambda s: replace(s, average=torch.zeros(1)), "average: found the shape"),
    "fair name": (lambda s: replace(s, fair={(7, 0): torch.ones(2, 2)}), "fair: found '7/0'"),
    "fair value": (lambda s: replace(s, fair={(0, 0): torch.full((2, 2), torch.nan)}), "fair/0/0"),
    "fair shape": (lambda s: replace(s, fair={(0, 0): torch.ones(2, 3)}), "fair/0/0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_state_is_refused_with_the_value_that_is_wrong(name: str, saved: State) -> None:
    change, message = WRONG[name]
    with pytest.raises(StateError) as caught:
        run(change(saved))
    assert str(caught.value).startswith(message)


def test_moments_of_a_run_that_diverged_may_be_anything(saved: State) -> None:
    average = saved.optimizer["pixels"]["exp_avg"].clone()
    average[1] = torch.nan
    fallen = replace(moment("exp_avg", average)(saved), alive=torch.tensor([True, False]))
    resumed, whole = run(fallen), run()
    assert isinstance(resumed, torch.Tensor) and isinstance(whole, torch.Tensor)
    torch.testing.assert_close(resumed[0], whole[0], atol=1e-6, rtol=0)
    assert bool(resumed.isfinite().all())


def test_a_state_is_split_by_runs_and_joined_again(saved: State) -> None:
    again = join_states(split_state(saved))
    resumed, whole = run(again), run()
    assert isinstance(resumed, torch.Tensor) and isinstance(whole, torch.Tensor)
    assert torch.equal(resumed, whole)


def test_states_of_different_steps_are_not_joined(saved: State) -> None:
    one, other = split_state(saved)
    with pytest.raises(StateError, match="different steps"):
        join_states([one, replace(other, step=3)])


def test_going_on_leaves_the_state_as_it_was(saved: State) -> None:
    """Runs that did not fit into the memory begin again from it."""
    assert saved.average is not None and not saved.average.requires_grad
    first, second = run(saved), run(saved)
    assert isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    assert torch.equal(first, second)
