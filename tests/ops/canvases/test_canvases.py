"""Contract of all canvases, and what is special about each."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.canvases import CANVASES, CanvasSpec
from clipig.ops.canvases.base import Canvas
from clipig.ops.canvases.finish import Finish
from clipig.ops.canvases.fourier import PhaseCanvas
from clipig.ops.canvases.frame import Frame, Framed, Symmetry, symmetric
from clipig.ops.canvases.layers import LayersCanvas
from clipig.ops.canvases.levels import level_sizes, level_sum, resized
from clipig.ops.canvases.palette import PaletteCanvas, clusters
from clipig.ops.canvases.precondition import power_law, precondition
from clipig.ops.canvases.pyramid import PyramidCanvas, spread
from clipig.ops.kernels.clamp import clamp_inward
from clipig.ops.kernels.resizing import resize
from clipig.rng import Draw

SIZE = (20, 24)
SEEDS = (3, 11, 5)

VARIANTS: dict[str, list[dict[str, object]]] = {
    "pixels": [
        {}, {"squash": "sigmoid", "color": "decorrelated"}, {"squash": "tanh", "precondition": 1},
    ],
    "pyramid": [
        {}, {"levels": "all"}, {"levels": [1, 5, 24], "interpolation": "bicubic"},
        {"ratio": "2**.5", "release": "1/2", "rates": [1, 0.5], "color": "decorrelated"},
        {"squash": "tanh", "precondition": 1}, {"squash": "clamp"},
    ],
    "fourier": [
        {}, {"color": "rgb", "decay": 1.5}, {"spectrum": [9, 12]}, {"magnitude": "fixed"},
    ],
    "siren": [{}, {"width": 8, "layers": 2, "color": "decorrelated"}],
    "layers": [{}, {"background": "white"}, {"background": "random", "shaded_texture": False}],
    "palette": [{}, {"cells": 6, "colors": 3}, {"palette": [[0, 0, 0], [1, 1, 1], "1 0 0"]}],
}
CASES = [(name, options) for name, rows in VARIANTS.items() for options in rows]
IDS = [f"{name}-{i}" for name, rows in VARIANTS.items() for i in range(len(rows))]
each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)


def make(name: str, options: dict[str, object]) -> CanvasSpec:
    return CANVASES[name].model_validate(options)


def noise(size: tuple[int, int] = SIZE, seeds: tuple[int, ...] = SEEDS) -> Tensor:
    return 0.5 + 0.1 * Draw(seeds).normal(1, 0, (3, *size))


def smooth(size: tuple[int, int] = SIZE, seeds: tuple[int, ...] = SEEDS) -> Tensor:
    """Pictures of large shapes, `[R, 3, H, W]` in 0.1..0.9."""
    return 0.1 + 0.8 * resize(Draw(seeds).uniform(2, 0, (3, 4, 4)), size)


def build(
    name: str, options: dict[str, object], init: str = "noise", wrap: bool = False,
    size: tuple[int, int] = SIZE, seeds: tuple[int, ...] = SEEDS,
) -> Canvas:
    start = noise(size, seeds) if init == "noise" else smooth(size, seeds)
    return make(name, options).build(start, size, Draw(seeds), init, wrap)


def pull(canvas: Canvas, goal: Tensor, steps: int, rate: float = 0.02) -> tuple[float, float]:
    """Sum of the runs' losses before and after Adam steps towards a picture, at t = 0.6."""
    groups = [
        {"params": [p], "lr": rate * canvas.rates.get(n, 1.0)} for n, p in canvas.parameters.items()
    ]
    optimizer = torch.optim.Adam(groups)
    losses = []
    for _ in range(steps):
        loss = F.mse_loss(canvas.picture(0.6).rgb, goal) * len(goal)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], float(F.mse_loss(canvas.picture(0.6).rgb, goal).detach()) * len(goal)


@each_case
@pytest.mark.parametrize("init", ["noise", "picture"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (1, 5), (3, 2)])
def test_the_smallest_canvases_are_finite_or_refused(
    name: str, options: dict[str, object], init: str, size: tuple[int, int]
) -> None:
    spec = make(name, options)
    if spec.check(size) is not None:
        assert name == "fourier" and max(spec.shape(size)) < 3  # type: ignore[attr-defined]
        return
    canvas = spec.build(0.5 + 0.1 * Draw(SEEDS).normal(1, 0, (3, *size)), size, Draw(SEEDS), init)
    losses = pull(canvas, torch.full((len(SEEDS), 3, *size), 0.2), 2)
    assert all(map(math.isfinite, losses))
    assert bool(torch.isfinite(canvas.picture(0.6).rgb).all())


def test_the_table_is_complete() -> None:
    assert set(CANVASES) == set(VARIANTS)
    assert {"pixels", "pyramid", "fourier", "siren", "layers", "palette"} <= set(CANVASES)
    for name, spec in CANVASES.items():
        assert spec.name == name
        assert "Example:" in (spec.__doc__ or "")


@each_case
@pytest.mark.parametrize("init", ["noise", "picture"])
@pytest.mark.parametrize("wrap", [False, True])
def test_shapes_and_ranges(name: str, options: dict, init: str, wrap: bool) -> None:
    canvas = build(name, options, init, wrap)
    for t in (0.0, 0.5, 1.0):
        picture = canvas.picture(t)
        assert picture.rgb.shape == (3, 3, *SIZE)
        assert torch.isfinite(picture.rgb).all()
        assert picture.rgb.min() >= -1e-6
        assert picture.rgb.max() <= 1 + 1e-6
        for layer, x in picture.layers.items():
            assert x.shape == (3, 1 if layer == "alpha" else 3, *SIZE)
            assert x.min() >= 0
            assert x.max() <= 1
        assert CANVASES[name].shows - {"picture"} <= set(picture.layers)
        if picture.penalty is not None:
            assert picture.penalty.shape == (3,)
    for p in canvas.parameters.values():
        assert p.is_leaf
        assert p.requires_grad
        assert p.dtype == torch.float32
        assert p.shape[0] == 3
    assert set(canvas.rates) <= set(canvas.parameters)


@each_case
def test_gradient_reaches_every_parameter(name: str, options: dict) -> None:
    canvas = build(name, options)
    picture = canvas.picture(0.7)
    weights = torch.linspace(-1, 1, picture.rgb[0].numel()).view_as(picture.rgb[0])
    (picture.rgb * weights).sum().backward()
    for label, p in canvas.parameters.items():
        assert p.grad is not None, label
        assert torch.isfinite(p.grad).all(), label
        assert (p.grad.flatten(1).abs().amax(1) > 0).all(), label


@each_case
def test_steps_lead_to_a_picture(name: str, options: dict) -> None:
    canvas = build(name, options)
    before, after = pull(canvas, smooth(seeds=(8, 9, 10)), 60)
    assert after < (0.99 if "palette" in options else 0.85) * before


@each_case
def test_batched_equals_alone(name: str, options: dict) -> None:
    together = build(name, options)
    pull(together, smooth(seeds=SEEDS), 3)
    for row, seed in enumerate(SEEDS):
        alone = build(name, options, seeds=(seed,))
        for label, p in alone.parameters.items():
            assert p.shape[1:] == together.parameters[label].shape[1:]
        goal = smooth(seeds=(seed,))
        pull(alone, goal, 3)
        # Adam makes full steps of gradients that are nothing but rounding: a few pixels differ
        difference = (alone.picture(0.3).rgb[0] - together.picture(0.3).rgb[row]).abs()
        assert (difference > 1e-3).float().mean() < 0.01
        assert difference.mean() < 2e-4


@each_case
def test_starts_differ_by_run_and_follow_the_noise(name: str, options: dict) -> None:
    picture = build(name, options).picture(0.0).rgb.detach()
    assert (picture[0] - picture[1]).abs().max() > 1e-3
    if name == "palette" and "palette" in options:
        return
    bright = make(name, options).build(
        noise() * 0.2 + 0.6, SIZE, Draw(SEEDS), "noise"
    ).picture(0.0).rgb.detach()
    if name != "layers" or options.get("background") == "learned":
        assert bright.mean() > picture.mean() + 0.05


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[0] != "palette"])
def test_a_picture_is_shown(name: str, options: dict) -> None:
    """Few colours cannot: see test_palette_shows_a_picture."""
    canvas = build(name, options, "picture")
    for t in (0.0, 1.0):
        torch.testing.assert_close(canvas.picture(t).rgb, smooth(), atol=4e-3, rtol=0)


@each_case
@pytest.mark.parametrize("wrap", [False, True])
def test_resize_keeps_the_look(name: str, options: dict, wrap: bool) -> None:
    canvas = build(name, options, "picture", wrap)
    pull(canvas, smooth(seeds=(8, 9, 10)), 5, 0.005)
    before = canvas.picture(1.0).rgb.detach()
    for size in ((40, 48), (30, 36), (40, 30)):
        moments = {n: torch.rand_like(p) for n, p in canvas.parameters.items()}
        canvas.resize(size, "bicubic")
        shown = canvas.picture(1.0).rgb.detach()
        assert shown.shape == (3, 3, *size)
        if name != "palette":
            goal = resized(before, size, "bicubic", wrap)
            assert (shown - goal).abs().mean() < 0.03
        for label, moment in moments.items():
            if label in canvas.parameters:
                carried = canvas.resize_state(label, moment)
                assert carried.shape == canvas.parameters[label].shape
                assert carried.min() >= 0
        assert all(p.is_leaf and p.requires_grad for p in canvas.parameters.values())
    pull(canvas, resize(smooth(seeds=(8, 9, 10)), (40, 30)), 2)


@each_case
def test_state_round_trip(name: str, options: dict) -> None:
    canvas = build(name, options)
    pull(canvas, smooth(), 3)
    state = canvas.state()
    shown = canvas.picture(0.4).rgb.detach().clone()
    pull(canvas, 1 - smooth(), 3)  # the copies must not follow
    other = build(name, options)
    other.load(state)
    assert torch.equal(other.picture(0.4).rgb, shown)
    assert set(other.parameters) == set(canvas.parameters)
    assert all(p.is_leaf and p.requires_grad for p in other.parameters.values())


@each_case
def test_edits(name: str, options: dict) -> None:
    canvas = build(name, options)
    if not CANVASES[name].editable:
        with pytest.raises(TypeError, match="edited"):
            canvas.edit(noise())
        return
    goal = smooth(seeds=(8, 9, 10))
    canvas.edit(goal)
    torch.testing.assert_close(canvas.raw(), goal, atol=3e-3, rtol=0)
    assert not canvas.raw().requires_grad
    before, after = pull(canvas, noise(), 5)
    assert after < before


@each_case
def test_time_may_be_a_tensor(name: str, options: dict) -> None:
    canvas = build(name, options)
    for t in (0.0, 1 / 3, 0.8, 1.0):
        torch.testing.assert_close(
            canvas.picture(torch.tensor(t)).rgb, canvas.picture(t).rgb, atol=1e-6, rtol=0
        )


# --- colour, levels, filter


@pytest.mark.parametrize("squash", ["clamp", "sigmoid", "tanh"])
@pytest.mark.parametrize("axes", ["rgb", "decorrelated"])
def test_finish_inverts(squash: str, axes: str) -> None:
    finish = Finish(squash, axes)  # type: ignore[arg-type]
    rgb = smooth()
    torch.testing.assert_close(finish.show(finish.invert(rgb)), rgb, atol=1e-5, rtol=0)
    strength = finish.strength(noise((64, 64)))
    stored = strength * Draw(SEEDS).normal(9, 0, (3, 64, 64))
    shown = finish.show(finish.invert(torch.full_like(stored, 0.5)) + stored)
    assert shown.std().item() == pytest.approx(0.1, rel=0.15)


def test_decorrelated_axes_begin_with_light() -> None:
    shown = Finish("clamp", "decorrelated").show(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    # by hand: (.26, .27, .27) / |(.26, .27, .27)|
    torch.testing.assert_close(
        shown.flatten(), torch.tensor([0.26, 0.27, 0.27]) / math.sqrt(0.26**2 + 2 * 0.27**2)
    )


def test_clamp_lets_gradient_back_inside() -> None:
    x = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    y = clamp_inward(x)
    assert y.tolist() == [0, 0, 0.5, 1, 1]
    y.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert x.grad is not None
    # descent subtracts: at -1 only a negative gradient leads inside, at 2 only a positive one
    assert x.grad.tolist() == [0, -1, 1, 1, 0]


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 48), (7, 31), (20, 24), (1, 1)])
def test_resize_by_matrices_is_the_resize(mode: str, size: tuple[int, int]) -> None:
    torch.testing.assert_close(resized(noise(), size, mode), resize(noise(), size, mode))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resize_around_the_edge(mode: str) -> None:
    x = noise()
    rolled = resized(x.roll((3, 5), (-2, -1)), (40, 48), mode, wrap=True)
    torch.testing.assert_close(rolled, resized(x, (40, 48), mode, True).roll((6, 10), (-2, -1)))


def test_level_sum_is_a_sum_of_resizes() -> None:
    levels = [torch.rand(2, 3, h, w) for h, w in ((1, 1), (2, 3), (5, 6), (20, 24))]
    total = sum(resize(x, SIZE) for x in levels)
    torch.testing.assert_close(level_sum(levels, SIZE), total)


def test_level_sizes() -> None:
    assert level_sizes((64, 64), 2) == [1, 2, 4, 8, 16, 32, 64]
    assert level_sizes((20, 24), 2) == [1, 2, 4, 8, 16, 24]
    assert level_sizes((20, 24), 2, least=2, most=16) == [2, 4, 8, 16]
    assert level_sizes((1, 1), 2) == [1]
    assert spread([1, 0], 3) == [1, 0.5, 0]
    assert spread([2], 3) == [2, 2, 2]


def test_precondition_filters_the_gradient_only() -> None:
    x = noise().requires_grad_(True)
    y = precondition(x, 1.0)
    assert torch.equal(y, x)
    white = Draw(SEEDS).normal(4, 0, (3, *SIZE))
    y.backward(white)
    assert x.grad is not None
    expected = torch.fft.rfft2(white) * power_law(SIZE, 1.0, x.device)
    torch.testing.assert_close(torch.fft.rfft2(x.grad), expected, atol=1e-3, rtol=1e-3)
    big = Draw([1]).normal(4, 0, (3, 64, 64)).requires_grad_(True)
    white = Draw([2]).normal(4, 0, (3, 64, 64))
    precondition(big, 1.0).backward(white)
    assert big.grad is not None
    assert big.grad.std().item() == pytest.approx(1, rel=0.2)


# --- pyramid


def test_pyramid_releases_coarse_levels_first() -> None:
    canvas = build("pyramid", {"release": 0.5})
    assert isinstance(canvas, PyramidCanvas)

    def reached(t: float) -> list[bool]:
        for p in canvas.parameters.values():
            p.grad = None
        canvas.picture(t).rgb.square().sum().backward()
        return [bool(canvas.parameters[f"level_{s}"].grad.abs().max() > 0) for s in canvas.sides]

    count = len(canvas.sides)
    assert reached(0.0) == [True] + [False] * (count - 1)
    assert reached(0.25) == [True] * (count // 2) + [False] * (count // 2)
    assert reached(0.5) == [True] * count
    assert canvas.rates["level_1"] == 1


def test_pyramid_grows_new_levels() -> None:
    canvas = build("pyramid", {}, size=(16, 16))
    assert list(canvas.parameters) == [f"level_{s}" for s in (1, 2, 4, 8, 16)]
    before = canvas.picture(1.0).rgb
    canvas.resize((40, 40), "bilinear")
    assert list(canvas.parameters) == [f"level_{s}" for s in (1, 2, 4, 8, 16, 32, 40)]
    shown = canvas.picture(1.0).rgb
    assert (shown - resize(before, (40, 40))).abs().max() < 0.1
    canvas.resize((16, 16), "bilinear")
    assert list(canvas.parameters) == [f"level_{s}" for s in (1, 2, 4, 8, 16)]


def test_pyramid_counts() -> None:
    sizes = {"all": 24, None: 6}
    for levels, count in sizes.items():
        assert len(build("pyramid", {"levels": levels} if levels else {}).parameters) == count


# --- fourier


@pytest.mark.parametrize("init", ["noise", "picture"])
@pytest.mark.parametrize("size", [(20, 24), (15, 15)])
def test_fixed_magnitude_stays(init: str, size: tuple[int, int]) -> None:
    canvas = build("fourier", {"magnitude": "fixed"}, init, size=size)
    assert isinstance(canvas, PhaseCanvas)
    magnitude = canvas.buffers["magnitude"].clone()
    pull(canvas, smooth(size, (8, 9, 10)), 5)
    spectrum = torch.fft.rfft2(canvas.content(0.0).detach(), norm="forward").abs()
    torch.testing.assert_close(spectrum, magnitude, atol=1e-4, rtol=1e-3)


def test_fixed_magnitude_falls_like_one_over_f() -> None:
    canvas = build("fourier", {"magnitude": "fixed", "decay": 1.5}, size=(32, 32))
    magnitude = canvas.buffers["magnitude"][0, 0]
    assert magnitude[0, 2] / magnitude[0, 4] == pytest.approx(2**1.5, rel=1e-4)
    content = canvas.content(0.0).detach()
    assert content.flatten(2).std(2).mean().item() == pytest.approx(1, rel=0.05)


def test_a_small_spectrum_is_smooth() -> None:
    canvas = build("fourier", {"spectrum": [5, 5]}, size=(32, 32))
    shown = torch.fft.rfft2(canvas.content(0.0).detach()).abs()
    assert shown[..., 4:-4, 4:].max() < 1e-4 * shown.max()


# --- siren, layers, palette


def test_siren_draws_the_same_at_another_size() -> None:
    canvas = build("siren", {}, size=(12, 12))
    small = canvas.picture(0.0).rgb.detach()
    canvas.resize((36, 36), "bilinear")
    torch.testing.assert_close(canvas.picture(0.0).rgb[..., 1::3, 1::3], small, atol=1e-4, rtol=0)


def test_layers_compose() -> None:
    canvas = build("layers", {"background": "white", "shaded_texture": True})
    picture = canvas.picture(0.5)
    alpha = picture.layers["alpha"]
    composed = alpha * picture.layers["texture"] + (1 - alpha)
    torch.testing.assert_close(picture.rgb, composed)
    silhouette = picture.layers["silhouette"].detach()
    assert (silhouette.amax((2, 3)) <= 1).all()
    # sharper with time, and round at the start
    assert canvas.picture(1.0).layers["alpha"].std() > canvas.picture(0.0).layers["alpha"].std()
    assert alpha[:, :, 10, 12].min() > 0.7 > 0.2 > alpha[:, :, 0, 0].max()


def test_layers_penalties() -> None:
    quiet = build("layers", {"border": 0, "gray": 0}).picture(0.5).penalty
    assert quiet is not None
    assert quiet.abs().max() == 0
    canvas = build("layers", {"border": 2, "gray": 0})
    penalty = canvas.picture(0.5).penalty
    assert isinstance(canvas, LayersCanvas)
    for label, p in canvas.parameters.items():
        if label.startswith("mask"):
            p.data += 5
    spread_out = canvas.picture(0.5).penalty
    assert penalty is not None
    assert spread_out is not None
    assert (spread_out > penalty).all()


def test_layers_random_background_changes_and_ends_white() -> None:
    canvas = build("layers", {"background": "random"})
    corners = [canvas.picture(t).rgb[:, :, 0, 0].detach() for t in (0.1, 0.2, 1.0)]
    assert (corners[0] - corners[1]).abs().max() > 0.05
    assert corners[2].min() > 0.9


def test_palette_shows_a_picture() -> None:
    start = smooth((24, 24))
    canvas = CANVASES["palette"].model_validate({"cells": 24, "colors": 64}).build(
        start, (24, 24), Draw(SEEDS), "picture"
    )
    assert (canvas.picture(1.0).rgb - start).abs().mean() < 0.04


@pytest.mark.parametrize("options", VARIANTS["palette"])
def test_palette_ends_in_few_colours(options: dict) -> None:
    canvas = build("palette", options, size=(48, 48))
    assert isinstance(canvas, PaletteCanvas)
    pull(canvas, smooth((48, 48)), 3)
    indexed = canvas.picture(1.0).indexed
    assert indexed is not None
    indices, colors = indexed()
    assert indices.shape == canvas.parameters["cells"][:, 0].shape
    assert int(indices.min()) >= 0
    assert int(indices.max()) < colors.shape[1]
    enlarged = resize(
        torch.stack([c[i].permute(2, 0, 1) for i, c in zip(indices, colors, strict=True)]),
        (48, 48), "nearest",
    )
    torch.testing.assert_close(canvas.picture(1.0).rgb, enlarged, atol=1e-5, rtol=0)


def test_clusters_find_the_colours() -> None:
    colors = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.7, 0.1], [0.5, 0.0, 0.0]])
    pixels = colors[torch.arange(60) % 3].T.reshape(1, 3, 6, 10)
    found = clusters(pixels, 3)[0]
    assert torch.cdist(colors, found).amin(1).max() < 1e-5


# --- frame


def framed(
    name: str, frame: Frame, size: tuple[int, int] = (16, 16), init: str = "noise",
    mask: Tensor | None = None, options: dict[str, object] | None = None,
) -> Framed:
    def start(shape: tuple[int, int]) -> Tensor:
        return noise(shape) if init == "noise" else smooth(shape)

    return Framed.build(
        make(name, options or {}), frame, start, size, Draw(SEEDS), init, mask
    )


@pytest.mark.parametrize("name", CANVASES)
@pytest.mark.parametrize("kind", ["horizontal", "vertical", "both", "rotate4"])
def test_symmetry_is_exact(name: str, kind: Symmetry) -> None:
    canvas = framed(name, Frame(symmetry=kind))
    pull(canvas, smooth((16, 16)), 2)
    rgb = canvas.shown(canvas.picture(1.0)).rgb
    if kind in ("horizontal", "both"):
        assert torch.equal(rgb, rgb.flip(-1))
    if kind in ("vertical", "both"):
        assert torch.equal(rgb, rgb.flip(-2))
    if kind == "rotate4":
        assert torch.equal(rgb, rgb.rot90(1, (-2, -1)))
    assert rgb.std() > 0.01


def test_symmetry_of_a_start_keeps_its_strength() -> None:
    for kind in ("horizontal", "both", "rotate4"):
        rgb = framed("pixels", Frame(symmetry=kind), (64, 64)).picture(0.0).rgb
        assert rgb.std().item() == pytest.approx(0.1, rel=0.1)
    assert symmetric(noise(), "none") is not None


@pytest.mark.parametrize("name", CANVASES)
def test_margin(name: str) -> None:
    canvas = framed(name, Frame(margin=0.25))
    whole = canvas.picture(0.5)
    assert whole.rgb.shape == (3, 3, 24, 24)
    shown = canvas.shown(whole)
    assert torch.equal(shown.rgb, whole.rgb[..., 4:20, 4:20])
    assert all(x.shape[-2:] == (16, 16) for x in shown.layers.values())
    canvas.resize((32, 32), "bicubic")
    assert canvas.picture(0.5).rgb.shape == (3, 3, 48, 48)
    assert canvas.shown(canvas.picture(0.5)).rgb.shape == (3, 3, 32, 32)
    if CANVASES[name].editable:
        canvas.edit(smooth((32, 32)))
        torch.testing.assert_close(canvas.raw(), smooth((32, 32)), atol=3e-3, rtol=0)


@pytest.mark.parametrize("name", CANVASES)
def test_mask_leaves_the_rest_alone(name: str) -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    mask[..., 8, 4] = 0.5
    canvas = framed(name, Frame(), init="picture", mask=mask)
    pull(canvas, 1 - smooth((16, 16)), 4)
    shown = canvas.shown(canvas.picture(1.0)).rgb
    outside = (mask == 0).expand_as(shown)
    assert torch.equal(shown[outside], smooth((16, 16))[outside])
    assert (shown - smooth((16, 16)))[..., 4:12, 4:12].abs().max() > 1e-3
    averaged = canvas.restored(canvas.shown(canvas.picture(1.0)))
    assert torch.equal(averaged.rgb[outside], smooth((16, 16))[outside])
    if CANVASES[name].editable:
        canvas.edit(noise((16, 16)))
        assert torch.equal(canvas.picture(1.0).rgb[outside], smooth((16, 16))[outside])
    canvas.resize((32, 32), "bicubic")
    shown = canvas.shown(canvas.picture(1.0)).rgb
    assert torch.equal(shown[..., :6, :6], smooth((32, 32))[..., :6, :6])


def seam(rgb: Tensor) -> float:
    """How much greater steps across the edges are than steps inside."""
    left, top = rgb[..., 0] - rgb[..., -1], rgb[..., 0, :] - rgb[..., -1, :]
    across = left.abs().mean() + top.abs().mean()
    inside = rgb.diff(dim=-1).abs().mean() + rgb.diff(dim=-2).abs().mean()
    return float(across / inside)


@pytest.mark.parametrize("name", ["pyramid", "fourier", "siren"])
def test_smooth_canvases_have_no_seam_when_wrapped(name: str) -> None:
    options = {"pyramid": {"levels": [2, 4, 8]}, "fourier": {"decay": 2}, "siren": {"w0": 5}}
    open_, wrapped = (
        seam(framed(name, Frame(wrap=w), (48, 48), options=options[name]).picture(1.0).rgb.detach())
        for w in (False, True)
    )
    assert wrapped < 1.6
    if name != "fourier":
        assert open_ > 2


def test_views_of_a_wrapped_canvas_are_rolled() -> None:
    op = Frame(wrap=True).first_op((16, 16))
    assert op is not None
    assert op.name == "random_shift"
    cut = Frame(margin=0.25).first_op((16, 20))
    assert cut is not None
    assert cut.name == "random_crop"
    assert Frame().first_op((16, 16)) is None
