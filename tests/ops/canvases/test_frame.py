"""Canvases and their frame in the loop: alone, in a batch, resumed; margins, seams, masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from clipig.config.schema import Experiment
from clipig.engine.events import Finished, Step
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.loop import optimize
from clipig.errors import ConfigError
from clipig.ops.canvases import CANVASES
from clipig.plan.compiler import compile
from tests.support.tiny_encoder import TinyEncoder

CANVAS: dict[str, Any] = {
    "pixels": "pixels",
    "pyramid": {"pyramid": {"release": 0.5}},
    "fourier": {"fourier": {"magnitude": "fixed"}},
    "siren": {"siren": {"width": 8, "layers": 2}},
    "layers": {"layers": {"mask_size": 8}},
    "palette": {"palette": {"cells": 6, "colors": 3}},
}


def experiment(seed: int = 1, **changes: Any) -> Experiment:
    base: dict[str, Any] = {
        "epochs": 6, "resolution": 16, "init": {"mean": 0.5, "std": 0.1}, "seed": seed,
        "targets": [{
            "batch_size": 2, "features": [{"text": "a cat"}],
            "transforms": [{"random_translate": 0.1}, {"noise": 0.1}],
        }],
    }
    return Experiment.model_validate({**base, **changes})


def finish(experiments: list[Experiment], **more: Any) -> Tensor:
    """Final pictures `[R, 3, H, W]` of a run with the tiny encoder."""
    encoders = [TinyEncoder()]
    plan = compile(experiments, [e.info for e in encoders])
    prompts = encode_prompts(plan, encoders, PromptCache())
    last = list(optimize(plan, encoders, prompts, **more))[-1]
    assert isinstance(last, Finished)
    return last.picture.rgb


def test_all_canvases_are_here() -> None:
    assert set(CANVAS) == set(CANVASES)


@pytest.mark.parametrize("name", CANVAS)
def test_batched_equals_alone(name: str) -> None:
    runs = [experiment(seed, canvas=CANVAS[name]) for seed in (1, 2)]
    together = finish(runs)
    for row, one in enumerate(runs):
        difference = (finish([one])[0] - together[row]).abs()
        assert difference.mean() < 1e-4


@pytest.mark.parametrize("name", CANVAS)
@pytest.mark.parametrize("carry", ["carry", "reset"])
def test_resume_equals_going_on_over_a_change_of_size(name: str, carry: str) -> None:
    one = experiment(
        canvas=CANVAS[name], resolution="8 if t < .5 else 20", optimizer_state=carry, ema=0.5
    )
    encoders = [TinyEncoder()]
    plan = compile([one], [e.info for e in encoders])
    prompts = encode_prompts(plan, encoders, PromptCache())
    straight = finish([one])
    assert straight.shape == (1, 3, 20, 20)
    for stop in (2, 4):
        state = None
        for event in optimize(plan, encoders, prompts):
            if isinstance(event, Step) and event.step == stop:
                state = event.state()
                break
        assert state is not None
        last = list(optimize(plan, encoders, prompts, state=state))[-1]
        assert isinstance(last, Finished)
        torch.testing.assert_close(last.picture.rgb, straight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CANVAS)
def test_margin_is_seen_but_not_saved(name: str) -> None:
    assert finish([experiment(canvas=CANVAS[name], margin=0.25)]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("symmetry", ["horizontal", "vertical", "both", "rotate4"])
def test_symmetry_stays_exact(symmetry: str) -> None:
    rgb = finish([experiment(symmetry=symmetry)])
    turned = {
        "horizontal": rgb.flip(-1), "vertical": rgb.flip(-2), "both": rgb.flip(-1),
        "rotate4": rgb.rot90(1, (-2, -1)),
    }
    assert torch.equal(rgb, turned[symmetry])


@pytest.mark.parametrize("name", CANVAS)
def test_unmasked_parts_stay_bit_equal(name: str) -> None:
    start = torch.rand(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:11, 5:11] = 1
    tensor = start[0].tolist()
    one = experiment(canvas=CANVAS[name], init={"image_tensor": tensor}, ema=0.5)
    rgb = finish([one], start=start, mask=mask)
    outside = (mask == 0).expand_as(rgb)
    assert torch.equal(rgb[outside], start[outside])
    assert not torch.equal(rgb, start)


def seam(rgb: Tensor) -> float:
    """Mean step across the edges of a tile over the mean step inside it."""
    tiled = rgb.repeat(1, 1, 2, 2)
    size = rgb.shape[-1]
    across = tiled.diff(dim=-1)[..., size - 1].abs().mean() + tiled.diff(dim=-2)[
        ..., size - 1, :
    ].abs().mean()
    inside = rgb.diff(dim=-1).abs().mean() + rgb.diff(dim=-2).abs().mean()
    return float(across / inside)


def test_a_wrapped_picture_tiles() -> None:
    options: dict[str, Any] = {
        "epochs": 30, "resolution": "16 if t < .5 else 32", "learnrate": 3,
        "postproc": [{"blur": 5}],
    }
    edged = seam(finish([experiment(s, **options) for s in (1, 2, 3)]))
    wrapped = seam(finish([experiment(s, wrap=True, **options) for s in (1, 2, 3)]))
    assert wrapped < 1.3
    assert edged > 2 * wrapped


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="no margin"):
        experiment(wrap=True, margin=0.1)
    with pytest.raises(ConfigError, match="square"):
        compile([experiment(symmetry="rotate4", resolution="16 24")], [TinyEncoder().info])
