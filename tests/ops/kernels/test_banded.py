"""Products with banded matrices against the dense ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clipig.ops.canvases.levels import COARSE, level_sum, resize_matrix, resized
from clipig.ops.kernels.banded import Band, separable
from clipig.ops.kernels.resizing import filter_matrix, resize

CPU = torch.device("cpu")
SIDES = st.integers(1, 400)


def rebuilt(band: Band) -> Tensor:
    """The matrix of the blocks."""
    matrix = torch.zeros_like(band.matrix)
    for block in band.blocks:
        matrix[block.rows, block.columns] = block.weights
    return matrix


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(["nearest", "bilinear", "bicubic"]), st.booleans())
def test_blocks_are_the_matrix(before: int, after: int, mode: str, wrap: bool) -> None:
    band = Band(resize_matrix(before, after, mode, wrap, CPU))
    assert torch.equal(rebuilt(band), band.matrix)
    assert torch.equal(rebuilt(band.turned), band.matrix.T)
    ends = [b.rows.stop for b in band.blocks]
    assert [b.rows.start for b in band.blocks] == [0, *ends[:-1]] and ends[-1] == after


def test_a_large_resize_holds_a_fraction_of_its_matrix() -> None:
    for size, out, share in ((224, 65, 0.3), (65, 224, 0.3), (1024, 228, 0.1), (192, 130, 0.3)):
        band = Band(filter_matrix(size, out).float())
        for one in (band, band.turned):
            held = sum(b.weights.numel() for b in one.blocks)
            assert held < share * size * out, (size, out)
    assert len(Band(filter_matrix(30, 20)).blocks) == 1  # a small one is left whole


@pytest.mark.parametrize("shape", [(2, 3), (4,), ()])
def test_separable_is_two_products(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    down, across = (Band(filter_matrix(n, o)) for n, o in ((200, 61), (150, 140)))
    x = torch.randn(*shape, 200, 150, dtype=torch.float64, requires_grad=True)
    y = separable(x[None] if not shape else x, down, across)
    expected = down.matrix @ x @ across.matrix.T
    torch.testing.assert_close(y.view_as(expected), expected)
    pull = torch.randn_like(expected)
    (given_,) = torch.autograd.grad(y, x, pull.view_as(y), retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, x, pull)
    torch.testing.assert_close(given_, wanted)


def test_what_was_first_used_for_inference_takes_gradients_too() -> None:
    down, across = (Band(filter_matrix(n, 64).float()) for n in (201, 203))
    x = torch.rand(2, 3, 201, 203)
    with torch.inference_mode():
        small = separable(x, down, across)
    x.requires_grad_()
    again = separable(x, down, across)
    again.sum().backward()
    assert torch.equal(again, small) and x.grad is not None
    torch.testing.assert_close(x.grad.sum(), torch.tensor(2 * 3 * 64.0 * 64), rtol=1e-4, atol=0)
    levels = [torch.rand(1, 3, s, s) for s in (3, 101, 150)]
    with torch.inference_mode():
        level_sum(levels, (150, 150))
    for level in levels:
        level.requires_grad_()
    level_sum(levels, (150, 150)).sum().backward()
    assert all(level.grad is not None for level in levels)


def test_a_gradient_that_is_not_contiguous() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 200, 200, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(2, 60, 60, 3, dtype=torch.float64).permute(0, 3, 1, 2)
    (given_,) = torch.autograd.grad(resize(x, (60, 60)), x, pull)
    (wanted,) = torch.autograd.grad(resize(x, (60, 60)), x, pull.contiguous())
    assert torch.equal(given_, wanted)


@pytest.mark.parametrize("wrap", [False, True])
def test_level_sum_of_coarse_fine_and_full_levels(wrap: bool) -> None:
    torch.manual_seed(1)
    size = (150, 200)
    shapes = [(1, 1), (6, 8), (30, 40), (75, 100), (120, 160), size, size]
    assert any(w <= COARSE for _, w in shapes) and any(w > COARSE for _, w in shapes[:-2])
    levels = [torch.randn(2, 3, *s, requires_grad=True) for s in shapes]
    pull = torch.randn(2, 3, *size)
    total = level_sum(levels, size, wrap=wrap)
    plain = torch.stack([resized(x, size, wrap=wrap) for x in levels]).sum(0)
    torch.testing.assert_close(total, plain, atol=1e-4, rtol=1e-4)
    given_ = torch.autograd.grad(total, levels, pull)
    wanted = torch.autograd.grad(plain, levels, pull)
    for a, b in zip(given_, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_only_fine_levels_or_only_full_ones() -> None:
    fine = torch.randn(1, 3, 60, 60)
    torch.testing.assert_close(level_sum([fine], (120, 120)), resized(fine, (120, 120)))
    full = torch.randn(1, 3, 20, 20)
    alone = level_sum([full], (20, 20))
    assert torch.equal(alone, full) and alone.data_ptr() != full.data_ptr()
    with pytest.raises(ValueError, match="no levels"):
        level_sum([], (4, 4))
