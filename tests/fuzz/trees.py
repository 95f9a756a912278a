"""Configs and grids as plain data: drawn from the schema, then spoiled."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from clipig.config.schema import Experiment
from clipig.config.tree import path_text
from tests.fuzz.formula_texts import formulas
from tests.fuzz.texts import NASTY_TEXTS, at, nasty_texts, paths, replaced, scalars, spoiled
from tests.support.experiments import experiments, models, texts

sizes = st.one_of(
    st.sampled_from([1, 2, 3, 8, 16, 24]), st.sampled_from(["8 16", [5, 9], "1/2*32", "[8 + 8*t]"]),
    st.sampled_from([["8 if t < .5 else 16"], ["{0: 4, 1: 8}.get(int(t*3), 12)", 9]]),
)


@st.composite
def configs(draw: st.DrawFn) -> Any:
    """A config that loads, or nearly so, or that did before it was spoiled."""
    tree = draw(st.one_of(experiments(), experiments(), experiments(), models(Experiment)))
    small = {
        "epochs": draw(st.one_of(st.integers(1, 8), st.integers(1, 400))),
        "resolution": draw(sizes), "runs": draw(st.integers(1, 3)),
    }
    for key, value in small.items():
        if draw(st.integers(0, 9)):
            tree[key] = value
    if draw(st.integers(0, 3)):
        tree.pop("start_epoch", None)
    if draw(st.integers(0, 3)):
        tree["model"] = draw(st.sampled_from(["a", ["a", "b"], [{"name": "a", "weight": 0.5}]]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        leaves = [p for p in paths(tree) if isinstance(at(tree, p), int | float)]
        if leaves:
            tree = replaced(tree, draw(st.sampled_from(leaves)), draw(st.one_of(formulas, scalars)))
    return draw(spoiled(tree)) if draw(st.integers(0, 2)) == 0 else tree


def written(tree: Any) -> str:
    """JSON, which is YAML; numbers that JSON cannot hold as YAML writes them.

    Letters that are not ASCII stand there as they are, or escaped.
    """
    text = json.dumps(tree)
    if len(text) % 2:
        plain = json.dumps(tree, ensure_ascii=False)
        text = text if any("\ud800" <= letter <= "\udfff" for letter in plain) else plain
    for word, yaml in (("NaN", ".nan"), ("-Infinity", "-.inf"), ("Infinity", ".inf")):
        text = text.replace(f" {word}", f" {yaml}")
    return text


_recipes = st.one_of(
    st.just({"epochs": 2, "targets": [{"features": [{"text": "a {animal}"}]}]}),
    st.just({"let": {"animal": "cat"}, "targets": [{"features": [{"text": "{animal}"}]}]}),
    st.sampled_from(["method_1", "missing", *NASTY_TEXTS]),
)
words = st.one_of(texts, nasty_texts, st.sampled_from(["cat", "pig", "a {thing}", "{an animal}"]))


@st.composite
def grids(draw: st.DrawFn) -> Any:
    """A grid with a recipe inside it."""
    names = st.one_of(
        st.sampled_from(["animal", "thing", "seed", "epochs", "learnrate", "targets.0.weight"]),
        st.sampled_from(sorted(Experiment.model_fields)), nasty_texts,
    )
    patches = st.fixed_dictionaries({}, optional={
        "text": st.sampled_from(["a {animal}", "{a thing} {an animal}", "x", *NASTY_TEXTS]),
        "let": st.dictionaries(st.sampled_from(["animal", "thing", "a"]), words, max_size=2),
        "set": st.dictionaries(names, st.one_of(scalars, words), max_size=2),
        "words": st.dictionaries(st.sampled_from(["thing", "a thing"]), words, max_size=2),
        "value": scalars,
    })
    numbered = st.sampled_from([1, 2, 0.5, "1/2", "1 - t", 7, 2**63 - 1])
    known = {
        "animal": words, "thing": words, "seed": st.integers(0, 2**63 - 1), "learnrate": numbered,
        "epochs": st.integers(1, 9), "targets.0.weight": numbered, "optimizer": st.just("adam"),
    }
    axes: dict[str, Any] = {"animal": ["cat", "a pig"]}
    for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)):
        patched = st.tuples(words, patches).map(lambda x: {"name": x[0], **x[1]})
        entries = st.one_of(*[known[name]] * 4, patched)
        axes[name] = draw(st.lists(entries, min_size=1, max_size=3))
    if draw(st.integers(0, 6)) == 0:
        axes[draw(names)] = draw(st.lists(scalars, max_size=3))
    tree: dict[str, Any] = {"axes": axes, "recipe": draw(_recipes)}
    if draw(st.integers(0, 3)) == 0:
        tree.update({k: v for k, v in draw(patches).items() if k in ("text", "let", "set")})
    for key, kind in (("title", words), ("seed", st.integers()), ("seeds", st.just("same"))):
        if draw(st.integers(0, 3)) == 0:
            tree[key] = draw(kind)
    return draw(spoiled(tree, 2)) if draw(st.integers(0, 3)) == 0 else tree


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """A config, and on the next line what may follow `--set`: one of its keys and a value."""
    tree = draw(experiments())
    path = draw(st.sampled_from([p for p in paths(tree) if p]))
    key = ".".join(map(str, path)) if draw(st.booleans()) else path_text(path)
    if draw(st.integers(0, 3)) == 0:
        value = draw(st.one_of(formulas, nasty_texts)).replace("\n", " ")
    else:
        value = written(at(tree, draw(st.sampled_from([path, path, ()]))))
    if draw(st.integers(0, 9)) == 0:
        key = draw(nasty_texts).replace("\n", " ")
    return f"{written(tree)}\n{key}={value}"
