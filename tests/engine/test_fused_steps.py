"""What is done piece by piece, in blocks or ahead of time equals doing it plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from clipig import rng
from clipig.engine.update import Update
from clipig.engine.window import by_step
from clipig.ops.canvases import CANVASES
from clipig.ops.canvases.base import Canvas
from clipig.ops.kernels.clamp import clamp_inward
from clipig.ops.kernels.tones import Grain, Tone, touched
from clipig.ops.optimizers import OPTIMIZERS
from clipig.ops.transforms import TRANSFORMS, Transform
from clipig.ops.transforms.chain import Chain
from clipig.rng import BANK, Draw, ViewDraw
from tests.support.ops_contract import SEEDS, params, picture

# ------------------------------------------------------------------- tones


def plainly(
    x: Tensor, tone: Tone, grain: Grain | None, masks: list[Tensor], unit: bool
) -> Tensor:
    """`touched` by its formula."""
    for mask in masks:
        x = x * mask[:, :, None]
    x = x - x.mean((-2, -1), keepdim=True) if tone.centred else x
    x = x if tone.scale is None else x * tone.scale
    x = x if tone.shift is None else x + tone.shift
    x = x if grain is None else x + grain.values * grain.strength  # type: ignore[operator]
    return x.clamp(0, 1) if unit else x


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TONES = {
    "nothing": Tone(),
    "scale": Tone(numbers(1, 4, 1, 1, 1) + 0.5),
    "shift": Tone(None, numbers(3, 1, 3, 1, 1)),
    "both": Tone(numbers(3, 4, 3, 1, 1), numbers(1, 1, 3, 1, 1)),
    "mean": Tone(None, numbers(1, 1, 3, 1, 1), True),
    "mean only": Tone(None, None, True),
    "all": Tone(numbers(3, 4, 1, 1, 1), numbers(1, 4, 3, 1, 1), True),
}


@pytest.mark.parametrize("extras", ["", "grain", "masks unit", "grain masks unit"])
@pytest.mark.parametrize("tone", TONES)
def test_touching_views_is_its_formula(tone: str, extras: str) -> None:
    noise = Grain(numbers(3, 4, 1, 6, 5) - 0.5, numbers(1, 4, 3, 1, 1))
    grain = noise if "grain" in extras else None
    masks = [numbers(3, 4, 6, 5), numbers(1, 4, 6, 5, seed=1)] if "masks" in extras else []
    unit = "unit" in extras
    # as the sampler leaves it: channels first, then views
    x = (numbers(3, 3, 4, 6, 5, seed=5) * 3 - 1).transpose(1, 2).requires_grad_(True)
    pull = numbers(3, 4, 3, 6, 5, seed=7) - 0.5
    expected = plainly(x, TONES[tone], grain, masks, unit)
    (wanted,) = torch.autograd.grad(expected, x, pull)
    for order in (pull, pull.flatten(0, 1).contiguous(memory_format=torch.channels_last)):
        got = touched(x, TONES[tone], grain, masks, unit)
        (grad,) = torch.autograd.grad(got, x, order.view(pull.shape))
        torch.testing.assert_close(got, expected, atol=2e-7, rtol=0)
        torch.testing.assert_close(grad, wanted)


def test_gradient_passes_the_clamp_at_both_ends() -> None:
    x = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.1]).view(1, 1, 1, 1, 5).requires_grad_(True)
    views = touched(x, Tone(), clamp=True)
    (grad,) = torch.autograd.grad(views.sum(), x)
    assert grad.flatten().tolist() == [0, 1, 1, 1, 0]
    torch.testing.assert_close(views.flatten(), torch.tensor([0, 0, 0.5, 1, 1]))


def test_tones_one_after_the_other_are_one() -> None:
    x = numbers(3, 4, 3, 6, 5, seed=9)
    for first in TONES.values():
        for second in TONES.values():
            expected = plainly(plainly(x, first, None, [], False), second, None, [], False)
            got = plainly(x, first.then(second), None, [], False)
            torch.testing.assert_close(got, expected)


def test_the_inward_clamp_blocks_what_leads_further_out() -> None:
    x = (numbers(2, 3, 7, 5) * 3 - 1).requires_grad_(True)
    pull = numbers(2, 3, 7, 5, seed=1) - 0.5
    (passed,) = torch.autograd.grad(clamp_inward(x), x, pull)
    outward = ((x > 1) & (pull < 0)) | ((x < 0) & (pull > 0))
    assert torch.equal(passed, torch.where(outward, 0.0, pull))


# ------------------------------------------------------------------- noise


def test_noise_of_views_is_normal_and_unlike() -> None:
    noise = ViewDraw(Draw([1, 2]), 3, 4, 5).normal(3, 64, 64)
    assert noise.shape == (2, 5, 3, 64, 64)
    assert stats.kstest(noise[0, 0].flatten().numpy(), "norm").pvalue > 1e-3
    rows = noise.flatten(0, 1).flatten(1).numpy()
    between = np.corrcoef(rows) - np.eye(10)
    assert np.abs(between).max() < 4.5 / rows.shape[1] ** 0.5
    other = ViewDraw(Draw([1]), 3, 5, 5).normal(3, 64, 64)
    assert abs(np.corrcoef(other[0, 0].flatten(), noise[0, 0].flatten())[0, 1]) < 0.05


@pytest.mark.parametrize("step", [0, 5, 63, 64, 1000])
def test_noise_depends_on_nothing_but_run_stream_and_step(step: int) -> None:
    many = Draw([5, 6, 7])
    before = many.noise(1, step, 4, (3, 9, 9))
    many.noise(1, step + 70, 4, (3, 9, 9))  # other steps looked up in between
    again = many.noise(1, step, 4, (3, 9, 9))
    alone = Draw([6]).noise(1, torch.tensor(step), 4, (3, 9, 9))
    assert torch.equal(before, again)
    assert torch.equal(before[1:2], alone)


def test_what_is_larger_than_the_bank_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw([1])
    assert len(draw.bank) == BANK
    monkeypatch.setattr(rng, "BANK", 100)
    large = draw.noise(1, 1, 2, (3, 10, 10))
    assert torch.equal(large, draw.normal(1, 1, (2, 3, 10, 10)))
    assert draw.noise(1, 1, 2, (0,)).shape == (1, 2, 0)


def test_pieces_of_the_bank_are_copied_alike_on_all_devices() -> None:
    numbers, starts = torch.randn(50), torch.tensor([0, 7, 41], dtype=torch.int32)
    by_row = rng._by_row(numbers, starts, 9)
    assert torch.equal(by_row, rng._by_position(numbers, starts, 9))
    assert torch.equal(by_row[1], numbers[7:16])


def test_several_steps_at_once_are_the_same_numbers() -> None:
    draw = Draw([3, 4])
    many, steps = draw.at_steps(7, 3)
    together = many.uniform(9, steps, (5,)).view(3, 2, 5)
    for k in range(3):
        assert torch.equal(together[k], draw.uniform(9, 7 + k, (5,)))


# -------------------------------------------------------------- steps ahead


CHAINS: list[list[tuple[str, dict[str, Any]]]] = [
    [("pad", {"size": 8, "mode": "edge"}), ("random_rotate", {"degree": [-30, 30]}),
     ("mul", {"factor": 0.5}), ("mean", {"value": 0.5}), ("noise", {"std": 0.1})],
    [("cutouts", {"scale": [0.2, 1], "size": 20}), ("random_contrast", {"factor": [0.2, 1]})],
    [("random_perspective", {}), ("pad", {"size": 3, "color": 0.4}),
     ("random_shift", {"offset": 0.2}), ("color_jitter", {}),
     ("random_scale", {"scale": [0.7, 1.2]}), ("random_flip", {})],
    [("add", {"value": 0.2}), ("random_translate", {"offset": 0.2}), ("blur", {})],
    [("resize", {"size": 64}), ("random_crop", {"size": 30}), ("bwnoise", {"std": 0.2})],
]


@pytest.mark.parametrize("entries", CHAINS)
@pytest.mark.parametrize("runs", [1, 3])
def test_steps_ahead_are_the_same_steps(
    entries: list[tuple[str, dict[str, Any]]], runs: int
) -> None:
    ops: list[Transform] = [TRANSFORMS[name](**fields) for name, fields in entries]
    ps = [params(op) for op in ops]
    source = picture(runs, 3, 40, 36)
    chain = Chain.arrange(ops, ps, (40, 36), (24, 24))
    draw = Draw(SEEDS[:runs])
    many, steps = draw.at_steps(4, 3)
    draws = [ViewDraw(many, i, steps, 5) for i in range(len(ops))]
    parts = chain.prepare(ps, draws, source)
    each = by_step(parts, runs, 3)
    for k in range(3):
        draws = [ViewDraw(draw, i, 4 + k, 5) for i in range(len(ops))]
        expected = chain.run(source, ps, draws, 5)
        draws = [ViewDraw(draw, i, 4 + k, 5) for i in range(len(ops))]
        got = chain.run(source, ps, draws, 5, each[k])
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


# ---------------------------------------------------------- optimizer blocks


def canvas(kind: str = "pixels", runs: int = 5) -> Canvas:
    return CANVASES[kind]().build(picture(runs, 3, 8, 8), (8, 8), Draw(range(runs)), "picture")


def walk(update: Update, steps: int, first: int = 0, broken: tuple[int, ...] = ()) -> Tensor:
    """Some steps along fixed gradients; which runs are alive then."""
    alive = torch.ones(5, dtype=torch.bool)
    rate = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0])
    for step in range(first, first + steps):
        for place, p in enumerate(update.canvas.parameters.values()):
            generator = torch.Generator().manual_seed(100 * step + place)
            p.grad = torch.randn(p.shape, generator=generator) * 0.01
            if step == 2:
                p.grad[list(broken)] = float("nan")
        update.step("plain", rate, alive)
    return alive


@pytest.mark.parametrize("kind", ["pixels", "pyramid", "siren"])
@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS)))
def test_moments_survive_a_state(optimizer: str, kind: str) -> None:
    spec = OPTIMIZERS[optimizer]()
    whole, stopped, start = canvas(kind), canvas(kind), canvas(kind)
    walk(Update.build(spec, whole), 4)
    update = Update.build(spec, stopped)
    walk(update, 2)
    moments = update.state()
    assert all(v.shape[0] == 5 for m in moments.values() for v in m.values() if v.ndim)
    resumed = Update.build(spec, stopped)
    resumed.load(moments)
    walk(resumed, 2, first=2)
    for name, p in whole.parameters.items():
        assert torch.equal(stopped.parameters[name], p)
        assert not torch.equal(p[0], start.parameters[name][0])
        assert torch.equal(p[4], start.parameters[name][4]), "rate 0"


def test_a_broken_run_stays_and_its_neighbours_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    well, ill = canvas(), canvas()
    spec = OPTIMIZERS["adam"]()
    assert bool(walk(Update.build(spec, well), 5).all())
    alive = walk(Update.build(spec, ill), 5, broken=(1, 3))
    assert alive.tolist() == [True, False, True, False, True]
    stopped = canvas()
    walk(Update.build(spec, stopped), 2)
    for run_number, lives in enumerate(alive.tolist()):
        expected = well if lives else stopped
        torch.testing.assert_close(
            ill.parameters["pixels"][run_number], expected.parameters["pixels"][run_number]
        )


def test_pixels_stay_within_their_range_and_come_back() -> None:
    pixels = canvas()
    update = Update.build(OPTIMIZERS["sgd"](), pixels)
    alive, rate = torch.ones(5, dtype=torch.bool), torch.ones(5)
    p = pixels.parameters["pixels"]
    for sign, end in ((-1.0, 1.0), (1.0, 0.0)):
        for _ in range(40):
            p.grad = torch.full_like(p, sign * 0.1)
            update.step("plain", rate, alive)
        assert bool((p == end).all())
    p.grad = torch.full_like(p, -0.25)
    update.step("plain", rate, alive)
    torch.testing.assert_close(p.detach(), torch.full_like(p, 0.25))
    pixels.edit(torch.full((5, 3, 8, 8), 3.0))
    assert bool((pixels.picture(0.0).rgb == 1).all())
    wild = CANVASES["pixels"]().build(torch.randn(1, 3, 8, 8), (8, 8), Draw([1]), "noise")
    for shown in (wild.picture(0.0).rgb.detach(), pixels.picture(0.0).rgb.detach()):
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
