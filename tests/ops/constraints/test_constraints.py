"""Every constraint by hand on small pictures, and the contract of all of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from pydantic import ValidationError
from torch import Tensor

from clipig.ops.constraints import CONSTRAINTS, Bounded, Constraint
from clipig.ops.constraints.style import Style, goal, statistic
from tests.support.ops_contract import SEEDS, one_run, params, picture, subclasses, view_draw

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "mean": [{"above": 0.9}, {"below": 0.2, "loss": "l1"}],
    "std": [{"above": 0.4}, {"below": 0.05}],
    "saturation": [{"below": 0.005}, {"above": 0.4}],
    "edge_mean": [{"below": 0.001}, {"above": 0.2, "kernel_size": 5}],
    "contrast": [{"above": 0.9}, {"below": 0.1}],
    "blur": [{"kernel_size": 5}, {"kernel_size": [3, 7], "loss": "l1"}],
    "border": [{"size": [2, 3], "color": 1}],
    "normalize": [{}, {"min": 0.3, "max": 0.6}],
    "noise": [{"std": 0.1}],
    "tv": [{}, {"loss": "l1"}],
    "gray": [{}],
    "spectrum": [{}, {"slope": 2, "loss": "mae"}],
    "colors": [{"palette": [0, 0, 0, 1, 1, 1]}, {"palette": [0.9, 0.1, 0.1], "loss": "l1"}],
    "gray_world": [{}],
    "style": [{"image": "x.png"}, {"image": "x.png", "statistics": "gram", "loss": "l1"}],
}
SIZE = (20, 24)
CASES = [(name, fields) for name, many in EXAMPLES.items() for fields in many]


def penalty(name: str, views: Tensor, **fields: Any) -> Tensor:
    op = CONSTRAINTS[name](**fields)
    return of(op, views, params(op, views.device))


def of(op: Constraint, views: Tensor, p: SimpleNamespace, seeds: tuple[int, ...] = SEEDS) -> Tensor:
    size = (views.shape[-2], views.shape[-1])
    if isinstance(op, Style):
        with_maps(op, views, p)
    assert op.check(size, p) is None
    draw = view_draw(seeds[: len(views)], views.shape[1], device=views.device)
    return op.penalty(views, p, op.sample(draw, p, size))


def with_maps(
    op: Style, views: Tensor, p: SimpleNamespace, reference: Tensor | None = None
) -> None:
    """What the engine adds for a style, of an encoder with one layer."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 3, 3, 3, generator=generator).to(views.device) / 3
    if reference is None:
        reference = picture(3, *SIZE, seed=5, device=views.device)

    def known(pictures: Tensor) -> Tensor:
        return statistic(op.statistics, torch.tanh(torch.conv2d(pictures, weight)))

    wanted = goal(op.statistics, 0, known(reference[None])[0].detach())
    p.goals = [[replace(wanted, value=wanted.value[None, None], unit=wanted.unit[None, None])]]
    p.seen = [[known(views.flatten(0, 1)).unflatten(0, views.shape[:2])]]


@pytest.fixture(scope="module")
def pic() -> Tensor:
    return torch.rand(1, 1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_every_class_is_in_the_table() -> None:
    assert len(CONSTRAINTS) >= 14
    concrete = {c for c in subclasses(Constraint) if c.__module__.startswith("clipig.")}
    assert concrete == set(CONSTRAINTS.values())
    assert set(EXAMPLES) == set(CONSTRAINTS)
    factors = {n: c.factor for n, c in CONSTRAINTS.items() if c.factor != 100}
    assert factors == {"contrast": 1, "normalize": 10, "spectrum": 1, "style": 1}


# ------------------------------------------------------------ by NumPy


def test_measured_values(pic: Tensor) -> None:
    x = pic[0, 0].numpy().astype(np.float64)
    edges = np.abs(tv.gaussian_blur(pic[0, 0], [5, 3]).numpy() - x)
    mean = x.mean((1, 2), keepdims=True)
    contrast = [c[c > m].mean() - c[c < m].mean() for c, m in zip(x, mean, strict=True)]
    measured = {
        "mean": x.mean((1, 2)),
        "std": x.reshape(3, -1).std(1, ddof=1),
        "saturation": np.abs(x - x.mean(0)).mean((1, 2)),
        "edge_mean": edges.mean((1, 2)),
        "contrast": np.array(contrast),
    }
    assert set(measured) == {n for n, c in CONSTRAINTS.items() if issubclass(c, Bounded)}
    for name, value in measured.items():
        extra = {"kernel_size": [5, 3]} if name == "edge_mean" else {}
        for above, below in ((0.9, None), (None, -0.5), (0.7, 0.01), (0.0, 1.0)):
            limits = {"above": above, "below": below}
            fields = {k: v for k, v in limits.items() if v is not None}
            for loss, measure in (("l2", np.square), ("l1", np.abs)):
                expected = 0.0
                if above is not None:
                    expected += measure(np.maximum(above - value, 0)).mean()
                if below is not None:
                    expected += measure(np.maximum(value - below, 0)).mean()
                got = penalty(name, pic, loss=loss, **fields, **extra)
                assert float(got) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.4, 0.7, 1.0])
def test_a_flat_channel_has_no_contrast_and_no_pull(level: float) -> None:
    flat = torch.full((1, 1, 3, 9, 7), level, requires_grad=True)
    cost = penalty("contrast", flat, above=0.5)
    assert float(cost.detach()) == pytest.approx(0.25, abs=1e-6)
    (slope,) = torch.autograd.grad(cost.sum(), flat)
    assert float(slope.abs().max()) < 1e-6


def test_bounds_are_one_sided_and_needed(pic: Tensor) -> None:
    assert float(penalty("mean", pic, above=0.1)) == 0 == float(penalty("mean", pic, below=0.9))
    assert float(penalty("mean", pic, above=0.1, below=0.9)) == 0
    with pytest.raises(ValidationError, match="neither `above` nor `below`"):
        CONSTRAINTS["mean"]()


@pytest.mark.parametrize(("loss", "measure"), [("l2", np.square), ("mse", np.square),
                                               ("l1", np.abs), ("mae", np.abs)])
def test_comparisons(pic: Tensor, loss: str, measure: Any) -> None:
    x = pic[0, 0].numpy().astype(np.float64)

    def same(name: str, other: np.ndarray, **fields: Any) -> None:
        expected = measure(x - other).mean()
        assert float(penalty(name, pic, loss=loss, **fields)) == pytest.approx(expected, rel=1e-4)

    same("blur", tv.gaussian_blur(pic[0, 0], [3, 7]).numpy(), kernel_size=[3, 7])
    same("gray", np.full_like(x, 0.5) * 0 + np.array([0.1, 0.5, 0.9])[:, None, None],
         color=[0.1, 0.5, 0.9])
    painted = x.copy()
    painted[:, :, :2] = painted[:, :, -2:] = 0.7
    painted[:, :3] = painted[:, -3:] = 0.7
    same("border", painted, size=[2, 3], color=0.7)
    assert float(penalty("border", pic, size=0, loss=loss)) == 0
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    same("normalize", 0.2 + (x - low) / (high - low) * 0.5, min=0.2, max=0.7)
    right, down = np.diff(x, axis=2), np.diff(x, axis=1)
    expected = measure(right).mean() + measure(down).mean()
    assert float(penalty("tv", pic, loss=loss)) == pytest.approx(expected, rel=1e-5)
    colors = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0]])[:, :, None, None]
    expected = measure(x - colors).mean(1).min(0).mean()
    got = penalty("colors", pic, palette=colors.flatten().tolist(), loss=loss)
    assert float(got) == pytest.approx(expected, rel=1e-5)
    means = x.mean((1, 2))
    expected = measure(means - means.mean()).mean()
    assert float(penalty("gray_world", pic, loss=loss)) == pytest.approx(expected, rel=1e-3)


def test_noise_pulls_with_a_fixed_strength(pic: Tensor) -> None:
    leaf = pic.clone().requires_grad_(True)
    value = penalty("noise", leaf, std=0.1)
    assert float(value.detach()) == pytest.approx(0.01, rel=0.15)
    value.sum().backward()
    assert leaf.grad is not None
    assert float(leaf.grad.abs().sum()) > 0


def powerlaw(slope: float, size: int = 96, seed: int = 0) -> Tensor:
    """A picture with amplitude 1 / f^slope: `[1, 1, 3, size, size]`."""
    generator = torch.Generator().manual_seed(seed)
    f = (torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2).sqrt()
    f[0, 0] = 1
    x = torch.fft.irfft2(torch.fft.rfft2(torch.randn(size, size, generator=generator)) / f**slope,
                         s=(size, size))
    x = (x - x.mean()) / x.std() * 0.15 + 0.5
    return x.expand(1, 1, 3, -1, -1)


@pytest.mark.parametrize("made", [0.0, 0.5, 1.0, 1.5])
def test_spectrum_knows_the_slope(made: float) -> None:
    tried = [0.0, 0.5, 1.0, 1.5, 2.0]
    found = [float(penalty("spectrum", powerlaw(made), slope=s)) for s in tried]
    assert tried[int(np.argmin(found))] == made
    assert min(found) < 0.05
    assert max(found) > 0.15
    other = powerlaw(made) * 0.3 + 0.2  # contrast and brightness do not matter
    assert float(penalty("spectrum", other, slope=made)) == pytest.approx(min(found), abs=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    blur, spectrum = CONSTRAINTS["blur"](kernel_size=41), CONSTRAINTS["spectrum"]()
    assert "41x41" in str(blur.check(SIZE, params(blur)))
    assert "at least 8x8" in str(spectrum.check((7, 20), params(spectrum)))
    assert spectrum.check((8, 8), params(spectrum)) is None


# ------------------------------------------------------------ the contract


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_contract(name: str, fields: dict[str, Any], device: torch.device) -> None:
    op = CONSTRAINTS[name](**fields)
    p = params(op, device)
    views = (picture(3, 4, 3, *SIZE, device=device) * 0.7 + 0.1 *
             torch.tensor([0.0, 1.0, 2.0], device=device).view(3, 1, 1)).requires_grad_(True)
    value = of(op, views, p)
    assert value.shape == (3, 4)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert (value > 0).all()
    value.sum().backward()
    assert views.grad is not None
    assert views.grad.isfinite().all()
    assert (views.grad.flatten(2).abs().sum(2) > 0).all()

    assert torch.equal(of(op, views, p), value)
    drawn = op.sample(view_draw(device=device), p, SIZE)
    assert bool(drawn) == op.random
    if op.random:
        assert not torch.allclose(of(op, views, p, (1, 2, 3)), value)
    for run in range(3):  # batched equals alone, runs and views never mix
        part = slice(run, run + 1)
        alone = of(op, views[part], one_run(p, run), SEEDS[part])
        torch.testing.assert_close(alone[0], value[run], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_descent_lowers_it(name: str, fields: dict[str, Any]) -> None:
    op = CONSTRAINTS[name](**fields)
    p = params(op)
    views = picture(1, 2, 3, *SIZE, seed=8).requires_grad_(True)
    optimizer = torch.optim.Adam([views], lr=0.003)
    first = of(op, views, p)
    for _ in range(15):
        optimizer.zero_grad()
        of(op, views, p).sum().backward()
        optimizer.step()
    assert (of(op, views, p) < first + (0.002 if op.random else 0)).all()


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_flat_pictures_are_no_trouble(name: str, fields: dict[str, Any]) -> None:
    for level in (0.0, 0.5, 1.0):
        views = torch.full((1, 1, 3, *SIZE), level, requires_grad=True)
        value = penalty(name, views, **fields)
        value.sum().backward()
        assert value.isfinite().all()
        assert (value >= 0).all()
        assert views.grad is not None
        assert views.grad.isfinite().all()


def test_zero_when_satisfied() -> None:
    flat = torch.full((1, 1, 3, *SIZE), 0.5)
    ramp = torch.linspace(0, 1, SIZE[0] * SIZE[1]).view(SIZE).expand(1, 1, 3, -1, -1)
    satisfied: dict[str, tuple[Tensor, dict[str, Any]]] = {
        "mean": (flat, {"above": 0.4, "below": 0.6}), "std": (flat, {"below": 0.1}),
        "saturation": (flat, {"below": 0.005}), "edge_mean": (flat, {"below": 0.1}),
        "contrast": (ramp, {"above": 0.2}), "blur": (flat, {}),
        "border": (flat, {"size": 3, "color": 0.5}), "normalize": (ramp, {}),
        "noise": (flat, {"std": 0}), "tv": (flat, {}), "gray": (flat, {}),
        "spectrum": (powerlaw(1), {}), "colors": (flat, {"palette": [0, 0, 0, 0.5, 0.5, 0.5]}),
        "gray_world": (ramp, {}),
    }
    assert set(satisfied) | {"style"} == set(CONSTRAINTS)
    for name, (views, fields) in satisfied.items():
        limit = 0.03 if name == "spectrum" else 1e-10
        assert float(penalty(name, views, **fields)) <= limit, name


@pytest.mark.parametrize("statistics", ["moments", "gram"])
def test_a_style_is_satisfied_by_its_reference(statistics: str) -> None:
    op = CONSTRAINTS["style"](image="x.png", statistics=statistics)
    assert isinstance(op, Style)
    reference, p = picture(3, *SIZE, seed=7), params(op)
    with_maps(op, reference[None, None], p, reference)
    assert float(op.penalty(reference[None, None], p, ())) < 1e-10
    other = picture(1, 1, 3, *SIZE, seed=9).flip(2) ** 2
    with_maps(op, other, p, reference)
    assert float(op.penalty(other, p, ())) > 0.05
