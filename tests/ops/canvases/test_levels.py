"""Sums of enlarged levels against enlarging each by itself."""

from __future__ import annotations

import pytest
import torch

from clipig.ops.canvases.levels import level_sum, resized


@pytest.mark.parametrize("wrap", [False, True])
def test_a_sum_of_levels_is_the_sum_of_enlarged_levels(wrap: bool) -> None:
    torch.manual_seed(1)
    size = (150, 200)
    shapes = [(1, 1), (6, 8), (30, 40), (75, 100), (120, 160), size, size]
    levels = [torch.randn(2, 3, *s, requires_grad=True) for s in shapes]
    pull = torch.randn(2, 3, *size)
    total = level_sum(levels, size, wrap=wrap)
    plain = torch.stack([resized(x, size, wrap=wrap) for x in levels]).sum(0)
    torch.testing.assert_close(total, plain, atol=1e-4, rtol=1e-4)
    given = torch.autograd.grad(total, levels, pull)
    wanted = torch.autograd.grad(plain, levels, pull)
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_matrices_first_used_in_inference_mode_give_gradients_later() -> None:
    levels = [torch.rand(1, 3, s, s) for s in (3, 101, 151)]
    with torch.inference_mode():
        level_sum(levels, (151, 151))
    for level in levels:
        level.requires_grad_()
    level_sum(levels, (151, 151)).sum().backward()
    assert all(level.grad is not None for level in levels)


def test_a_sum_of_no_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="no levels"):
        level_sum([], (4, 4))
