"""Every message that a bad config can get, word by word (`bad_configs.txt`), and hostile input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clipig.config import load, load_text, read
from clipig.config.schema import Experiment
from clipig.config.tree import MAX_DEPTH
from clipig.config.yaml_text import MAX_BYTES, MAX_REPEATED
from clipig.errors import ConfigError, Problem
from clipig.ops.transforms import TRANSFORMS

TABLE = Path(__file__).with_name("bad_configs.txt").read_text(encoding="utf-8")
CASES = [
    pytest.param(*body.rstrip("\n").split("\n->\n"), id=name)
    for name, body in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", TABLE, flags=re.M | re.S)
]


def message(text: str | bytes, **more: object) -> str:
    """All problems of a text, without its name, lists of names cut short."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, "c.yaml", **more)  # type: ignore[arg-type]
    lines = str(caught.value).replace("c.yaml:", "")
    lines = re.sub(r"(available are|known are) .*?( \(at|$)", r"\1 ...\2", lines, flags=re.M)
    lines = re.sub(r"(expected one of) \w+, .*$", r"\1 ...", lines, flags=re.M)
    return re.sub(r"(expected (a name or )?a mapping with) .*$", r"\1 ...", lines, flags=re.M)


def test_the_table_is_long() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_message(text: str, expected: str) -> None:
    assert message(text + "\n") == expected


def test_names_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("hasenfuss: 1\ntargets: [{transforms: [hasenfuss]}]\ninit: 5")
    top, transform, init = (str(p) for p in caught.value.problems)
    assert all(f" {key}" in top for key in Experiment.model_fields)
    assert all(f" {name}" in transform for name in TRANSFORMS)
    assert init.endswith("expected a mapping with mean, std, resolution, image, image_tensor")


def test_problems_are_sorted_by_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("seed: x\ntargets:\n  - weight: [\n      ]\n    foo: 1\nepochs: 0\nepochs: 1\n")
    places = [(p.line, p.column) for p in caught.value.problems]
    assert len(places) == 5
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: found nothing, expected a config"),
        ("output: 'a\x01b'", "1:11: found the character U+0001, which YAML does not allow"),
        ("output: 'a\ud800b'", "1:11: found the character U+D800, which YAML does not allow"),
        (b"output: \xff\n", "1:9: found the byte 0xff, expected text in UTF-8"),
        (b"seed: 1\noutput: caf\xe9\n", "2:12: found the byte 0xe9, expected text in UTF-8"),
        (b"#" * (MAX_BYTES + 1), " found more than 4 MB, expected a config"),
    ],
    ids=["empty", "control character", "surrogate", "byte", "latin 1", "size"],
)
def test_what_is_no_text(text: str | bytes, expected: str) -> None:
    assert message(text) == expected


def test_other_encodings_with_a_mark() -> None:
    text = "output: café"
    assert load_text(text.encode("utf-8-sig")).output == "café"
    assert load_text(text.encode("utf-16")).output == "café"


@pytest.mark.timeout(10)  # it must not hang
def test_billion_laughs() -> None:
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]")
    expected = f"found aliases for more than {MAX_REPEATED} values"
    assert expected in message("\n".join(lines))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting(opening: str) -> None:
    told = message("targets:\n  " + opening * 5000)
    assert f"found more than {MAX_DEPTH} levels, expected less" in told


@pytest.mark.timeout(10)
def test_deep_nesting_by_aliases() -> None:
    lines = ["a: &a [1]"]
    for i in range(200):
        before = "a" if i == 0 else f"x{i - 1}"
        lines.append(f"b{i}: &x{i} {'[' * 30}*{before}{']' * 30}")
    told = message("\n".join(lines))
    assert f"found more than {MAX_DEPTH} levels, expected less" in told


def test_deep_python_data() -> None:
    data: dict[str, object] = {}
    for _ in range(5000):
        data = {"a": data}
    with pytest.raises(ConfigError, match="nested more than"):
        load(data)


@pytest.mark.timeout(10)
def test_long_numbers_and_long_formulas() -> None:
    assert "found '9999" in message("epochs: " + "9" * 10_000)
    assert "the expression has 20001 characters" in message("learnrate: 1" + "+t" * 10_000)


def test_a_large_file_is_read() -> None:
    rows = [[[0.5] * 128] * 128] * 3
    assert load_text(f"init: {{image_tensor: {rows}}}").init.image_tensor == rows


# -- files, overrides, places ---------------------------------------------------------------------


def problems(*sources: object, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*sources, overrides=overrides)  # type: ignore[arg-type]
    return [str(p) for p in caught.value.problems]


def test_unknown_names() -> None:
    assert problems("method1") == [
        "method1: found no such file and no shipped config of that name; did you mean 'method_1'?"
    ]
    (told,) = problems("no/such/thing.yaml")
    assert told.startswith(
        "no/such/thing.yaml: found no such file and no shipped config of that name; shipped are "
    )


def test_a_file_beside_is_named(tmp_path: Path) -> None:
    (tmp_path / "penguins.yaml").write_text("epochs: 1")
    wanted = tmp_path / "penguin.yaml"
    assert problems(str(wanted)) == [
        f"{wanted}: found no such file and no shipped config of that name; "
        f"did you mean '{tmp_path}/penguins.yaml'?"
    ]


def test_folders_and_broken_names(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: found a folder, expected a config file"]
    assert problems("a\0b")[0].startswith("a\0b: ")
    assert problems("x" * 5000)[0].endswith("file name too long")


def test_the_file_in_which_the_value_stands_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("init:\n  mean: x\ntargets:\n  - weight: 1\n")
    second.write_text("init: {std: y}\ntargets:\n  - weigth: 2\n")
    told = problems(first, second, overrides=("targets.1.select=nobody",))
    assert [line.split(", expected")[0].split(";")[0] for line in told] == [
        "--set targets.1.select: targets[1].select: found 'nobody'",
        f"{first}:2:9: init.mean: found 'x'",
        f"{second}:1:13: init.std: found 'y'",
        f"{second}:3:5: targets[1].weigth: found an unknown key",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "--set: found 'epochs', expected KEY=VALUE such as targets.0.batch_size=5"),
        ("a b=1", "--set: found 'a b=1', expected KEY=VALUE such as targets.0.batch_size=5"),
        ("=1", "--set: found '=1', expected KEY=VALUE such as targets.0.batch_size=5"),
        ("epochs=0", "--set epochs: epochs: found 0, expected a whole number from 1 to 10000000"),
        ("lernrate=1", "--set lernrate: lernrate: found an unknown key; did you mean 'learnrate'?"),
        ("epochs=[1", "--set epochs: found no ',' or ']' after an entry, expected one of them"),
        ("epochs=[1,", "--set epochs: found the end of the text inside quotes or brackets, "
         "expected their end"),
        ("epochs=!!int 5", "--set epochs: found the tag '!!int', expected no tags"),
        ("targets.5.weight=1", "--set targets.5.weight: targets[5]: found 5 for a list of 1 entry, "
         "expected an index from 0 to 1"),
        ("targets.first.weight=1", "--set targets.first.weight: targets.first: found 'first' for a "
         "list of 1 entry, expected an index from 0 to 1"),
        ("init.0=1", "--set init.0: init[0]: found the index 0 for a mapping, expected one of its "
         "keys"),
        ("epochs.x=1", "--set epochs.x: epochs.x: found 5 there, which has no keys; set the whole "
         "value instead"),
        ("targets[0].features[0].text=", "--set targets[0].features[0].text: "
         "targets[0].features[0].text: found nothing, expected a prompt"),
    ],
)
def test_bad_overrides(override: str, expected: str) -> None:
    base = {"epochs": 5, "init": {"mean": 0.5}, "targets": [{"features": [{"text": "a cat"}]}]}
    assert problems(base, overrides=(override,)) == [expected]


def test_options_are_named_as_they_were_given() -> None:
    with pytest.raises(ConfigError) as caught:
        read({}, options={"epochs": ("--epochs", 0), "optimizer": ("--optimizer", "adem")})
    assert [str(p) for p in caught.value.problems] == [
        "--epochs: epochs: found 0, expected a whole number from 1 to 10000000",
        "--optimizer: optimizer: found unknown name 'adem'; did you mean 'adam'?",
    ]


def test_later_faults_get_their_place() -> None:
    """What the plan finds by a key is shown where the user wrote it."""
    text = "targets:\n  - transforms:\n      - blur: 5\npostproc:\n  - blur:\n      sigma: 2\n"
    loaded = read({"epochs": 3}, *[_text(text)])

    def place(key: str) -> str:
        return str(loaded.locate(Problem("", 0, 0, key, "m")))

    assert place("targets[0].transforms[0].blur.kernel_size") == (
        "c.yaml:3:15: targets[0].transforms[0].blur: m"
    )
    assert place("postproc[0].transforms[0].blur.sigma") == "c.yaml:6:14: postproc[0].blur.sigma: m"
    assert place("epochs") == "config: epochs: m"
    assert place("start_epoch") == "config: start_epoch: m"
    error = loaded.error(ConfigError([Problem("", 0, 0, "epochs", "m")]))
    assert str(error) == "config: epochs: m"


def _text(text: str) -> object:
    from clipig.config import Text

    return Text(text, "c.yaml")
