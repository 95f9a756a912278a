"""Robust contrastive training of the embedded CLIP, from nothing to weights.

    python -m training.train --out training/runs/main --images 3000000

fetches the icon sets, renders the bank of drawings, trains in two one-thread processes
and writes `<model>.safetensors`, `checkpoint.pt` and `metrics.jsonl`. Started again
with the same folder it goes on from the checkpoint.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from clipig.encoders.embedded.vocabulary import Vocabulary
from training.compose import Painter
from training.concepts import collect_words
from training.mistakes import Pool, mistake_loss
from training.replay import Replay, Strength
from training.retrieval import measure_retrieval
from training.scenes import Kind, Scene, SceneDrawer, also_true
from training.settings import MODELS, Settings, parse_settings
from training.sources import DATA, Bank, load_bank
from training.weights import export_weights, grow_network, new_network, read_weights


@dataclass
class Progress:
    """How far the training is; `seconds` counts working time only."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    done: float = 0.0


class Trainer:
    """One process of the training; all of them share their weights every few seconds."""

    def __init__(self, settings: Settings, bank: Bank, rank: int = 0):
        self.settings, self.bank, self.rank = settings, bank, rank
        torch.manual_seed(settings.seed)
        config, style_weights = MODELS[settings.model]
        self.words = collect_words(bank.concepts)
        config = replace(config, words=len(self.words))
        self.vocabulary = Vocabulary(self.words, config.buckets, config.groups, config.context)
        network = new_network(config)
        if settings.start is not None:
            old = read_weights(settings.start)
            network = grow_network(network, self.words, old, settings.start_towers)
        if settings.locked:
            network.get_submodule(settings.locked).requires_grad_(False)
        self.network = network.to(torch.get_default_device()).train()
        if settings.locked:
            network.get_submodule(settings.locked).eval()
        network.image.to(memory_format=torch.channels_last)
        self.temperature = nn.Parameter(torch.tensor(math.log(15.0)))
        count = len(bank.concepts)
        self.classifiers = nn.ModuleList(nn.Linear(config.width, count) for _ in range(2))
        self.parameters = [
            *(p for p in network.parameters() if p.requires_grad),
            self.temperature,
            *self.classifiers.parameters(),
        ]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1]},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=settings.lr,
            betas=(0.9, 0.98),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.progress = Progress()
        self.unshared = torch.zeros(2)  # images and seconds since the last `share`
        seed = settings.seed + 1000 * rank + 1
        self.drawer = SceneDrawer(bank, seed, style_weights)
        self.painter = Painter(bank, config.size, seed)
        self.replay = Replay(settings.generations, seed)
        self.pool = Pool(settings.jem_pool, config.size, seed) if settings.jem else None
        self.means: tuple[Tensor, Tensor] | None = None

    def step(self) -> dict[str, float]:
        """One update. Returns the numbers worth writing down."""
        began = time.perf_counter()
        settings, replay = self.settings, self.replay
        self._set_lr()
        strength = self._strength()
        scenes = self.drawer.draw(replay.fresh_count(settings.batch))
        batch = replay.add(scenes, self.painter.paint(scenes), strength)
        pictures = replay.noisy(batch).contiguous(memory_format=torch.channels_last)
        pictures.requires_grad_(True)
        words, letters = self.vocabulary.encode([scene.caption for scene in batch.scenes])
        if settings.locked != "text":
            words[(torch.rand(words.shape) < 0.1) & (words > 0)] = 1
        with torch.autocast(pictures.device.type, torch.bfloat16):
            found = self.network.image(pictures)
            with sdpa_kernel(SDPBackend.MATH):  # its backward is many times faster on CPU
                texts = self.network.text(words, letters)
        loss, accuracy = self._contrast(found, texts, batch.scenes)
        auxiliary = self._classify(found, batch.scenes)
        made = self._mistakes() if self.pool else loss.new_zeros(())
        weight = settings.jem * min(1.0, self.progress.done / 0.3)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + settings.auxiliary * auxiliary + weight * made).backward()
        assert pictures.grad is not None
        replay.attack(batch, pictures.grad, strength)
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.progress.step += 1
        if self.rank == 0:
            self._update_average(found.detach(), texts.detach())
        self.unshared += torch.tensor([settings.batch, min(time.perf_counter() - began, 5.0)])
        return {
            "loss": loss.item(),
            "auxiliary": auxiliary.item(),
            "accuracy": accuracy,
            "temperature": self.temperature.exp().item(),
            "gradient": norm.item(),
            **({"mistakes": made.item()} if self.pool else {}),
        }

    def _set_lr(self) -> None:
        done = self.progress.done
        warm = min(1.0, done / 0.02 + 0.02)
        rate = warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done))) + 0.002
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * rate

    def _strength(self) -> Strength:
        """Attacks from a third to full over the first 60 % of the run; gentler from nothing."""
        settings = self.settings
        ramp = min(1.0, 0.35 + 0.65 * self.progress.done / 0.6)
        noise = settings.noise
        if settings.start is None or "image" not in settings.start_towers:
            ramp *= min(1.0, self.progress.done / 0.3)
            noise *= min(1.0, self.progress.done / 0.2)
        return Strength(settings.l2 * ramp, settings.linf * ramp, noise)

    def _contrast(self, found: Tensor, texts: Tensor, scenes: list[Scene]) -> tuple[Tensor, float]:
        """Symmetric InfoNCE; captions that are also true count neither way."""
        scale = self.temperature.clamp(max=math.log(60.0)).exp()
        ignored = also_true(scenes)
        logits = found @ texts.T * scale
        own = torch.arange(len(scenes))
        rows = logits.masked_fill(ignored, -1e4)
        columns = logits.T.masked_fill(ignored.T, -1e4)
        loss = (F.cross_entropy(rows, own) + F.cross_entropy(columns, own)) / 2
        return loss, (rows.argmax(1) == own).float().mean().item()

    def _mistakes(self) -> Tensor:
        """Pictures that the averaged network likes for a caption, against painted ones.

        The texts get no gradient: it is the pictures that are at fault. The statistics of
        the batch norms do not see pictures that no user would call pictures.
        """
        settings, pool, image = self.settings, self.pool, self.network.image
        assert pool is not None
        rows = pool.choose(settings.jem_batch, self.drawer.draw)
        scenes = pool.at(rows)
        words, letters = self.vocabulary.encode([scene.caption for scene in scenes])
        with torch.no_grad():
            texts = self.average.text(words, letters)
            real = self.painter.paint(scenes)
        made = pool.visit(rows, self.average.image, texts, settings.jem_steps)
        image.eval()
        with torch.autocast(made.device.type, torch.bfloat16):
            found = image(torch.cat([made, real]).contiguous(memory_format=torch.channels_last))
        image.train()
        scale = self.temperature.detach().clamp(max=math.log(60.0)).exp()
        made, real = found.chunk(2)
        return mistake_loss(made, real, texts, scale)

    def _classify(self, found: Tensor, scenes: list[Scene]) -> Tensor:
        """Auxiliary: name A and B from the picture's embedding. Thrown away later."""
        no_first, no_second = (Kind.TILES, Kind.COLOR), (Kind.SINGLE, Kind.TINT, Kind.COLOR)
        first = [-1 if s.kind in no_first else s.a for s in scenes]
        second = [-1 if s.kind in no_second else s.b for s in scenes]
        loss = found.new_zeros(())
        for classifier, labels in zip(self.classifiers, (first, second), strict=True):
            loss = loss + F.cross_entropy(
                classifier(found * 16), torch.tensor(labels), ignore_index=-1
            )
        return loss / 2

    @torch.no_grad()
    def share(self) -> None:
        """Average the weights of all processes and count what they have done.

        Between two calls every process steps alone (local SGD), so that a process which
        is slowed by other work on its core holds nobody up.
        """
        settings, progress = self.settings, self.progress
        if settings.processes > 1:
            states = [self.network.state_dict(), self.classifiers.state_dict()]
            held = [v for state in states for v in state.values() if v.is_floating_point()]
            held.append(self.temperature.data)
            flat = torch.cat([value.flatten() for value in held] + [self.unshared])
            dist.all_reduce(flat)
            flat /= settings.processes
            offset = 0
            for value in held:
                value.copy_(flat[offset : offset + value.numel()].view_as(value))
                offset += value.numel()
            self.unshared = flat[offset:]
        progress.images += round(self.unshared[0].item() * settings.processes)
        progress.seconds += self.unshared[1].item()
        self.unshared = torch.zeros(2)
        progress.done = max(
            progress.images / settings.images if settings.images else 0.0,
            progress.seconds / settings.seconds if settings.seconds else 0.0,
        )

    @torch.no_grad()
    def _update_average(self, found: Tensor, texts: Tensor) -> None:
        step = self.progress.step
        keep = min(self.settings.ema, (1 + step) / (20 + step))
        averages, values = [], []
        for average, value in zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
        torch._foreach_lerp_(averages, values, 1 - keep)
        new = (found.mean(0), texts.float().mean(0))
        if self.means is None:
            self.means = new
        self.means = tuple(old.lerp(now, 0.01) for old, now in zip(self.means, new, strict=True))

    def export(self) -> None:
        """Write the averaged weights."""
        progress = self.progress
        export_weights(
            self.average,
            self.words,
            self.settings.out / f"{self.settings.model}.safetensors",
            self.means,
            {"images": progress.images, "hours": round(progress.seconds / 3600, 3)},
        )

    def save(self) -> None:
        """Write the checkpoint, in one piece or not at all."""
        path = self.settings.out / "checkpoint.pt"
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "classifiers": self.classifiers.state_dict(),
                "temperature": self.temperature.detach(),
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(self.progress),
                "means": self.means,
            },
            path.with_suffix(".part"),
        )
        path.with_suffix(".part").replace(path)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one."""
        path = self.settings.out / "checkpoint.pt"
        if not path.exists():
            return
        device = torch.get_default_device()
        saved: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.classifiers.load_state_dict(saved["classifiers"])
        self.temperature.data.copy_(saved["temperature"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = Progress(**saved["progress"])
        self.means = saved["means"]
        seed = self.settings.seed + 1000 * self.rank + 1 + 7919 * self.progress.step
        self.drawer.rng.seed(seed)
        self.painter.rng.manual_seed(seed)
        self.replay.rng.manual_seed(seed)


def run_process(rank: int, settings: Settings, data: Path = DATA) -> None:
    """Train in one process until the images or the seconds are used up."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if settings.device != "cpu":
        torch.set_default_device(settings.device)
    if settings.processes > 1:
        meeting = (settings.out / "meeting").resolve()
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=settings.processes
        )
    trainer = Trainer(settings, load_bank(data), rank)
    trainer.resume()
    train(trainer)


def train(trainer: Trainer) -> None:
    """Steps, with checkpoints and measures from the first process in between."""
    settings, progress = trainer.settings, trainer.progress
    saved = measured = began = shared = time.monotonic()
    start_images = progress.images
    while progress.done < 1:
        numbers = trainer.step()
        if time.monotonic() - shared < settings.share_seconds:
            continue
        trainer.share()
        shared = now = time.monotonic()
        if trainer.rank:
            continue
        rate = (progress.images - start_images) / (now - began)
        write_metrics(settings.out, {**vars(progress), **numbers, "rate": rate})
        if now - saved > 60 * settings.save_minutes:
            trainer.save()
            trainer.export()
            saved = now
        if now - measured > 60 * settings.measure_minutes:
            measure(trainer)
            measured = time.monotonic()
    if trainer.rank == 0:
        trainer.save()
        trainer.export()
        measure(trainer)


def measure(trainer: Trainer) -> None:
    """Retrieval of the averaged weights, to the metrics file."""
    results = measure_retrieval(trainer.average, trainer.vocabulary, trainer.bank)
    write_metrics(trainer.settings.out, {"images": trainer.progress.images, "measured": results})


def write_metrics(out: Path, entry: dict[str, Any]) -> None:
    """Append one JSON line."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()}
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")


def main() -> None:
    settings = parse_settings(__doc__)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "meeting").unlink(missing_ok=True)
    load_bank()
    if settings.processes == 1:
        run_process(0, settings)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.multiprocessing.spawn(run_process, (settings,), settings.processes)


if __name__ == "__main__":
    main()
