"""The measure, on pictures whose numbers are known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from clipig.jobs.quality import (
    interval,
    saturation,
    score,
    sharpness,
    similarities,
    spectrum_slope,
    statistics,
    total_variation,
)
from tests.support.tiny_encoder import TinyEncoder


def natural(slope: float, count: int = 4, side: int = 128, seed: int = 0) -> Tensor:
    """Gray pictures with amplitude f^slope and random phases, `[count, 3, side, side]`."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, side, side, generator=generator)
    y = torch.fft.fftfreq(side)[:, None] * side
    x = torch.fft.rfftfreq(side)[None] * side
    gain = (x.square() + y.square()).sqrt().clamp(min=1) ** slope
    light = torch.fft.irfft2(torch.fft.rfft2(white) * gain, s=(side, side))
    light = 0.5 + 0.1 * light / light.std((1, 2), keepdim=True)
    return light[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("slope", [0.0, -0.5, -1.0, -1.5, -2.0])
def test_slope_of_known_spectra(slope: float) -> None:
    assert spectrum_slope(natural(slope, 16)).mean().item() == pytest.approx(slope, abs=0.12)


def test_slope_does_not_depend_on_contrast_or_size() -> None:
    pictures = natural(-1.0)
    torch.testing.assert_close(
        spectrum_slope(pictures), spectrum_slope(pictures * 0.3), atol=1e-3, rtol=0
    )
    large = statistics(natural(-1.0, side=256))["slope"].mean().item()
    assert large == pytest.approx(-1.0, abs=0.2)


def test_slope_of_one_colour_is_finite() -> None:
    assert torch.isfinite(spectrum_slope(torch.full((2, 3, 64, 64), 0.3))).all()


def test_statistics_by_hand() -> None:
    stripes = torch.zeros(1, 3, 8, 8)
    stripes[..., 1::2] = 1
    # every step to the right is 1, every step down is 0
    assert total_variation(stripes).item() == pytest.approx(0.5)
    # neighbours left and right differ by 1 each: the Laplacian is 2 or -2
    assert sharpness(stripes).item() == pytest.approx(2.0, abs=1e-5)
    assert saturation(stripes).item() == 0
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    # |1 - 1/3| and twice |0 - 1/3|, their mean
    assert saturation(red).item() == pytest.approx(4 / 9)
    assert total_variation(red).item() == 0
    assert sharpness(red).item() == pytest.approx(0, abs=1e-6)


def test_noise_is_told_from_pictures() -> None:
    noise, picture = statistics(natural(0.0)), statistics(natural(-1.5))
    assert (noise["slope"] > picture["slope"] + 1).all()
    assert (noise["variation"] > 2 * picture["variation"]).all()
    assert (noise["sharpness"] > 2 * picture["sharpness"]).all()


def test_rank_by_a_judge() -> None:
    judge = TinyEncoder(3)
    texts = [f"thing {i}" for i in range(30)]
    pictures = [torch.rand(3, 16 + i, 24) for i in range(5)]
    table = similarities(pictures, texts, judge)
    assert table.shape == (5, 30)
    order = table.argsort(1, descending=True)
    for place in (0, 3, 29):
        own = [texts[int(order[i, place])] for i in range(5)]
        rows = score(pictures, own, judge, texts)
        for i, row in enumerate(rows):
            assert row.rank == place + 1
            assert row.of == 30
            assert row.reciprocal == pytest.approx(1 / (place + 1))
            assert row.nearest == texts[int(order[i, 0])]
            assert row.similarity == pytest.approx(float(table[i, order[i, place]]), abs=1e-4)
        assert json.loads(json.dumps(rows[0].as_dict()))["rank"] == place + 1


def test_the_true_text_is_always_a_candidate() -> None:
    row = score(torch.rand(1, 3, 16, 16), ["mine"], TinyEncoder(1), ["other", "another"])[0]
    assert row.of == 3
    assert score([], [], TinyEncoder(1)) == []
    with pytest.raises(ValueError, match="1 pictures, 2 texts"):
        score(torch.rand(1, 3, 16, 16), ["a", "b"], TinyEncoder(1))


def test_interval() -> None:
    mean, low, high = interval([0.0, 1.0] * 50)
    assert mean == 0.5
    # the standard error of the mean is .05
    assert low == pytest.approx(0.4, abs=0.03)
    assert high == pytest.approx(0.6, abs=0.03)
    assert interval([2.0] * 5) == (2.0, 2.0, 2.0)
    assert interval([1.0, 2.0, 3.0]) == interval([1.0, 2.0, 3.0])
