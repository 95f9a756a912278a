"""Styles: statistics of early layers, by hand and in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clipig.config.schema import Experiment
from clipig.encoders import load, resolve
from clipig.engine.events import Event, Finished, Step
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, encode_prompts
from clipig.engine.graphs import StepOutcome
from clipig.engine.loop import Optimization, optimize
from clipig.engine.memory import footprint
from clipig.engine.styles import embed_with_maps, look, references
from clipig.errors import ConfigError, EncoderError
from clipig.images import save_png
from clipig.ops.constraints.style import Style, goal, statistic
from clipig.plan.compiler import compile
from clipig.plan.grouping import split
from clipig.session import Session
from tests.support.no_sync import step_without_waiting
from tests.support.ops_contract import picture
from tests.support.tiny_encoder import TinyEncoder


class BothEncoder(TinyEncoder):
    """One that gives embeddings and maps in one pass, and counts its work."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.calls: list[str] = []

    def encode_image(self, views: Tensor) -> Tensor:
        self.calls.append("image")
        return super().encode_image(views)

    def features(self, views: Tensor) -> list[Tensor]:
        self.calls.append("maps")
        return super().features(views)

    def encode_with_features(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = TinyEncoder.encode_image(self, views), TinyEncoder.features(self, views)
        self.calls[:] = [*(c for c in self.calls if c != "maps"), "both"]
        return found


def painting(name: str, side: int) -> Tensor:
    """A picture that depends on its name only."""
    return picture(3, side, side, seed=sum(map(ord, name)))


BODY: dict[str, Any] = {"image": "a.png"}
VIEWS: list[dict[str, Any]] = [{"random_rotate": "-20 20"}, {"noise": 0.05}]


def experiment(seed: int = 0, style: dict[str, Any] | None = None, **changes: Any) -> Experiment:
    """A text and a style, each with a target of its own unless `targets` says otherwise."""
    body = {**BODY, **(style or {})}
    base = {
        "epochs": 6, "resolution": 24, "seed": seed,
        "targets": [
            {"batch_size": 3, "features": [{"text": "a cat"}], "transforms": VIEWS},
            {"batch_size": 3, "transforms": VIEWS, "constraints": [{"style": body}]},
        ],
    }
    return Experiment.model_validate({**base, **changes})


def shared(**style: Any) -> list[dict[str, Any]]:
    """One target that has both."""
    return [{
        "batch_size": 5, "features": [{"text": "a cat"}], "transforms": VIEWS,
        "constraints": [{"style": {**BODY, **style}}],
    }]


def events(
    runs: Sequence[Experiment], encoders: Sequence[TinyEncoder] = (), **more: Any
) -> list[Event]:
    encoders = encoders or [TinyEncoder()]
    plan = compile(runs, [e.info for e in encoders])
    prompts = encode_prompts(plan, encoders, PromptCache(painting))
    return list(optimize(plan, encoders, prompts, **more))


def final(runs: Sequence[Experiment], **more: Any) -> Tensor:
    last = events(runs, **more)[-1]
    assert isinstance(last, Finished)
    return last.picture.rgb


def steps(runs: Sequence[Experiment], **more: Any) -> list[Step]:
    return [e for e in events(runs, **more) if isinstance(e, Step)]


# ------------------------------------------------------------ statistics


def test_statistics_by_numpy() -> None:
    maps = torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(3))
    flat = maps.numpy().reshape(2, 5, -1).astype(np.float64)
    moments, gram = statistic("moments", maps).numpy(), statistic("gram", maps).numpy()
    np.testing.assert_allclose(moments[:, 0], flat.mean(2), atol=1e-6)
    np.testing.assert_allclose(moments[:, 1], flat.std(2), rtol=1e-4)
    np.testing.assert_allclose(gram, np.einsum("bip,bjp->bij", flat, flat) / 42, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_gram_matrices(order: torch.memory_format) -> None:
    maps = torch.randn(2, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=order)
    maps.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: statistic("gram", m), maps)
    pull = torch.randn(2, 5, 5, dtype=torch.float64)
    (slope,) = torch.autograd.grad((statistic("gram", maps) * pull).sum(), maps)
    assert slope.is_contiguous(memory_format=order)


def test_units_are_those_of_the_reference() -> None:
    value = torch.tensor([[0.0, 5.0, -1.0], [1.0, 2.0, 0.0]])
    unit = goal("moments", 2, value).unit.numpy()
    expected = 1 / np.sqrt(np.array([1.0, 4.0, 0.0]) + 0.1 * 5 / 3)
    np.testing.assert_allclose(unit, np.stack([expected, expected]), rtol=1e-5)
    half = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    found = goal("gram", 0, half @ half.T)
    assert float((found.value * found.unit).square().mean()) == pytest.approx(1, rel=1e-4)
    doubled = goal("gram", 0, 4 * half @ half.T)  # a brighter reference, relative to itself
    torch.testing.assert_close(doubled.value * doubled.unit, found.value * found.unit,
                               atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["moments", "gram"])
def test_the_loss_by_hand(kind: str) -> None:
    run = experiment(targets=[{"constraints": [{"style": {**BODY, "statistics": kind}}]}])
    encoder = TinyEncoder()
    plan = compile([run], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache(painting))
    running = Optimization(plan, [encoder], prompts, None, None, None, Execution())
    with torch.no_grad():
        whole = running.canvas.raw().clamp(0, 1)
        view = torch.nn.functional.interpolate(whole, (16, 16), mode="bilinear", antialias=True)
        terms = []
        for ours, theirs in zip(
            encoder.features(view), encoder.features(painting("a.png", 16)[None]), strict=True
        ):
            x, y = (m[0].flatten(1).double() for m in (ours, theirs))
            if kind == "moments":
                size = (y.var(1, correction=0) * 1 + 0.1 * y.var(1, correction=0).mean()).sqrt()
                mean, deviation = x.mean(1) - y.mean(1), x.std(1, correction=0) - y.std(
                    1, correction=0)
                terms.append(torch.stack([mean / size, deviation / size]).square().mean())
            else:
                a, b = x @ x.T / x.shape[1], y @ y.T / y.shape[1]
                size = (b.diagonal() + 0.1 * b.diagonal().mean()).sqrt()
                scale = 1 / (size[:, None] * size)
                terms.append(((a - b) * scale).square().sum() / (b * scale).square().sum())
    first = steps([run])[0]
    assert float(first.loss[0]) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-3)


def test_a_reference_is_seen_in_pieces() -> None:
    encoder, asked = TinyEncoder(), []

    def source(side: int) -> Tensor:
        asked.append(side)
        return painting("b.png", side)

    (first, _) = references(encoder, source, "gram", 2)
    assert asked == [32]
    whole = painting("b.png", 32)
    pieces = torch.stack([whole[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)])
    torch.testing.assert_close(
        first.value, statistic("gram", encoder.features(pieces)[0]).mean(0)
    )
    assert references(encoder, source, "moments", 1.5)[0].value.shape == (2, 8)
    assert asked == [32, 24]


# ------------------------------------------------------------ in the engine


@pytest.mark.parametrize("kind", ["moments", "gram"])
@pytest.mark.parametrize("loss", ["l2", "l1"])
def test_it_falls(kind: str, loss: str) -> None:
    only = [{"batch_size": 2, "transforms": VIEWS,
             "constraints": [{"style": {**BODY, "statistics": kind, "loss": loss}}]}]
    told = steps([experiment(targets=only, epochs=60, learnrate=0.5)])
    assert float(told[-1].loss) < 0.5 * float(told[0].loss)


def test_runs_may_have_pictures_of_their_own() -> None:
    names = ["a.png", "bb.png", "a.png", "c.png"]
    runs = [experiment(seed, {"image": name}) for seed, name in enumerate(names)]
    assert split(runs) == [[0, 1, 2, 3]]
    together = final(runs)
    for row, run in enumerate(runs):
        torch.testing.assert_close(final([run])[0], together[row], atol=2e-5, rtol=0)
    other = final([experiment(0, {"image": "bb.png"})])
    assert float((other[0] - together[0]).abs().mean()) > 1e-3


@pytest.mark.parametrize("kind", ["moments", "gram"])
@pytest.mark.parametrize("targets", ["apart", "shared"])
def test_batched_equals_alone(kind: str, targets: str) -> None:
    more = {"targets": shared(statistics=kind)} if targets == "shared" else {}
    runs = [experiment(seed, {"statistics": kind}, **more) for seed in (1, 2, 3)]
    together = final(runs)
    for row, run in enumerate(runs):
        torch.testing.assert_close(final([run])[0], together[row], atol=2e-5, rtol=0)


def test_windows_and_weights() -> None:
    windowed = [e.targets[-1] for e in steps([experiment(targets=shared(start=2, end=3))])]
    assert [len(t.constraints) for t in windowed] == [0, 0, 1, 1, 0, 0]
    one = steps([experiment(targets=shared(weight="1 + t"))])[0].targets[0].penalties
    two = steps([experiment(targets=shared(weight=2))])[0].targets[0].penalties
    torch.testing.assert_close(2 * one, two)
    torch.testing.assert_close(
        final([experiment(targets=shared(weight=0))]),
        final([experiment(targets=[{**shared()[0], "constraints": []}])]),
    )


def test_layers() -> None:
    first, second, both = (
        steps([experiment(targets=shared(layers=layers))])[0].targets[0].penalties
        for layers in ([0], [1], [1, 0])
    )
    torch.testing.assert_close((first + second) / 2, both)
    torch.testing.assert_close(both, steps([experiment(targets=shared())])[0].targets[0].penalties)
    with pytest.raises(ConfigError, match="layer 2, expected 0 to 1 of tiny-0") as caught:
        events([experiment(targets=shared(layers=[2]))])
    assert [p.key for p in caught.value.problems] == ["targets[0].constraints[0].style.layers"]


def test_an_ensemble_gives_the_mean() -> None:
    models = [{"name": "a", "weight": 3}, {"name": "b"}]
    only = [{"batch_size": 2, "transforms": VIEWS, "constraints": [{"style": BODY}]}]
    both, one, other = (
        float(steps([experiment(targets=only, **more)], encoders=encoders)[0].loss)
        for more, encoders in (
            ({"model": models}, [TinyEncoder(0), TinyEncoder(1, size=24)]),
            ({}, [TinyEncoder(0)]), ({}, [TinyEncoder(1, size=24)]),
        )
    )
    assert both == pytest.approx((one + other) / 2, rel=1e-4)


def test_resume_equals_uninterrupted() -> None:
    runs = [experiment(seed, targets=shared()) for seed in (1, 2)]
    encoder = TinyEncoder()
    plan = compile(runs, [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache(painting))
    state = next(e for e in optimize(plan, [encoder], prompts) if isinstance(e, Step)).state()
    again = encode_prompts(plan, [encoder], PromptCache(painting))
    resumed = list(optimize(plan, [encoder], again, state=state))[-1]
    assert isinstance(resumed, Finished)
    assert torch.equal(resumed.picture.rgb, final(runs))


@pytest.mark.parametrize("kind", ["moments", "gram"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_give_the_same_picture(kind: str, chunk: int) -> None:
    for run in (experiment(1, {"statistics": kind}), experiment(1, targets=shared())):
        parts = final([run], settings=Execution(chunk=chunk))
        torch.testing.assert_close(parts, final([run]), atol=2e-5, rtol=0)


def test_a_step_counted_on_the_device_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    run = experiment(1, {"weight": "t"}, targets=shared(weight="t"))
    expected, work = final([run]), Optimization._work

    def by_tensor(running: Optimization, step: int | Tensor) -> StepOutcome:
        return work(running, torch.as_tensor(step)).copied()

    monkeypatch.setattr(Optimization, "_work", by_tensor)
    torch.testing.assert_close(final([run]), expected, atol=2e-5, rtol=0)


# ------------------------------------------------------------ work done


def test_nothing_is_worked_out_twice() -> None:
    encoder = BothEncoder()
    events([experiment(targets=shared(), epochs=2)], encoders=[encoder])
    assert encoder.calls.count("both") == 2
    assert "maps" not in encoder.calls[encoder.calls.index("both"):]
    assert "image" not in encoder.calls
    encoder.calls.clear()
    only = [{"constraints": [{"style": BODY}]}]
    events([experiment(targets=only, epochs=2)], encoders=[encoder])
    assert set(encoder.calls) == {"maps"}, "no late layers without a feature"


def test_one_pass_or_two_give_the_same() -> None:
    run = experiment(1, targets=shared())
    torch.testing.assert_close(
        final([run], encoders=[BothEncoder()]), final([run]), atol=2e-5, rtol=0
    )


def test_references_are_looked_at_once() -> None:
    loaded: list[str] = []

    def source(name: str, side: int) -> Tensor:
        loaded.append(name)
        return painting(name, side)

    runs = [experiment(s, {"image": n}) for s, n in enumerate(["a.png", "b.png", "a.png"])]
    encoder, cache = TinyEncoder(), PromptCache(source)
    plan = compile(runs, [encoder.info])
    first = encode_prompts(plan, [encoder], cache)
    encode_prompts(plan, [encoder], cache)
    assert sorted(loaded) == ["a.png", "b.png"]
    assert first.styles[1, 0][0][0].value.shape == (3, 1, 2, 8)
    same = compile([experiment(s) for s in range(3)], [encoder.info])
    kept = encode_prompts(same, [encoder], cache).styles[1, 0][0][0]
    assert kept.value.shape == (1, 1, 2, 8)
    assert not kept.value.requires_grad


def test_memory_is_counted() -> None:
    def need(**style: Any) -> int:
        plan = compile([experiment(targets=shared(**style))], [TinyEncoder().info])
        return footprint(plan, [TinyEncoder()]).views

    bare = [{**shared()[0], "constraints": []}]
    plain = footprint(compile([experiment(targets=bare)], [TinyEncoder().info]), [TinyEncoder()])
    assert plain.views < need(statistics="moments") < need(statistics="gram")
    plan = compile([experiment(targets=[{"constraints": [{"style": BODY}]}])], [TinyEncoder().info])
    assert plan.phases[0].views == 1


# ------------------------------------------------------------ encoders and files


@pytest.mark.parametrize("kind", ["moments", "gram"])
@pytest.mark.parametrize("name", ["embedded", "embedded-judge"])
def test_embedded_models(name: str, kind: Any) -> None:
    encoder = load(resolve(name))
    side = encoder.info.size
    wanted = references(encoder, lambda s: painting("a.png", s), kind, 1)
    views = torch.stack([painting("c.png", side) ** 3, painting("d.png", side)])
    views = views.requires_grad_(True)
    asked = [(kind, g.layer) for g in wanted]
    embedded, *seen = look(encoder, views, True, asked)
    torch.testing.assert_close(embedded, encoder.encode_image(views))
    loss = sum(((s - g.value) * g.unit).square().mean() for s, g in zip(seen, wanted, strict=True))
    assert isinstance(loss, Tensor)
    (slope,) = torch.autograd.grad(loss, views)
    assert slope.isfinite().all()
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    assert 0.05 < float(loss.detach()) / len(seen) < 20
    assert embed_with_maps(encoder, views)[0].shape == embedded.shape


def test_encoders_without_early_layers_say_so() -> None:
    class Closed(TinyEncoder):
        def features(self, views: Tensor) -> list[Tensor]:
            raise EncoderError("tiny gives no access to its early layers")

    with pytest.raises(ConfigError, match="no access") as caught:
        events([experiment()], encoders=[Closed()])
    assert [p.key for p in caught.value.problems] == ["targets[1].constraints[0].style"]


def test_pictures_that_cannot_be_had_are_all_named(tmp_path: Path) -> None:
    there = save_png(painting("a", 20), tmp_path / "there.png")
    targets = [{"constraints": [{"style": "no.png"}, {"style": str(there)}, {"style": "gone.png"}]}]
    session = Session(device="cpu")
    settled = session.settle(experiment(targets=targets, model="embedded", epochs=1))
    with pytest.raises(ConfigError) as caught:
        list(session.render(settled))
    assert [p.key for p in caught.value.problems] == [
        f"targets[0].constraints[{i}].style.image" for i in (0, 2)
    ]
    targets[0]["constraints"] = [{"style": str(there)}]
    result = session.run(experiment(targets=targets, model="embedded", epochs=1))
    assert result.images.isfinite().all()


def test_bare_name_and_defaults() -> None:
    node = experiment(targets=[{"constraints": [{"style": "x.png"}]}]).targets[0].constraints[0]
    assert isinstance(node, Style)
    assert (node.image, node.statistics, node.layers, node.zoom) == ("x.png", "moments", None, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["moments", "gram"])
def test_a_step_does_not_wait_for_the_device(kind: str) -> None:
    encoder = load(resolve("embedded"), torch.device("cuda"))
    run = experiment(1, {"statistics": kind, "weight": "1+t"}, targets=shared(statistics=kind))
    plan = compile([run], [encoder.info])
    prompts = encode_prompts(plan, [encoder], PromptCache(painting))
    stream = optimize(plan, [encoder], prompts, settings=Execution(graphs="off"))
    step_without_waiting(stream)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_give_the_same_picture() -> None:
    encoder = TinyEncoder(device="cuda")
    run = experiment(1, epochs=8)
    off, on = (
        final([run], encoders=[encoder], settings=Execution(graphs=graphs))
        for graphs in ("off", "on")
    )
    torch.testing.assert_close(off, on, atol=1e-4, rtol=0)
