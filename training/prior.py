"""Trains the denoiser of drawings, the learned prior, from nothing to weights.

    python -m training.prior --out training/runs/prior --seconds 7200

fetches the icon sets, renders the bank of drawings, trains in one process and writes
`embedded-prior.safetensors`, `checkpoint.pt`, `metrics.jsonl` and sheets of samples.
Started again with the same folder it goes on from the checkpoint. Every field of
`PriorSettings` is an option.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torchvision.utils import save_image

from clipig.ops.kernels.denoiser import Denoiser, DenoiserConfig, denoiser_from_bytes
from training.compose import Painter
from training.scenes import Kind, Scene, SceneDrawer
from training.sources import HELD_OUT, Bank, load_bank
from training.train import Progress, write_metrics

NAME = "embedded-prior"
# How many of the painter's scenes of a kind are taken: a prior is for things, not for tilings.
SHARES = {Kind.TILES: 0.25, Kind.COLOR: 0.25, Kind.BOTH: 0.5}
STYLES = {"own": 1.5, "fluent-contrast": 0.3, "noto-mono": 0.3, "openclipart": 0.7}
MEASURED_LEVELS = (0.1, 0.3, 1.0, 3.0)


@dataclass
class PriorSettings:
    """What the command line asks for.

    Attributes:
        out: Folder of the run.
        seconds: Working time in all, over every start.
        size: Side of the pictures, pixels.
        batch: Pictures per step.
        lr: Greatest learning rate; warmed up, then cosine.
        ema: Share of the averaged weights that a step keeps.
        start: A weights file to begin with; its shape is taken too.
        save_minutes: Between two checkpoints.
        measure_minutes: Between two measures and sheets of samples.
    """

    out: Path
    seconds: float = 7200.0
    size: int = 64
    batch: int = 64
    lr: float = 1.2e-3
    weight_decay: float = 0.01
    ema: float = 0.9995
    seed: int = 5
    start: Path | None = None
    save_minutes: float = 5.0
    measure_minutes: float = 10.0
    device: str = "cpu"


class PriorTrainer:
    """One process of the training."""

    def __init__(self, settings: PriorSettings, bank: Bank, config: DenoiserConfig | None = None):
        self.settings, self.bank = settings, bank
        torch.manual_seed(settings.seed)
        if settings.start is None:
            network = Denoiser(config or DenoiserConfig(size=settings.size))
        else:
            network = denoiser_from_bytes(settings.start.read_bytes()).requires_grad_(True)
        if settings.size % network.config.multiple:
            raise SystemExit(f"--size: expected a multiple of {network.config.multiple}")
        self.device = torch.get_default_device()
        network.to(self.device).to(memory_format=torch.channels_last)
        self.network = network.train()
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=settings.lr,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.progress = Progress()
        self.drawer = SceneDrawer(bank, settings.seed, STYLES)
        self.painter = Painter(bank, settings.size, settings.seed, augment=False)
        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        self.choice = random.Random(settings.seed)

    def step(self) -> float:
        """One update. Returns the loss."""
        began = time.perf_counter()
        self._set_lr()
        scenes = draw_scenes(self.drawer, self.choice, self.settings.batch)
        pictures = self.painter.paint(scenes) * 2 - 1
        sigma = self._levels(len(scenes))
        noise = torch.randn(pictures.shape, generator=self.rng)
        loss = weighted_error(self.network, pictures, noise, sigma).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        progress = self.progress
        progress.step += 1
        keep = min(self.settings.ema, (1 + progress.step) / (10 + progress.step))
        values = [value.detach() for value in self.network.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), values, 1 - keep)
        progress.images += len(scenes)
        progress.seconds += min(time.perf_counter() - began, 5.0)
        progress.done = progress.seconds / self.settings.seconds
        return loss.item()

    def _levels(self, count: int) -> Tensor:
        """Noise levels `[count]`, log-uniform."""
        config = self.network.config
        low, high = math.log(config.sigma_min), math.log(config.sigma_max)
        return torch.exp(low + (high - low) * torch.rand(count, generator=self.rng))

    def _set_lr(self) -> None:
        progress = self.progress
        warm = min(1.0, (progress.step + 1) / 200)
        rate = warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress.done))) + 0.005
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * rate

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Weighted error of the averaged weights on fixed pictures, seen and unseen style."""
        results = {}
        families = [(style, name) for style, name in HELD_OUT.items() if style in self.bank.style]
        for held_out_style, prefix in [(None, ""), *families]:
            drawer = SceneDrawer(self.bank, 11, held_out_style=held_out_style)
            painter = Painter(self.bank, self.settings.size, 11, augment=False)
            scenes = draw_scenes(drawer, random.Random(11), 64)
            pictures = painter.paint(scenes) * 2 - 1
            noise = torch.randn(
                pictures.shape, generator=torch.Generator(self.device).manual_seed(11)
            )
            for level in MEASURED_LEVELS:
                sigma = torch.full((len(scenes),), level)
                error = weighted_error(self.average, pictures, noise, sigma).mean().item()
                results[f"{prefix}error_{level:g}"] = round(error, 5)
        return results

    def export(self) -> None:
        """Write the averaged weights."""
        progress = self.progress
        notes = {"images": progress.images, "hours": round(progress.seconds / 3600, 3)}
        curve = read_curve(self.settings.out / "metrics.jsonl")
        export_denoiser(
            self.average, self.settings.out / f"{NAME}.safetensors", {**notes, "curve": curve}
        )

    def save(self) -> None:
        """Write the checkpoint, in one piece or not at all."""
        path = self.settings.out / "checkpoint.pt"
        state = {
            "config": asdict(self.network.config),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one."""
        path = self.settings.out / "checkpoint.pt"
        if not path.exists():
            return
        saved: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if saved["config"] != asdict(self.network.config):
            raise SystemExit(f"{path} is of a network of another shape: {saved['config']}")
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = Progress(**saved["progress"])
        self.progress.done = self.progress.seconds / self.settings.seconds
        seed = self.settings.seed + 7919 * self.progress.step
        self.drawer.rng.seed(seed)
        self.painter.rng.manual_seed(seed)
        self.rng.manual_seed(seed)
        self.choice.seed(seed)


def draw_scenes(drawer: SceneDrawer, choice: random.Random, count: int) -> list[Scene]:
    """`count` scenes, fewer tilings, patterns and pairs than the painter's usual mix."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        drawn = drawer.draw(count)
        scenes += [scene for scene in drawn if choice.random() < SHARES.get(scene.kind, 1.0)]
    return scenes[:count]


def weighted_error(network: Denoiser, pictures: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Squared error per picture, weighted so that every noise level counts alike.

    Args:
        network: The denoiser.
        pictures: `[B, 3, H, W]`, [-1, 1].
        noise: `[B, 3, H, W]`, of unit variance.
        sigma: `[B]`.

    Returns:
        `[B]`.

    Source: Karras et al. 2022, table 1: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.
    """
    data = network.config.sigma_data
    noisy = pictures + noise * sigma.view(-1, 1, 1, 1)
    with torch.autocast(pictures.device.type, torch.bfloat16):
        found = network(noisy.contiguous(memory_format=torch.channels_last), sigma)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    error: Tensor = weight * (found - pictures).square().mean((1, 2, 3))
    return error


@torch.no_grad()
def draw_samples(network: Denoiser, count: int, steps: int = 40, seed: int = 0) -> Tensor:
    """Pictures from noise alone, `[count, 3, S, S]` in [0, 1]; the ancestral sampler."""
    config = network.config
    device = torch.get_default_device()
    rng = torch.Generator(device).manual_seed(seed)
    levels = torch.logspace(
        math.log10(config.sigma_max), math.log10(config.sigma_min), steps, device=device
    )
    x = torch.randn(count, 3, config.size, config.size, generator=rng) * config.sigma_max
    for level, after in zip(levels, [*levels[1:], levels.new_zeros(())], strict=True):
        found = network(x, level.expand(count)).clamp(-1, 1)
        down = after**2 / level
        up = (after**2 - down**2).clamp(min=0).sqrt()
        x = found + (x - found) * (down / level) + torch.randn(x.shape, generator=rng) * up
    return (x / 2 + 0.5).clamp(0, 1)


def export_denoiser(network: Denoiser, path: Path, notes: dict[str, Any]) -> None:
    """Write fp16 weights; the metadata hold the shape and `notes`."""
    tensors = {
        key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()
    }
    metadata = {"config": json.dumps(asdict(network.config)), "notes": json.dumps(notes)}
    temporary = path.with_suffix(".part")
    temporary.write_bytes(save(tensors, metadata))
    temporary.replace(path)


def read_curve(path: Path) -> list[list[float]]:
    """[images, error at sigma 0.3, the same in the unseen style] of every measure so far."""
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    keys = ("error_0.3", "unseen_style_error_0.3")
    return [
        [entry["images"], *(entry["measured"][key] for key in keys)]
        for entry in entries
        if "measured" in entry
    ]


def train(trainer: PriorTrainer) -> None:
    """Steps, with checkpoints, measures and sheets of samples in between."""
    settings, progress = trainer.settings, trainer.progress
    began = saved = measured = told = time.monotonic()
    start_images = progress.images
    losses: list[float] = []
    while progress.done < 1:
        losses.append(trainer.step())
        now = time.monotonic()
        if now - told > 30:
            rate = (progress.images - start_images) / (now - began)
            loss = sum(losses) / len(losses)
            write_metrics(settings.out, {**vars(progress), "loss": loss, "rate": rate})
            losses, told = [], now
        if now - measured > 60 * settings.measure_minutes:
            _measure(trainer)
            measured = time.monotonic()
        if now - saved > 60 * settings.save_minutes:
            trainer.save()
            trainer.export()
            saved = time.monotonic()
    _measure(trainer)
    trainer.save()
    trainer.export()


def _measure(trainer: PriorTrainer) -> None:
    out, images = trainer.settings.out, trainer.progress.images
    write_metrics(out, {"images": images, "measured": trainer.measure()})
    save_image(draw_samples(trainer.average, 32), out / f"samples-{images}.png", nrow=8)


def parse_settings(arguments: Sequence[str] | None = None) -> PriorSettings:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prior",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for key, default in vars(PriorSettings(out=Path("training/runs/prior"))).items():
        kind = Path if key in ("out", "start") else type(default)
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=default)
    return PriorSettings(**vars(parser.parse_args(arguments)))


def main() -> None:
    settings = parse_settings()
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.device == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    else:
        torch.set_default_device(settings.device)
    trainer = PriorTrainer(settings, load_bank())
    trainer.resume()
    train(trainer)


if __name__ == "__main__":
    main()
