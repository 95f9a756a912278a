"""The training of the embedded CLIP, small: the loss falls and the export loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clipig.encoders.embedded import encoder_from_bytes
from clipig.encoders.embedded.network import NetworkConfig
from clipig.encoders.protocol import EncoderInfo
from training import train as training
from training.compose import Painter
from training.concepts import COLORS, Concept, collect_words, plural, read_concepts
from training.mistakes import VISITS, Pool, mistake_loss
from training.rendering import SIDE
from training.replay import Replay, Strength
from training.retrieval import fill_captions, top_one
from training.scenes import Kind, Scene, SceneDrawer, also_true, held_out, mend_articles
from training.sources import DRAWINGS, HELD_OUT, Bank
from training.weights import grow_network, new_network, read_weights

TINY = NetworkConfig(
    size=32,
    width=32,
    channels=(8, 16),
    depths=(0, 1),
    maps=2,
    buckets=64,
    text_width=16,
    text_depth=1,
)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Sixteen concepts: a disc, a box, a bar and a cross in four colours, in two styles."""
    line = torch.linspace(-1, 1, SIDE)
    y, x = line.view(-1, 1), line.view(1, -1)
    shapes = {
        "disc": x**2 + y**2 < 0.8,
        "box": (x.abs() < 0.7) & (y.abs() < 0.7),
        "bar": (x.abs() < 0.9) & (y.abs() < 0.3),
        "cross": (x.abs() < 0.3) | (y.abs() < 0.3),
    }
    concepts, pixels, index, style = [], [], [], []
    for shape, mask in shapes.items():
        for name in ("red", "green", "blue", "yellow"):
            concepts.append(Concept((f"{shape} {name}",), ((shape, ""),), shape == "disc"))
            color = torch.tensor(COLORS[name]).view(3, 1, 1) * mask
            picture = torch.cat([color, 255 * mask[None]]).to(torch.uint8)
            for where in ("noto", "twemoji"):
                pixels.append(picture)
                index.append(len(concepts) - 1)
                style.append(where)
    return Bank(concepts, torch.stack(pixels), torch.tensor(index), style, [""] * len(style))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(training.MODELS, "tiny", (TINY, {}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_settings(out: Path, images: float = 60 * 32) -> training.Settings:
    return training.Settings(
        out, model="tiny", images=images, batch=32, processes=1, lr=4e-3, noise=0.1, l2=1.0
    )


def test_loss_falls_and_export_loads(bank: Bank, tmp_path: Path) -> None:
    trainer = training.Trainer(tiny_settings(tmp_path), bank)
    losses = []
    while trainer.progress.done < 1:
        losses.append(trainer.step()["loss"])
        trainer.share()
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])

    trainer.export()
    (entry,) = json.loads((tmp_path / "index.json").read_text()).values()
    data = (tmp_path / "tiny.safetensors").read_bytes()
    encoder = encoder_from_bytes(data, EncoderInfo(name="tiny", **entry))
    assert encoder.gap is not None
    views = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        encoder.encode_image(views), trainer.average.image(views), atol=0.02, rtol=0
    )
    assert encoder.encode_text(["a disc red made of bar blue"]).shape == (1, 32)


def test_training_resumes(bank: Bank, tmp_path: Path) -> None:
    first = training.Trainer(tiny_settings(tmp_path), bank)
    for _ in range(3):
        first.step()
    first.share()
    first.save()
    second = training.Trainer(tiny_settings(tmp_path), bank)
    second.resume()
    assert second.progress == first.progress
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]), key
    second.step()
    assert second.progress.step == 4


def test_mistakes_enter_the_loss(bank: Bank, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    settings.jem, settings.jem_pool, settings.jem_batch = 0.1, 8, 4
    trainer = training.Trainer(settings, bank)
    trainer.progress.done = 0.3
    assert trainer.step()["mistakes"] > 0
    assert trainer.network.training and trainer.network.image.norm.training
    assert trainer.pool is not None and trainer.pool.visits.count_nonzero() >= 1


def test_pool_finds_what_the_network_likes_and_lets_it_go() -> None:
    """A network that sees only the mean colour is led to red; then new captions come."""
    scene = Scene(Kind.SINGLE, 0, 0, -1, "red")
    drawn = []

    def draw(count: int) -> list[Scene]:
        drawn.append(count)
        return [scene] * count

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.mean((2, 3)), dim=1)

    pool = Pool(4, 16, seed=0)
    texts = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    first = pool.visit(pool.choose(4, draw), encode, texts, steps=1)
    for _ in range(VISITS // 2 - 2):
        last = pool.visit(pool.choose(4, draw), encode, texts, steps=1)
    assert (encode(last)[:, 0] > encode(first)[:, 0]).all()
    assert last.min() >= 0 and last.max() <= 1
    for _ in range(VISITS):
        pool.visit(pool.choose(4, draw), encode, texts, steps=1)
    assert sum(drawn) > 4


def test_mistake_loss_asks_for_real_pictures() -> None:
    text = torch.tensor([[1.0, 0.0]])
    good, bad = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    scale = torch.tensor(15.0)
    assert mistake_loss(bad, good, text, scale) < 0.01
    assert mistake_loss(good, bad, text, scale) > 10


def test_train_writes_metrics(bank: Bank, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, images=4 * 32)
    settings.share_seconds = 0.0
    training.train(training.Trainer(settings, bank))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["images"] == 32
    assert "unseen_style_pairs_noise" in lines[-1]["measured"]
    assert (tmp_path / "checkpoint.pt").exists()


def test_grown_network_keeps_what_it_knew(bank: Bank, tmp_path: Path) -> None:
    trainer = training.Trainer(tiny_settings(tmp_path), bank)
    trainer.step()
    trainer.export()
    old = read_weights(tmp_path / "tiny.safetensors")
    words = ["newword", *old[1]]
    config = training.replace(old[0], depths=(1, 1), words=len(words))
    network = grow_network(new_network(config), words, old).eval()
    views = torch.rand(2, 3, 32, 32)
    before = trainer.average.image(views)
    torch.testing.assert_close(network.image(views), before, atol=0.02, rtol=0)
    assert network.text.words.weight[2].abs().sum() == 0


def test_scenes_repeat_with_their_seed(bank: Bank) -> None:
    one, other = SceneDrawer(bank, 3).draw(50), SceneDrawer(bank, 3).draw(50)
    assert one == other
    assert {scene.kind for scene in SceneDrawer(bank, 0).draw(400)} == set(Kind)


def test_held_out_pairs_and_style_stay_out(bank: Bank) -> None:
    drawer = SceneDrawer(bank, 1)
    for scene in drawer.draw(2000):
        if scene.kind in (Kind.MADE, Kind.BOTH):
            assert not held_out(scene.a, scene.b)
        if scene.kind != Kind.COLOR:
            assert bank.style[scene.first] not in HELD_OUT
            assert bank.concept[scene.first] == scene.a
    for scene in drawer.draw_test(5):
        assert held_out(scene.a, scene.b)


def test_true_captions_are_no_negatives() -> None:
    scenes = [
        Scene(Kind.SINGLE, 1, 1, -1, "a cat"),
        Scene(Kind.SINGLE, 1, 1, 3, "a cat on a yellow background"),
        Scene(Kind.MADE, 1, 2, 0, "a cat made of pizza"),
        Scene(Kind.TILES, 2, 2, 0, "many pizzas"),
        Scene(Kind.BOTH, 2, 1, 0, "a pizza and a cat"),
        Scene(Kind.SINGLE, 2, 2, -1, "a pizza"),
    ]
    true = also_true(scenes)
    rows = [[j for j in range(6) if true[i, j]] for i in range(6)]
    assert rows == [[], [0], [0, 3], [], [0, 5], []]


def test_pictures_are_finite_and_bounded(bank: Bank) -> None:
    scenes = SceneDrawer(bank, 0).draw(64)
    pictures = Painter(bank, 32, 0).paint(scenes)
    assert pictures.shape == (64, 3, 32, 32)
    assert pictures.isfinite().all()
    assert pictures.min() > -0.5
    assert pictures.max() < 1.5
    again = Painter(bank, 32, 0).paint(scenes)
    assert torch.equal(pictures, again)


def test_few_drawings_still_compete_with_400_captions(bank: Bank) -> None:
    captions = fill_captions(["a disc red"], bank)
    assert captions[0] == "a disc red"
    assert len(captions) == len(set(captions)) == len(bank.concepts)
    pictures, texts = torch.eye(3)[:2], torch.eye(3)[[0, 2, 1]]
    assert top_one(pictures, texts) == 0.5


def test_attacks_stay_within_their_radius() -> None:
    replay = Replay(3, 0)
    strength = Strength(l2=4.0, linf=0.05, noise=0.3)
    scenes = [Scene(Kind.SINGLE, 0, 0, -1, "a cat")] * 6
    for step in range(4):
        count = replay.fresh_count(6)
        assert count == (6 if step == 0 else 2)
        batch = replay.add(scenes[:count], torch.rand(count, 3, 64, 64), strength)
        assert batch.delta[:count].abs().sum() == 0
        replay.attack(batch, torch.randn(6, 3, 64, 64), strength)
        for delta, radius, square in zip(batch.delta, batch.radius, batch.square, strict=True):
            if square > 0:
                assert delta.abs().max() <= 0.05 * radius + 1e-6
            else:
                assert delta.norm() <= 4.0 * radius + 1e-4
    assert replay.noisy(batch).shape == (6, 3, 64, 64)


def test_every_animal_and_thing_can_be_drawn() -> None:
    concepts = read_concepts()
    focus = [concept for concept in concepts if concept.focus]
    assert len(focus) == 99
    names = [name for concept in concepts for name in concept.names]
    assert len(names) == len(set(names))
    for name in ("tapir", "salami", "cursive letters", "coldness", "submarine"):
        assert name in names
        assert (DRAWINGS / f"{name.replace(' ', '-')}.svg").exists()


def test_words_of_captions_are_collected() -> None:
    words = collect_words(read_concepts())
    assert words == sorted(set(words))
    for word in ("penguins", "texture", "russian", "cherries", "turquoise"):
        assert word in words


@pytest.mark.parametrize(
    ("name", "many"),
    [("peach", "peaches"), ("cherry", "cherries"), ("fries", "fries"), ("octopus", "octopuses")],
)
def test_plural(name: str, many: str) -> None:
    assert plural(name) == many


def test_articles_are_mended() -> None:
    assert mend_articles("a apple made of a pear") == "an apple made of a pear"
