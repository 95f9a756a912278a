"""Bridges between the cones of texts and images: the mathematics, and the way to the goals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from clipig.cli.bridge_command import command
from clipig.config.parts import Feature
from clipig.encoders import resolve
from clipig.encoders.bridges import (
    BRIDGES,
    Bridge,
    bridge_path,
    fit_bridge,
    load_bridge,
    save_bridge,
)
from clipig.encoders.protocol import EncoderInfo
from clipig.engine.goals import PromptCache
from clipig.errors import EncoderError, UsageError
from clipig.jobs.bridging import read_pairs
from tests.support.tiny_checkpoints import own_cache
from tests.support.tiny_encoder import TinyEncoder

__all__ = ["own_cache"]
INFO = EncoderInfo("x", 16, 8, 77, "", f"sha256:{7:064x}")


def pairs(count: int, width: int = 8, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Texts, their images (the texts turned, with noise), and the rotation."""
    rng = torch.Generator().manual_seed(3)
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=rng))
    texts = F.normalize(torch.randn(count, width, generator=rng) + 0.5, dim=-1)
    images = texts @ turn + noise * torch.randn(count, width, generator=rng)
    return texts, F.normalize(images, dim=-1), turn


def test_procrustes_finds_the_rotation_and_stays_one_with_noise() -> None:
    texts, images, turn = pairs(64)
    assert torch.allclose(fit_bridge(images, texts).rotation, turn, atol=1e-5)
    texts, images, turn = pairs(64, noise=0.1)
    found = fit_bridge(images, texts).rotation
    assert torch.allclose(found @ found.T, torch.eye(8), atol=1e-5)
    best = float(((texts @ found) * images).sum())
    for seed in range(5):
        other, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)))
        assert float(((texts @ other) * images).sum()) < best


def test_a_rotation_of_few_pairs_is_a_rotation_and_leaves_the_rest_alone() -> None:
    rng = torch.Generator().manual_seed(1)
    texts = F.normalize(F.pad(torch.randn(20, 4, generator=rng), (0, 28)))
    found = fit_bridge(texts, texts).rotation  # nothing to turn
    assert torch.allclose(found, torch.eye(32), atol=1e-4)


def test_whitened_texts_have_the_mean_and_the_spread_of_images() -> None:
    rng = torch.Generator().manual_seed(5)
    mix = torch.randn(4, 4, generator=rng)
    texts = torch.randn(20_000, 4, generator=rng) * torch.tensor([1.0, 0.5, 0.2, 0.1]) + 1
    images = torch.randn(20_000, 4, generator=rng) @ mix - 2
    bridge = fit_bridge(images, texts)
    moved = bridge.image_mean + (texts - bridge.text_mean) @ bridge.whitening
    assert torch.allclose(moved.mean(0), images.mean(0), atol=0.05)
    assert torch.allclose(torch.cov(moved.T), torch.cov(images.T), atol=0.1)


def test_every_way_brings_texts_closer_to_their_images() -> None:
    texts, images, _ = pairs(400, noise=0.05)
    bridge = fit_bridge(images, texts)
    before = float((texts * images).sum(-1).mean())
    for kind in BRIDGES:
        moved = bridge.moved(texts, kind)
        assert float((moved * images).sum(-1).mean()) > before
        assert torch.allclose(moved.norm(dim=-1), torch.ones(400), atol=1e-5)


def test_few_pairs_are_refused() -> None:
    with pytest.raises(EncoderError, match="15 pairs"):
        fit_bridge(torch.eye(16)[:15], torch.eye(16)[:15])


def test_statistics_are_kept_by_the_checksum_of_the_weights() -> None:
    bridge = fit_bridge(*pairs(32)[:2])
    assert load_bridge(INFO) is None
    path = save_bridge(INFO, bridge, 32)
    found = load_bridge(INFO)
    assert found is not None and torch.equal(found.rotation, bridge.rotation)
    assert load_bridge(EncoderInfo("x", 16, 4, 77, "", INFO.checksum)) is None  # another width
    path.write_bytes(b"damaged")
    assert load_bridge(INFO) is None
    with pytest.raises(EncoderError, match="no checksum"):
        save_bridge(EncoderInfo("x", 16, 8), bridge, 32)


@pytest.mark.parametrize("kind", BRIDGES)
def test_a_feature_is_moved_by_its_share(kind: str) -> None:
    bridge = fit_bridge(*pairs(64)[:2])
    cache = PromptCache(None, lambda _: bridge)
    encoder = TinyEncoder()
    at = {
        share: cache.embed(encoder, [Feature(text="a", bridge=share, bridge_by=kind)])[0]  # type: ignore[arg-type]
        for share in (0.0, 0.5, 1.0)
    }
    whole = bridge.moved(at[0.0], kind)  # type: ignore[arg-type]
    assert torch.allclose(at[1.0], whole, atol=1e-6)
    assert torch.allclose(at[0.5], F.normalize(at[0.0] + whole, dim=0), atol=1e-6)


def test_without_statistics_the_error_names_the_command() -> None:
    feature = Feature(text="a", bridge=1, bridge_by="procrustes")
    with pytest.raises(EncoderError, match="clipig bridge PAIRS"):
        PromptCache().embed(TinyEncoder(), [feature])


def test_the_command_measures_any_model(tmp_path: Path) -> None:
    rows = []
    for i in range(20):
        name = f"{i}.png"
        Image.new("RGB", (8, 8), (12 * i, 255 - 12 * i, 40)).save(tmp_path / name)
        rows.append(f"{name}\tsomething red and blue {i}")
    (tmp_path / "pairs.tsv").write_text("# images and captions\n\n" + "\n".join(rows))
    result = CliRunner().invoke(command, [str(tmp_path / "pairs.tsv"), "-m", "embedded"])
    assert result.exit_code == 0, result.output
    found = load_bridge(resolve("embedded"))
    assert isinstance(found, Bridge) and bridge_path(resolve("embedded")).is_file()


def test_pairs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a.png a cat\n")
    with pytest.raises(UsageError, match=r"pairs.tsv:1: expected IMAGE<tab>CAPTION"):
        read_pairs(str(path))
    path.write_text("a.png\ta cat\n")
    with pytest.raises(UsageError, match="1 pairs, expected 16"):
        read_pairs(str(path))
