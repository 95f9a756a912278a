"""Random experiments, made from the schema itself: a new field or op is drawn without being named.

What is drawn is what a user would write: plain data for `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from clipig.config.entries import EntryList, OpEntry
from clipig.config.parts import EDITS, Feature, Model, PostProc
from clipig.config.schema import Experiment
from clipig.ops.base import Moment, Numbers, Op, numbers_of
from clipig.values.numbers import LIVE, RATE, TIME, Fixed

FORMULAS = [
    "pi/7", "[.25, .5][1]", "max(.25, 1/3)", "{0: .5, 1: .75}.get(1, .5)", "random()",
    "uniform(.25, .5)",
]
TIMED = ["t", "1 - t", "ti2", ".5 if t < .4 else .25", "ts(0, 1)", "{0: .5}.get(int(t * 16), .75)"]
SPECIAL = [
    "yes", "null", "1e3", "0x10", "12:30", "2001-01-01", "- a", "a: b", "a #b", "'", '"', "%", "@x",
    "{a}", "[a", "*a", "&a", "!a", " a ", "a\nb", "\u00e9\U0001f427", "~", "?", "<<", "=", "-",
    "a,b", "\t", "\x85", "\u2028", "\\n", "|", ">", "...", "---",
]
texts = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
).map(lambda s: s if s.strip() else "a")
windows = st.one_of(
    st.integers(0, 5).map(lambda n: (n, n + 3)),
    st.floats(0, 1).map(lambda x: (x, 1.0)),
    st.just((0, 1.0)), st.just(("10%", "50 %")), st.just(("1/3", "t")),
)


def constants(mark: Numbers) -> st.SearchStrategy[Any]:
    """One number within the limits, as a number, fraction or text."""
    low = mark.minimum if mark.minimum is not None else mark.above if mark.above is not None else -3
    high = mark.maximum if mark.maximum is not None else mark.below
    high = min(1e4, low + 5 if high is None else high)
    if mark.integer:
        whole = st.integers(int(low), int(high))
        small = st.integers(int(low), int(min(high, low + 24)))
        return st.one_of(small, small, small.map(str), whole)
    reals = st.floats(
        low, high, exclude_min=mark.above is not None, exclude_max=mark.below is not None,
        allow_subnormal=False,
    )
    third = low + (high - low) / 3
    return st.one_of(reals, reals.map(repr), st.just(third))


def formulas(mark: Numbers) -> st.SearchStrategy[Any]:
    """A formula that the field allows; one that stands alone in a list for several numbers."""
    known = [f for f in FORMULAS if "(" in f] + (TIMED if mark.variables >= TIME else [])
    known += ["width/height", "lr*2"] if mark.variables >= RATE else []
    known += ["sim/100"] if mark.variables >= LIVE else []
    return st.sampled_from(known)


@cache
def values(mark: Numbers, formula: bool = True) -> st.SearchStrategy[Any]:
    """What may be written for a `Value`."""
    fits = formula and not mark.integer and bool(mark.variables)
    one = st.one_of(constants(mark), formulas(mark)) if fits else constants(mark)
    forms = [constants(mark), *(st.lists(one, min_size=n, max_size=n) for n in mark.counts)]
    if fits:
        forms.append(formulas(mark).map(lambda f: [f]))
    return st.one_of(forms)


def typed(annotation: Any, metadata: Any = ()) -> st.SearchStrategy[Any]:
    """What may be written for a type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return typed(inner[0], inner[1:])
    for mark in metadata:
        if isinstance(mark, Numbers):
            return values(mark)
        if isinstance(mark, Fixed):
            return constants(mark.numbers) if mark.count == 1 else values(mark.numbers, False)
        if isinstance(mark, EntryList):
            return st.lists(entries(mark.table), max_size=3)
        if isinstance(mark, OpEntry):
            return entries(mark.table)
    if annotation is Any:
        return st.nothing()
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is list:
        return st.lists(typed(inner[0]), min_size=2, max_size=3)
    if origin is dict:
        return st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), texts, max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    simple = {str: texts, bool: st.booleans(), type(None): st.none()}
    if annotation in simple:
        return simple[annotation]
    return st.one_of([typed(part) for part in inner])


def entries(table: Mapping[str, type[Op]]) -> st.SearchStrategy[Any]:
    """One op: its name with options."""
    return st.one_of([
        models(table[name]).map(lambda body, name=name: {name: body}) for name in sorted(table)
    ])


@cache
def models(cls: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """The keys of a model, some left out."""
    return _models(cls)


@cache
def _fields(cls: type[BaseModel]) -> tuple[tuple[str, bool, st.SearchStrategy[Any]], ...]:
    """Name, whether it must be there, and what may be written, for each field but windows."""
    marks = numbers_of(cls)
    return tuple(
        (name, info.is_required(),
         values(marks[name]) if name in marks else typed(info.annotation, info.metadata))
        for name, info in cls.model_fields.items()
        if info.annotation is not Moment and name not in ("image_tensor", "above", "below")
        and not (cls is PostProc and name == "transforms")
    )


@st.composite
def _models(draw: st.DrawFn, cls: type[BaseModel]) -> dict[str, Any]:
    out = {
        name: draw(kind) for name, required, kind in _fields(cls) if required or draw(_maybe)
    }
    if "start" in cls.model_fields and draw(_maybe):
        out["start"], out["end"] = draw(windows)
    if "above" in cls.model_fields:
        mark = numbers_of(cls)["above"]
        out[draw(st.sampled_from(["above", "below"]))] = draw(values(mark))
    if cls is PostProc:
        return _postproc(draw, out)
    if cls is Feature and not any(out.get(key) for key in ("text", "texts", "image")):
        out["text"] = draw(texts)
    return out


_maybe = st.booleans()


def _postproc(draw: st.DrawFn, out: dict[str, Any]) -> dict[str, Any]:
    ops = draw(_edits)
    if draw(st.booleans()):
        return {**out, "transforms": ops}
    return {**{name: body for op in ops for name, body in op.items()}, **out}


_edits = st.lists(entries(EDITS), min_size=1, max_size=3)


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    """A whole config that loads."""
    data = draw(models(Experiment))
    data["epochs"], data["start_epoch"] = draw(st.integers(20, 500)), draw(st.integers(0, 10))
    data["model"] = draw(st.one_of(texts, st.lists(models(Model), min_size=1, max_size=2)))
    for part in [*_list(data, "targets"), *_list(data, "model")]:
        part["weight"] = draw(st.floats(0.1, 5))
    for target in _list(data, "targets"):
        target["look_at"] = "picture"
        for feature in target.get("features", []):
            feature["weight"] = draw(st.sampled_from([-1, "1/3", "ti", 0.25]))
        for constraint in target.get("constraints", []):
            for body in constraint.values():
                body["weight"] = 2
    if data.get("postproc"):
        data.pop("canvas", None)
    return data


def _list(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key, [])
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []
