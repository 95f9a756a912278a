"""The learned prior, small: its training lowers the error, resumes, and its file is checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from clipig.ops.kernels.denoiser import Denoiser, DenoiserConfig, denoiser_from_bytes
from tests.training.test_training import bank as bank  # a fixture
from training import prior
from training.sources import Bank
from training.weights import read_weights

CHECKPOINTS = Path(prior.__file__).parent / "checkpoints"

TINY = DenoiserConfig(
    size=16, channels=(8, 16), down=(1, 1), up=(1,), heads=2, embedding=16, sigma_max=4.0
)


def settings(out: Path) -> prior.PriorSettings:
    return prior.PriorSettings(out, size=16, batch=16, lr=4e-3, seconds=1e6)


def file_bytes(network: Denoiser, path: Path) -> bytes:
    prior.export_denoiser(network, path, {"images": 1})
    return path.read_bytes()


def test_training_lowers_the_error_and_resumes(bank: Bank, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    trainer = prior.PriorTrainer(settings(tmp_path), bank, TINY)
    before = trainer.measure()
    for _ in range(60):
        trainer.step()
    after = trainer.measure()
    assert after["error_1"] < 0.9 * before["error_1"]
    assert set(after) == set(before) and "unseen_style_error_1" in after
    trainer.save()
    trainer.export()
    again = prior.PriorTrainer(settings(tmp_path), bank, TINY)
    again.resume()
    assert again.progress.step == 60 and again.progress.images == 960
    assert again.step() > 0


def test_exported_weights_load_and_denoise(tmp_path: Path) -> None:
    network = Denoiser(TINY)
    nn.init.normal_(network.leave.weight, std=0.05)
    loaded = denoiser_from_bytes(file_bytes(network, tmp_path / "a.safetensors"))
    noisy, sigma = torch.randn(2, 3, 16, 24), torch.tensor([0.1, 2.0])
    torch.testing.assert_close(loaded(noisy, sigma), network(noisy, sigma), atol=5e-3, rtol=0)
    assert not any(weight.requires_grad for weight in loaded.parameters())
    clean = loaded.denoise(torch.rand(1, 3, 16, 16), torch.tensor([0.2]))
    assert clean.shape == (1, 3, 16, 16) and clean.min() >= 0 and clean.max() <= 1


def test_a_batch_is_denoised_as_each_picture_alone() -> None:
    network = Denoiser(TINY).eval()
    nn.init.normal_(network.leave.weight, std=0.05)
    nn.init.normal_(network.attention.answer.weight, std=0.05)
    noisy, sigma = torch.randn(3, 3, 16, 16), torch.tensor([0.1, 1.0, 3.0])
    alone = torch.cat([network(noisy[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(noisy, sigma), alone, atol=1e-5, rtol=1e-5)


def test_hardly_noisy_pictures_stay_as_they_are() -> None:
    """c_skip goes to one and c_out to zero with the noise, whatever the network says."""
    network = Denoiser(TINY)
    nn.init.normal_(network.leave.weight, std=1.0)
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(network(picture, torch.tensor([1e-4])), picture, atol=5e-3, rtol=0)


def test_samples_lie_in_the_unit_range() -> None:
    samples = prior.draw_samples(Denoiser(TINY), 2, steps=3)
    assert samples.shape == (2, 3, 16, 16) and samples.min() >= 0 and samples.max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": "two"}, "heads is 'two'"),
        ({"channels": [8, 12]}, "multiples of 8"),
        ({"down": [1]}, "levels need"),
        ({"sigma_min": 9.0}, "sigma_min < sigma_max"),
        ({"color": 1}, "expected to hold size"),
        ({"up": [2]}, "do not fit"),
    ],
)
def test_damaged_config_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    data = file_bytes(Denoiser(TINY), tmp_path / "a.safetensors")
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    config = {**json.loads(metadata["config"]), **change}
    network = Denoiser(TINY)
    other = save(network.state_dict(), {"config": json.dumps(config)})
    with pytest.raises(ValueError, match=message):
        denoiser_from_bytes(other)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nothing", "not a safetensors file"),
        (save({"x": torch.zeros(1)}), "no `config`"),
        (save({"x": torch.zeros(1)}, {"config": "{"}), "not JSON"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        denoiser_from_bytes(data)


def test_committed_prior_denoises_a_drawing() -> None:
    """At sigma .5 its error is less than a tenth of the noise's."""
    network = denoiser_from_bytes((CHECKPOINTS / "embedded-prior.safetensors").read_bytes())
    size = network.config.size
    line = torch.linspace(-1, 1, size)
    disc = (line.view(-1, 1) ** 2 + line**2 < 0.4).float()
    red, gray = torch.tensor([0.9, -0.8, -0.7]), torch.tensor([0.3, 0.3, 0.4])
    drawing = torch.lerp(gray.view(3, 1, 1), red.view(3, 1, 1), disc)[None]
    noise = torch.randn(drawing.shape, generator=torch.Generator().manual_seed(0))
    found = network(drawing + 0.5 * noise, torch.tensor([0.5]))
    assert (found - drawing).square().mean() < 0.1 * 0.5**2


def test_committed_weights_are_those_of_their_index() -> None:
    index = json.loads((CHECKPOINTS / "index.json").read_text())
    assert set(index) == {"embedded-2", "embedded-prior"}
    for name, entry in index.items():
        data = (CHECKPOINTS / f"{name}.safetensors").read_bytes()
        assert "sha256:" + hashlib.sha256(data).hexdigest() == entry["checksum"]
        assert len(data) < (6e6 if name == "embedded-prior" else 9e6)
        lines = (CHECKPOINTS / f"{name}.metrics.jsonl").read_text().splitlines()
        seen = [json.loads(line)["images"] for line in lines]
        assert entry["images"] >= max(seen) > 0
    config, words, _ = read_weights(CHECKPOINTS / "embedded-2.safetensors")
    assert len(words) == config.words
