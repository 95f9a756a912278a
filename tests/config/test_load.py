"""Loading, merging and dumping configs."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, reject, settings

from clipig.config import Text, changed, dump, load, load_text, read, set_text, shipped
from clipig.config.parts import Feature, Target
from clipig.config.schema import Experiment
from clipig.config.sources import paths, read_shipped
from clipig.config.yaml_text import resolved
from clipig.errors import ConfigError
from clipig.ops.base import Moment, constant
from clipig.ops.transforms.filters import Blur
from clipig.ops.transforms.noise import Noise
from clipig.values.expressions import Expression
from tests.support.experiments import SPECIAL, experiments

SHIPPED = sorted(paths())


def same(a: Experiment, b: Experiment) -> bool:
    """Equal, and of the same types where these have a meaning."""
    return a == b and repr(a.snapshot_interval) == repr(b.snapshot_interval)


# -- reading --------------------------------------------------------------------------------------


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 7")
    for source in (path, str(path), Text("epochs: 7"), {"epochs": 7}):
        assert load(source).epochs == constant(7, integer=True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"epochs: 7")))
    assert load("-").epochs == constant(7, integer=True)
    assert load() == Experiment()
    assert read(path, {}, Text("{}", "t"), "method_1").names == ("a", "output", "t", "method_1")


def test_a_pipe_is_read() -> None:
    script = "from clipig.config import load; print(load('/dev/stdin').epochs.plain())"
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"epochs: 7", capture_output=True, check=True
    )
    assert done.stdout == b"7\n"


def test_a_file_goes_before_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("method_1") == load("method_1.yaml") == load("configs/method_1.yaml")
    Path("method_1").write_text("epochs: 3")
    assert load("method_1").epochs.plain() == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0), ("1E-3", 0.001), ("-2e2", -200.0), (".5", 0.5), ("1.", 1.0),
        ("1_000", 1000), ("0x1F", 31), ("010", 8), ("0b11", 3), ("+5", 5), ("yes", True),
        ("Off", False), ("~", None), ("", None), ("1:30", "1:30"), ("1/2", "1/2"),
        ("2001-12-14", "2001-12-14"), ("-30 30", "-30 30"),
        ("10%", "10%"), ("y", "y"), ("e3", "e3"), ("1e", "1e"), ("0o7", "0o7"), ("=", "="),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    assert repr(resolved(text)) == repr(value)


def test_yaml_as_the_original_read_it() -> None:
    """Where YAML 1.1 and ours agree they give the same data."""
    text = (
        "a: &x {b: [1, 2.5, 'q', yes, ~], c: |\n  two\n  lines\n}\n".replace("\n}", "}").replace(
            "|\n  two\n  lines", '"two\\nlines"'
        )
        + "d: *x\ne: {<<: *x, b: 3}\nf: >\n  folded\n  text\ng: !!str yes\n"
    )
    from clipig.config.yaml_text import parse

    tree, problems = parse(text, "t")
    assert tree is not None
    assert problems == []
    assert tree.plain() == yaml.safe_load(text)


def test_the_grammar_of_the_article() -> None:
    e = load_text(
        """
        epochs: 10*10
        snapshot_interval: 5*2
        init: {mean: 1/2 1/3 1/4, std: '.1, .2, .3', resolution: 10}
        learnrate: 1e0
        targets:
          - transforms:
              - blur
              - blur:
              - blur: 5
              - noise: {std: .1}
              - noise: .1
              - random_shift: 3
            features: [{text: a, loss: Cosine}]
            constraints: [blur, {blur: 5}]
            start: 1/2
            end: 50 %
        postproc:
          - blur: 3
            end: 1
          - blur
        """
    )
    target = e.targets[0]
    assert e.epochs.numbers() == (100,)
    assert e.snapshot_interval == 10
    assert isinstance(e.snapshot_interval, int)
    assert e.init.mean.numbers() == (1 / 2, 1 / 3, 1 / 4)
    assert e.init.std.numbers() == (0.1, 0.2, 0.3)
    assert e.init.resolution == constant(10, 10, integer=True)
    assert target.transforms[:2] == [Blur(), Blur()]
    assert target.transforms[2] == Blur(kernel_size=5)  # type: ignore[arg-type]
    assert target.transforms[3] == target.transforms[4] == Noise(std=0.1)  # type: ignore[arg-type]
    assert target.transforms[5].offset.numbers() == (3, 3)  # type: ignore[attr-defined]
    assert (target.start, target.end) == (Moment(0.5), Moment(0.5))
    assert e.postproc[0].end == Moment(1)
    assert e.postproc[0].end != Moment(1.0)
    assert target.features[0].loss == "cosine"


def test_nothing_after_a_key_that_holds_a_list_or_mapping() -> None:
    text = "init:\ntargets:\npostproc:\n"
    assert load_text(text) == Experiment()
    assert load_text("targets: [{features: , transforms: , constraints: }]").targets == [Target()]


def test_several_ops_in_one_entry_run_in_written_order() -> None:
    e = load_text(
        "postproc: [{mul: 2, blur: 3, add: 1, end: 5}]\ntargets: [{transforms: [{mul: 2, add: 1}]}]"
    )
    assert [op.name for op in e.postproc[0].transforms] == ["mul", "blur", "add"]
    assert [op.name for op in e.targets[0].transforms] == ["mul", "add"]


def test_the_articles_optimizer() -> None:
    e = load_text("optimizer: rmsprob")
    assert e.optimizer.name == "rmsprop"
    assert e.optimizer == load_text("optimizer: rmsprop").optimizer
    assert e.optimizer_state == "reset"


def test_model_forms() -> None:
    for text in ("model: a", "model: {name: a}", "model: [a]", "model: [{name: a, weight: 1}]"):
        assert load_text(text).model == load_text("model: a").model


# -- merging --------------------------------------------------------------------------------------


def merged(*texts: str, overrides: tuple[str, ...] = ()) -> Experiment:
    return load(*map(Text, texts), overrides=overrides)


def test_merging() -> None:
    e = merged(
        "{epochs: 5, resolution: [8, 8], init: {mean: .1 .2 .3, std: 1}, "
        "targets: [{name: a, transforms: [blur]}]}",
        "{seed: 1, resolution: [16, 16], init: {std: 2}, targets: [{name: b}]}",
    )
    assert e.epochs.plain() == 5
    assert e.seed == 1
    assert e.resolution.plain() == 16
    assert e.init.mean.plain() == [0.1, 0.2, 0.3]
    assert e.init.std.plain() == 2
    assert [t.name for t in e.targets] == ["a", "b"]


def test_merging_names() -> None:
    assert merged("optimizer: adam", "optimizer: {sgd: {momentum: .5}}").optimizer.name == "sgd"
    assert merged("optimizer: {adam: {eps: 1}}", "optimizer: {sgd: }").optimizer.name == "sgd"
    e = merged("optimizer: {adam: {eps: 1}}", "optimizer: {adam: {betas: [.5, .5]}}")
    assert e == load_text("optimizer: {adam: {eps: 1, betas: [.5, .5]}}")
    assert merged("model: [a, b]", "model: c").model == load_text("model: c").model


def test_nothing_resets() -> None:
    assert merged("{targets: [{}], init: {mean: 1}}", "targets:\ninit:\n") == Experiment()


OVERRIDES: list[tuple[str, Any]] = [
    ("epochs=9", lambda e: e.epochs.plain() == 9),
    ("learnrate=1 - t", lambda e: e.learnrate.plain() == "1 - t"),
    ("targets.0.features.0.text=a cat", lambda e: e.targets[0].features[0].text == "a cat"),
    ("targets[0].features[0].text=a: b", None),
    ("targets[0].features[0].text='a: b'", lambda e: e.targets[0].features[0].text == "a: b"),
    ("targets.0.features.1.text=new", lambda e: e.targets[0].features[1].text == "new"),
    ("targets.1.name=new", lambda e: e.targets[1].name == "new"),
    ("targets[0].transforms=[blur]", lambda e: e.targets[0].transforms == [Blur()]),
    ("targets.0.transforms=", lambda e: e.targets[0].transforms == []),
    ("optimizer.rmsprop.momentum=0", lambda e: e.optimizer.momentum == 0),
    ("init={std: 2}", lambda e: e.init.std.plain() == 2 and e.init.mean.plain() == 0.5),
    ("init.std=2", lambda e: e.init.std.plain() == 2 and e.init.mean.plain() == 0.1),
    ("canvas.pyramid.ratio=3", lambda e: e.canvas.ratio == 3),
]


@pytest.mark.parametrize(("override", "holds"), OVERRIDES)
def test_overrides(override: str, holds: Any) -> None:
    base = (
        "{optimizer: rmsprop, init: {mean: .1}, "
        "targets: [{features: [{text: a}], transforms: [{mul: 2}]}]}"
    )
    if holds is None:
        with pytest.raises(ConfigError, match="a text that contains it must be quoted"):
            merged(base, overrides=(override,))
    else:
        assert holds(merged(base, overrides=(override,)))


def test_options() -> None:
    loaded = read("method_1", options={"epochs": ("--epochs", 5), "resolution": ("-r", [8, 9])})
    assert loaded.experiment.epochs.plain() == 5
    assert loaded.experiment.resolution.plain() == [8, 9]


def test_set_text() -> None:
    e = load_text("targets: [{features: [{image: a.png}, {text: a}, {texts: [b, c], weight: 2}]}]")
    first, last = e.targets[0].features[0], e.targets[0].features[2]
    new = set_text(e, "new").targets[0].features
    assert new[0] == first
    assert [f.text for f in new] == [None, "new", "new"]
    assert new[2].weight == last.weight
    assert load_text(dump(set_text(e, "new"))) == set_text(e, "new")
    with pytest.raises(ConfigError, match="found no text feature"):
        set_text(Experiment(), "new")
    with pytest.raises(ConfigError, match="expected a prompt"):
        set_text(e, " ")


def test_changed() -> None:
    e = load("method_1")
    assert changed(e, seed=5).seed == 5
    assert changed(e, seed=5).targets == e.targets
    assert changed(changed(e, epochs=5), epochs="10*20") == e
    with pytest.raises(ConfigError, match="--x: epochs: found 0, expected a whole number"):
        changed(e, "--x", epochs=0)
    with pytest.raises(ConfigError, match="foo: found an unknown key"):
        changed(e, foo=0)


# -- dumping --------------------------------------------------------------------------------------


@given(experiments())
@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_dump_loads_to_an_equal_experiment(data: dict[str, Any]) -> None:
    try:
        experiment = load(data)
    except ConfigError:  # keys that exclude one another; too many of them fail the health check
        reject()
    for full in (False, True):
        text = dump(experiment, header="a\n\nb", full=full)
        assert same(load_text(text), experiment), text
        assert dump(load_text(text), header="a\n\nb", full=full) == text


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_dump(name: str) -> None:
    experiment = load(name)
    assert same(load_text(dump(experiment)), experiment)
    assert same(load_text(dump(experiment, full=True)), experiment)
    assert shipped()[name]
    assert read_shipped(name).startswith("# yaml-language-server: $schema=")


@pytest.mark.parametrize("text", SPECIAL)
def test_texts_are_quoted_where_they_must(text: str) -> None:
    if text.strip():
        e = Experiment(targets=[Target(features=[Feature(text=text)])])
        assert load_text(dump(e)) == e
        assert yaml.safe_load(dump(e))["targets"][0]["features"][0]["text"] == text


def test_dump_is_short() -> None:
    assert dump(Experiment()) == "{}\n"
    e = load("method_1")
    assert dump(e, header="as in the article\n") == (
        "# as in the article\n"
        "epochs: 200\n"
        "optimizer: rmsprop\n"
        "init:\n"
        "  mean: 0.33\n"
        "  std: 0.03\n"
        "  resolution: 10\n"
        "targets:\n"
        "  - batch_size: 10\n"
        "    features:\n"
        "      - text: a cat made of salami. a cat with the texture of a salami.\n"
        "    transforms:\n"
        "      - pad: {size: 32, mode: edge}\n"
        "      - random_rotate: {degree: -30 30, center: 0 1}\n"
        "      - mul: 0.5\n"
        "      - mean: 0.5\n"
        "      - noise: 0.1\n"
        "postproc:\n"
        "  - blur: {}\n"
        "    end: 10%\n"
    )


def test_the_articles_parameters() -> None:
    one, two = load("method_1"), load("method_2")
    assert (one.epochs.plain(), two.epochs.plain()) == (200, 300)
    (size,) = two.resolution.parts
    assert isinstance(size, Expression)
    sizes = [size.evaluate({"time": i / 299}) for i in (0, 37, 38, 56, 57, 75, 94, 113, 299)]
    assert sizes == [8, 8, 16, 16, 32, 64, 128, 224, 224]
    for e in (one, two):
        assert e.optimizer.name == "rmsprop"
        assert e.optimizer_state == "reset"
        assert e.targets[0].batch_size.plain() == 10
    names = [op.name for op in two.targets[0].transforms]
    assert names == ["resize", "pad", "random_rotate", "random_crop", "mul", "mean", "bwnoise"]
    blur, saturation = two.targets[0].constraints
    assert (blur.start, saturation.start) == (Moment(0.5), Moment(0.0))
