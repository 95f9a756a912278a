"""Fused geometry against doing one transform after the other, and the mip atlas."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clipig.ops.kernels import mip_atlas as atlas
from clipig.ops.kernels.resizing import filter_matrix, reduction_gain, resize
from clipig.ops.kernels.sampling import (
    EdgeClamp,
    Fill,
    Map,
    Shape,
    Stage,
    Wrap,
    affine,
    follow,
    reduction,
    route,
    translation,
)
from clipig.ops.transforms import TRANSFORMS
from clipig.ops.transforms.base import Geometry, Transform
from clipig.ops.transforms.chain import Chain
from tests.support.ops_contract import SEEDS, params, picture, view_draw

Moves = list[tuple[Geometry, SimpleNamespace]]


def sample(source: Tensor, stages: list[Stage], out: Shape, views: int) -> Tensor:
    """Views of pictures along some stages, `[R, N, C, *out]`."""
    way = route(stages, (source.shape[-2], source.shape[-1]), out, source)
    read, masks = follow(source, way, views)
    read = read[:, None].expand(-1, views, -1, -1, -1) if read.ndim == 4 else read
    for mask in masks:
        read = read * mask[:, :, None]
    return read


def build(*entries: tuple[str, dict[str, Any]]) -> Moves:
    chain: Moves = []
    for name, fields in entries:
        op = TRANSFORMS[name](**fields)
        assert isinstance(op, Geometry)
        chain.append((op, params(op)))
    return chain


def stages_of(
    chain: Moves, size: Shape, views: int, runs: int = 1
) -> tuple[list[Stage], list[Shape]]:
    size = (size[0], size[1])
    like, stages, sizes = torch.zeros(1), [], [size]
    for number, (op, p) in enumerate(chain):
        drawn = op.sample(view_draw(SEEDS[:runs], views, stream=number), p, size)
        stages.append(op.stages(size, p, drawn, like))
        size = op.out_size(size, p)
        sizes.append(size)
    return stages, sizes  # type: ignore[return-value]


def fused(chain: Moves, source: Tensor, views: int = 3) -> Tensor:
    stages, sizes = stages_of(chain, source.shape[-2:], views, len(source))
    flat = [stage for each in stages for stage in each]  # type: ignore[union-attr]
    return sample(source, flat, sizes[-1], views)


def one_by_one(chain: Moves, source: Tensor, views: int = 3) -> Tensor:
    stages, sizes = stages_of(chain, source.shape[-2:], views, len(source))
    for each, out in zip(stages, sizes[1:], strict=True):
        source = sample(source, each, out, views)  # type: ignore[arg-type]
    return source


SMOOTH = picture(2, 3, 96, 80, seed=3)


@pytest.mark.parametrize(
    ("entries", "mean", "most"),
    [
        ([("pad", {"size": 8, "mode": "edge"}), ("random_rotate", {"degree": [-30, 30]})],
         2e-3, 0.1),
        ([("random_rotate", {"degree": [-30, 30]}), ("rotate", {"degree": 11})], 4e-3, 0.3),
        ([("rotate", {"degree": 20}), ("rotate", {"degree": -20})], 4e-3, 0.3),
        ([("pad", {"size": 9, "mode": "wrap"}), ("rotate", {"degree": 15}),
          ("resize", {"size": [60, 70]}), ("random_crop", {"size": 50})], 5e-3, 0.15),
        ([("crop", {"box": [10, 20, 40, 60]}), ("pad", {"size": 5, "mode": "edge"}),
          ("rotate", {"degree": 7})], 2e-3, 0.1),
        ([("repeat", {"count": [2, 3]}), ("rotate", {"degree": 30}),
          ("center_crop", {"size": [100, 90]})], 5e-3, 0.4),
        ([("shift", {"offset": 0.3}), ("random_flip", {}), ("resize", {"size": 40})], 5e-3, 0.4),
        ([("random_translate", {"offset": 0.2}), ("pad", {"size": 3, "color": 1}),
          ("resize", {"size": 128})], 1e-3, 0.1),
        ([("cutouts", {"scale": [0.3, 1], "size": 64}), ("random_flip", {}),
          ("random_rotate", {"degree": [-10, 10]})], 4e-3, 0.15),
        ([("random_perspective", {"amount": 0.3}), ("random_scale", {"scale": [0.8, 1.2]})],
         5e-3, 0.4),
    ],
)
def test_chain_equals_one_by_one(entries: Any, mean: float, most: float) -> None:
    """Inside the picture the difference is small; `most` is at edges that both ways cut."""
    chain = build(*entries)
    a, b = fused(chain, SMOOTH), one_by_one(chain, SMOOTH)
    assert a.shape == b.shape
    difference = (a - b).abs()
    assert difference.mean() < mean
    assert difference.max() < most
    assert difference.flatten().quantile(0.95) < 4 * mean


def test_whole_pixel_chains_are_exact() -> None:
    chain = build(
        ("pad", {"size": [4, 7], "color": 0.3}), ("shift", {"offset": [5, -9]}),
        ("random_flip", {}), ("random_crop", {"size": [50, 60]}),
        ("repeat", {"count": 2}), ("pad", {"size": 3, "mode": "edge"}),
        ("crop", {"box": [-6, 10, 80, 90]}), ("pad", {"size": 90, "mode": "wrap"}),
        ("random_shift", {"offset": [-9, 9]}), ("random_translate", {"offset": 0.3}),
    )
    source = torch.rand(2, 3, 96, 80)
    torch.testing.assert_close(fused(chain, source), one_by_one(chain, source), atol=2e-3, rtol=0)


ENTRY = st.one_of(
    st.builds(lambda s, m: ("pad", {"size": list(s), "mode": m, "color": 0.2}),
              st.tuples(st.integers(0, 9), st.integers(0, 9)),
              st.sampled_from(["fill", "edge", "wrap"])),
    st.builds(lambda x, y: ("shift", {"offset": [x, y]}), st.integers(-20, 20),
              st.integers(-20, 20)),
    st.just(("random_flip", {})),
    st.builds(lambda n: ("repeat", {"count": list(n)}),
              st.tuples(st.integers(1, 2), st.integers(1, 2))),
    st.builds(lambda b: ("crop", {"box": list(b)}),
              st.tuples(st.integers(-5, 9), st.integers(-5, 9), st.integers(4, 30),
                        st.integers(4, 30))),
    st.builds(lambda s: ("center_crop", {"size": list(s)}),
              st.tuples(st.integers(3, 40), st.integers(3, 40))),
    st.builds(lambda o: ("random_translate", {"offset": o}), st.floats(0, 0.5)),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(ENTRY, min_size=1, max_size=6))
def test_any_nesting_of_edges(entries: list[tuple[str, dict[str, Any]]]) -> None:
    """Whole-pixel transforms: the fused chain shows exactly the pixels of the step by step one."""
    source = torch.rand(2, 3, 13, 17, generator=torch.Generator().manual_seed(4))
    chain = build(*entries)
    torch.testing.assert_close(fused(chain, source), one_by_one(chain, source), atol=1e-3, rtol=0)


SLANTED = st.one_of(
    ENTRY,
    st.builds(lambda d: ("rotate", {"degree": d}), st.floats(-90, 90)),
    st.builds(lambda s: ("resize", {"size": s}), st.integers(24, 48)),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(SLANTED, min_size=1, max_size=5))
def test_any_chain_is_near_on_a_smooth_picture(entries: list[tuple[str, dict[str, Any]]]) -> None:
    chain = build(*entries)
    source = picture(2, 3, 40, 36, seed=5)
    difference = (fused(chain, source) - one_by_one(chain, source)).abs()
    # seams of `shift` and `repeat` are sharp edges, which the two ways cut differently
    assert difference.mean() < 0.04


# ------------------------------------------------------------------- edges


def test_wrap_interpolates_across_the_seam() -> None:
    source = torch.rand(1, 1, 6, 8)
    stages = [Wrap((6, 8)), Map(translation(0.5, 0.25, source))]
    got = sample(source, stages, (6, 8), 1)[0, 0, 0]
    x = source[0, 0].numpy()
    across = 0.5 * x + 0.5 * np.roll(x, -1, 1)
    expected = 0.75 * across + 0.25 * np.roll(across, -1, 0)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_reduced_tile_stays_a_tile() -> None:
    source = torch.rand(1, 3, 40, 48)
    stages: list[Stage] = [Wrap((40, 48)), Map(affine(((4.0, 0, 0), (0, 4.0, 0)), source), (4, 4))]
    views = sample(source, stages, (20, 24), 1)[0, 0]  # two by two tiles
    torch.testing.assert_close(views[:, :10, :12], views[:, 10:, 12:], atol=1e-5, rtol=0)
    wave = torch.sin(torch.arange(48) * (2 * math.pi / 48)).expand(1, 3, 40, 48)
    shown = sample(wave, stages, (20, 24), 1)[0, 0, 0, 0]
    x = (torch.arange(24) + 0.5) * 4 - 0.5
    strength = shown.abs().max() / wave.abs().max()
    assert strength > 0.9  # and no kink where the ends meet
    expected = strength * torch.sin(x * (2 * math.pi / 48))
    torch.testing.assert_close(shown, expected, atol=0.02, rtol=0)


def test_fill_is_as_soft_as_a_painted_surrounding() -> None:
    source = torch.rand(1, 3, 12, 12)
    chain = build(("pad", {"size": 20, "color": [0.2, 0.6, 0.9]}), ("rotate", {"degree": 27}))
    color = torch.tensor([0.2, 0.6, 0.9]).view(3, 1, 1)
    painted = F.pad(source[0] - color, (20, 20, 20, 20)) + color
    expected = tv.rotate(painted, 27, tv.InterpolationMode.BILINEAR)
    got = fused(chain, source, 1)[0, 0]
    inside = (slice(None), slice(10, -10), slice(10, -10))
    torch.testing.assert_close(got[inside], expected[inside], atol=1e-4, rtol=0)


def test_clamp_fill_and_wrap_by_hand() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    like = row

    def values(*stages: Stage) -> list[float]:
        out = sample(row, list(stages), (1, 9), 1).flatten().tolist()
        return [round(v, 4) for v in out]

    by = Map(translation(-3.0, 0.0, like))
    nine = torch.full((1, 1, 1), 9.0)
    assert values(EdgeClamp((1, 3)), by) == [1, 1, 1, 1, 2, 3, 3, 3, 3]
    assert values(Wrap((1, 3)), by) == [1, 2, 3, 1, 2, 3, 1, 2, 3]
    assert values(Fill((1, 3)), by) == [0, 0, 0, 1, 2, 3, 0, 0, 0]
    assert values(Fill((1, 3), nine), by) == [9, 9, 9, 1, 2, 3, 9, 9, 9]
    one = Map(translation(-1.0, 0.0, like))
    two = Map(translation(-2.0, 0.0, like))
    assert values(EdgeClamp((1, 3)), one, Fill((1, 5), nine), two) == [9, 9, 1, 1, 2, 3, 3, 9, 9]
    assert values(Fill((1, 3), nine), one, Wrap((1, 5)), two) == [3, 9, 9, 1, 2, 3, 9, 9, 1]


# --------------------------------------------------------------- resolution


@pytest.mark.parametrize(("size", "out"), [(224, 64), (288, 224), (50, 49), (10, 30), (7, 1)])
def test_filter_matrix_is_what_torch_does(size: int, out: int) -> None:
    ones = torch.eye(size, dtype=torch.float64)[None, None]
    expected = F.interpolate(ones, (out, size), mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(filter_matrix(size, out), expected, atol=1e-6, rtol=0)
    around = filter_matrix(size, out, wrap=True)
    torch.testing.assert_close(around.sum(1), torch.ones(out).double())


def test_reduction_gain_of_white_noise() -> None:
    noise = torch.randn(200, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    small = resize(noise, (20, 16))
    assert reduction_gain((64, 48), (20, 16)) == pytest.approx(float(small.std()), rel=0.01)
    assert reduction_gain((64, 48), (64, 48)) == 1


def test_reduction_looks_at_the_smallest_on_the_way() -> None:
    def of(*entries: tuple[str, dict[str, Any]]) -> Shape:
        stages, _ = stages_of(build(*entries), (224, 224), 2)
        return reduction([s for each in stages for s in each], (224, 224))  # type: ignore[union-attr]

    assert of(("rotate", {"degree": 3})) == (224, 224)
    assert of(("resize", {"size": [64, 32]})) == (32, 64)
    assert of(("pad", {"size": 32}), ("resize", {"size": 64})) == (50, 50)
    assert of(("resize", {"size": 16}), ("resize", {"size": 224})) == (16, 16)
    assert of(("crop", {"box": [0, 0, 32, 32]}), ("resize", {"size": 224})) == (224, 224)
    assert of(("resize", {"size": 448}), ("resize", {"size": 224})) == (224, 224)
    assert of(("cutouts", {"scale": [0.5, 1], "size": 56})) == (112, 112)


def test_shrinking_and_enlarging_loses_what_is_between() -> None:
    source = torch.rand(1, 3, 64, 64)
    chain = build(("resize", {"size": 8}), ("rotate", {"degree": 90}), ("resize", {"size": 64}))
    a, b = fused(chain, source, 1), one_by_one(chain, source, 1)
    assert a.std() < 0.5 * source.std()
    assert abs(float(a.std() / b.std()) - 1) < 0.3


@pytest.mark.parametrize("final", [(224, 224), (160, 160), (64, 64)])
def test_rotated_noise_keeps_its_contrast(final: Shape) -> None:
    """The constant `SHARPNESS`: as strong as rotating first and resizing last, within 3 %."""
    source = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    chain = build(("pad", {"size": 32, "mode": "edge"}), ("random_rotate", {"degree": [-30, 30]}))
    last = build(("resize", {"size": [final[1], final[0]]}))
    a, b = fused(chain + last, source), resize(one_by_one(chain, source)[0], final)[None]
    inner = (..., slice(12, -12), slice(12, -12))
    assert float(a[inner].std() / b[inner].std()) == pytest.approx(1, abs=0.03)


# -------------------------------------------------------------------- atlas


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (224, 100), (5, 5)])
@pytest.mark.parametrize("guard", [0, 1])
def test_atlas_levels_do_not_overlap(size: Shape, guard: int) -> None:
    levels = atlas.layout(size, math.inf, guard)
    if levels is None:
        assert min(size) < 2 * atlas.LEAST
        return
    taken = np.zeros(levels.extent, int)
    for (h, w), (top, left) in zip(levels.sizes, levels.corners, strict=True):
        assert top + h + 2 * guard <= levels.extent[0]
        assert left + w + 2 * guard <= levels.extent[1]
        taken[top : top + h + 2 * guard, left : left + w + 2 * guard] += 1
    assert taken.max() == 1
    assert taken.size <= 2.6 * size[0] * size[1] + 8 * sum(levels.extent)
    source = torch.rand(2, 3, *size)
    packed = levels.pack(source)
    assert packed.shape == (2, 3, *levels.extent)
    for n, ((h, w), (top, left)) in enumerate(zip(levels.sizes, levels.corners, strict=True)):
        inside = packed[..., top + guard : top + guard + h, left + guard : left + guard + w]
        if n <= atlas.STEPS:
            torch.testing.assert_close(inside, resize(source, (h, w)))
        assert abs(inside.mean() - source.mean()) < 0.05


def test_atlas_only_where_views_differ() -> None:
    assert atlas.layout((224, 224), 1.0) is None
    assert atlas.layout((224, 224), 1.3) is None
    few, many = atlas.layout((224, 224), 3.0), atlas.layout((224, 224), math.inf)
    assert few is not None
    assert many is not None
    assert len(few.sizes) < len(many.sizes)


@pytest.mark.parametrize("canvas", [128, 256])
def test_pieces_of_different_size_are_all_antialiased(canvas: int) -> None:
    """Each view is near the piece resized alone; white noise, the worst case, keeps its contrast.

    One level for all would alias the large pieces (contrast 1.0 instead of 0.2)
    or blur the small ones.
    """
    x = torch.randn(1, 3, canvas, canvas, generator=torch.Generator().manual_seed(6))
    op = TRANSFORMS["cutouts"](scale=[0.1, 1], size=32)
    p = params(op)
    views = fused([(op, p)], x, 24)[0]  # type: ignore[list-item]
    move = op.stages((canvas, canvas), p, op.sample(view_draw(SEEDS[:1], 24, stream=0), p,  # type: ignore[attr-defined]
                                                    (canvas, canvas)), x)[1]
    ratios = []
    for view, matrix in zip(views, move.matrix[0], strict=True):
        side, left, top = float(matrix[0, 0]) * 32, int(matrix[0, 2]), int(matrix[1, 2])
        alone = tv.resized_crop(x[0], top, left, round(side), round(side), [32, 32], antialias=True)
        ratios.append(float(view.std() / alone.std()))
    assert min(ratios) > 0.6
    assert max(ratios) < 1.5
    assert abs(np.mean(ratios) - 1) < 0.1


def test_atlas_wraps_without_a_seam() -> None:
    source = torch.rand(1, 3, 64, 64)
    spread = torch.tensor([[1.0, 2.0, 4.0]])
    zero = torch.zeros_like(spread)
    stages: list[Stage] = [
        Wrap((64, 64)),
        Map(affine(((spread, zero, 5.0), (zero, spread, 3.0)), source), spread=spread,
            reach=(1.0, 4.0)),
    ]
    views = sample(source, stages, (64, 64), 3)[0]
    for view, period in zip(views, (64, 32, 16), strict=True):
        torch.testing.assert_close(view, view.roll(period, -1), atol=1e-4, rtol=0)
        torch.testing.assert_close(view, view.roll(period, -2), atol=1e-4, rtol=0)
    assert views[2].std() < 0.6 * views[0].std()


def test_views_of_views() -> None:
    """A sampling after a pixelwise transform: each view is its own source, atlas included."""
    ops: list[Transform] = [TRANSFORMS["noise"](std=0.3), TRANSFORMS["cutouts"](size=20),
                            TRANSFORMS["add"](value=0.1), TRANSFORMS["rotate"](degree=20)]
    ps = [params(op) for op in ops]
    source = picture(2, 3, 64, 64)
    chain = Chain.arrange(ops, ps, (64, 64), (20, 20))
    assert [s.fused for s in chain.segments] == [False, True, False, True]
    draws = [view_draw(SEEDS[:2], 3, stream=i) for i in range(4)]
    views = chain.run(source, ps, draws, 3)
    assert views.shape == (2, 3, 3, 20, 20)
    draws = [view_draw(SEEDS[1:2], 3, stream=i) for i in range(4)]
    alone = chain.run(source[1:], ps, draws, 3)
    torch.testing.assert_close(alone[0], views[1], atol=1e-5, rtol=0)


# ------------------------------------------------------------ no copies


@pytest.mark.parametrize("entries", [
    [("rotate", {"degree": 20})], [("cutouts", {"scale": [0.1, 1], "size": 32})],
])
def test_the_canvas_is_not_copied_for_each_view(entries: Any) -> None:
    chain = build(*entries)
    _op, _p = chain[0]
    source = torch.rand(1, 3, 512, 512, requires_grad=True)
    stages, _ = stages_of(chain, (512, 512), 64)
    bytes_of = 4 * source.numel()
    biggest = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal biggest
        biggest = max(biggest, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        out = sample(source[:, :, :, :], stages[0], (32, 32), 64)  # type: ignore[arg-type]
    assert biggest < 4 * bytes_of
    out.sum().backward()
    assert source.grad is not None
    assert source.grad.shape == source.shape


def test_few_pictures_and_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = build(("random_rotate", {"degree": [-30, 30]}))
    source = picture(1, 3, 32, 32)
    results = []
    for threads in (1, 2, 3, 12):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        leaf = source.clone().requires_grad_(True)
        views = fused(chain, leaf, 12)
        views.square().sum().backward()
        results.append((views.detach(), leaf.grad))
    for views, grad in results[1:]:
        assert torch.equal(views, results[0][0])
        torch.testing.assert_close(grad, results[0][1])
