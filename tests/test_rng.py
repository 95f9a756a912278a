"""Random numbers: distribution, independence, and that they belong to a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from clipig import rng
from clipig.rng import Draw, ViewDraw, derive_seed, stream_id

COUNT = 1 << 17
BOUND = 4.5 / math.sqrt(COUNT)  # of a correlation of independent numbers, 4.5 sigma


def values(seed: int = 1, stream: int = 2, step: int = 3, count: int = COUNT) -> np.ndarray:
    return Draw([seed]).uniform(stream, step, (count,))[0].numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return abs(float(np.corrcoef(a, b)[0, 1]))


def test_uniform_passes_kolmogorov_smirnov_and_chi2() -> None:
    x = Draw(range(8)).uniform(5, 6, (COUNT // 8,)).flatten().numpy()
    assert x.min() >= 0
    assert x.max() < 1
    assert stats.kstest(x, "uniform").pvalue > 1e-3
    for bits in (4, 8, 12):  # upper bits
        counts = np.bincount((x * (1 << bits)).astype(int), minlength=1 << bits)
        assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-6
    low = Draw([1]).bits(5, 6, COUNT)[0].numpy() & 255  # and the lowest
    assert 1e-3 < stats.chisquare(np.bincount(low, minlength=256)).pvalue < 1 - 1e-6


def test_every_bit_is_fair() -> None:
    bits = Draw([3]).bits(1, 0, COUNT)[0].numpy().view(np.uint32)
    ones = ((bits[:, None] >> np.arange(32)) & 1).mean(0)
    assert np.abs(ones - 0.5).max() < 0.5 * BOUND


def test_normal_passes_kolmogorov_smirnov() -> None:
    x = Draw(range(4)).normal(5, 6, (COUNT // 4,)).flatten().numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs(stats.skew(x)) < 0.03
    assert abs(stats.kurtosis(x)) < 0.06
    assert 4 < np.abs(x).max() < 4.9


def test_odd_counts_and_shapes() -> None:
    draw = Draw([1, 2])
    assert draw.normal(1, 1, (3, 5, 7)).shape == (2, 3, 5, 7)
    assert draw.normal(1, 1, ()).shape == (2,)
    assert draw.uniform(1, 1, (1,), -2, -1).shape == (2, 1)
    assert draw.normal(1, 1, (0,)).shape == (2, 0)
    x = draw.uniform(1, 1, (10000,), -2, -1)
    assert x.min() >= -2
    assert x.max() <= -1
    assert abs(x.mean() + 1.5) < 0.01


@pytest.mark.parametrize("lag", [1, 2, 3, 64, 224, 4096])
def test_neighbours_are_independent(lag: int) -> None:
    x = values()
    assert correlation(x[:-lag], x[lag:]) < BOUND * 1.1
    y = Draw([1]).normal(2, 3, (COUNT,))[0].numpy()
    assert correlation(y[:-lag], y[lag:]) < BOUND * 1.1
    assert correlation(y[:-lag] ** 2, y[lag:] ** 2) < BOUND * 1.1


def test_the_halves_of_a_pair_are_independent() -> None:
    y = Draw([1]).normal(2, 3, (COUNT,))[0].numpy()
    first, second = y[: COUNT // 2], y[COUNT // 2 :]
    assert correlation(first, second) < BOUND * 1.5
    assert correlation(first**2, second**2) < BOUND * 1.5


def test_runs_steps_and_streams_are_independent() -> None:
    base = values()
    others = [values(seed=2), values(step=4), values(stream=3), values(seed=10**12),
              values(step=10**6), values(stream=2**31), values(seed=0), values(step=0)]
    for other in others:
        assert correlation(base, other) < BOUND
        assert correlation(base[1:], other[:-1]) < BOUND * 1.1
        assert correlation((base - 0.5) ** 2, (other - 0.5) ** 2) < BOUND


def test_first_numbers_of_neighbouring_runs_steps_and_streams() -> None:
    """What differs between runs is often only the first few numbers: an angle, a place."""
    by_run = Draw(range(20000)).uniform(1, 0, (2,)).numpy()
    by_step = np.stack([Draw([7]).uniform(1, step, (2,))[0].numpy() for step in range(2000)])
    by_stream = np.stack([Draw([7]).uniform(s, 0, (2,))[0].numpy() for s in range(2000)])
    for table in (by_run, by_step, by_stream):
        bound = 4.5 / math.sqrt(len(table))
        assert stats.kstest(table[:, 0], "uniform").pvalue > 1e-3
        assert correlation(table[:, 0], table[:, 1]) < bound
        assert correlation(table[:-1, 0], table[1:, 0]) < bound
        assert len(np.unique(table[:, 0])) > 0.99 * len(table)


def test_no_two_runs_share_their_numbers() -> None:
    keys = Draw(range(100000)).keys.numpy()
    assert len(np.unique(keys, axis=0)) == len(keys)
    first = Draw(range(1000)).bits(1, 1, 8).numpy()
    assert len(np.unique(first, axis=0)) == 1000


def test_a_run_draws_the_same_alone_and_in_a_batch() -> None:
    seeds = [5, 10**15, 0, 77]
    together = Draw(seeds)
    for i, seed in enumerate(seeds):
        alone = Draw([seed])
        assert torch.equal(alone.normal(1, 2, (3, 9)), together.normal(1, 2, (3, 9))[i : i + 1])
        assert torch.equal(alone.uniform(1, 2, (70001,)),
                           together.uniform(1, 2, (70001,))[i : i + 1])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw([1, 2, 3])
    expected = draw.normal(4, 5, (70001,)), draw.uniform(4, 5, (70001,))
    monkeypatch.setattr(rng, "_BLOCK", 5000)
    assert torch.equal(draw.normal(4, 5, (70001,)), expected[0])
    assert torch.equal(draw.uniform(4, 5, (70001,)), expected[1])


@pytest.mark.parametrize("step", [0, 1, 299, 2**20])
def test_int_step_equals_tensor_step(step: int) -> None:
    draw = Draw([1, 2])
    for stream in (0, 1, 0xFFFFFFFF, stream_id("target", 0, "noise")):
        expected = draw.bits(stream, step, 100)
        assert torch.equal(draw.bits(stream, torch.tensor(step), 100), expected)
        assert torch.equal(draw.bits(stream, torch.tensor([step]), 100), expected)


def test_bits_are_those_of_a_plain_python_hash() -> None:
    """The formula by hand, with unbounded integers: nothing depends on the device's arithmetic."""
    draw, mask = Draw([9]), 0xFFFFFFFF
    key = [int(k) & mask for k in draw.keys[0]]
    salt = rng._mix_int(6 * rng._GOLDEN + 1234)
    a = rng._mix_int(key[0] ^ salt)
    b = rng._mix_int(key[1] + a)
    expected = [rng._mix_int(i * (a | 1) + b) for i in range(50)]
    assert [int(v) & mask for v in draw.bits(1234, 6, 50)[0]] == expected


def test_other_device_same_numbers(device: torch.device) -> None:
    here, there = Draw([1, 2]), Draw([1, 2], device)
    assert torch.equal(here.bits(3, 4, 1000), there.bits(3, 4, 1000).cpu())
    expected = here.uniform(3, 4, (1000,), -1, 2)
    assert torch.equal(expected, there.uniform(3, 4, (1000,), -1, 2).cpu())
    torch.testing.assert_close(here.normal(3, 4, (1000,)), there.normal(3, 4, (1000,)).cpu(),
                               atol=1e-5, rtol=1e-5)


def test_view_draw_takes_a_fresh_stream_for_each_call() -> None:
    draw = ViewDraw(Draw([1, 2]), 5, 6, 3)
    first, second = draw.uniform(4), draw.uniform(4)
    assert first.shape == (2, 3, 4)
    assert not torch.equal(first, second)
    again = ViewDraw(Draw([1, 2]), 5, 6, 3)
    assert torch.equal(again.uniform(4), first)
    assert torch.equal(again.uniform(4), second)
    assert correlation(first.flatten().numpy(), second.flatten().numpy()) < 0.9
    assert draw.normal().shape == (2, 3)


def test_seeds_follow_from_a_path() -> None:
    seeds = {derive_seed(1, "run", i) for i in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(1, "run", 3) == derive_seed(1, "run", 3) != derive_seed(2, "run", 3)
    assert stream_id("a", 1) != stream_id("a", 2)
    assert stream_id("target", 0, "noise", 3) == stream_id("target", 0, "noise", 3)
