"""Formulas, drawn from the tables of functions and variables themselves."""

from __future__ import annotations

from hypothesis import strategies as st

from clipig.values.expressions import ALIASES, VARIABLES
from clipig.values.expressions.functions import FUNCTIONS, NUMBERS
from tests.fuzz.texts import NASTY_TEXTS

_OPERATORS = [*"+-*/%<>", "//", "**", "<=", "==", "!=", ">=", " and ", " or "]
names = st.sampled_from(sorted({*ALIASES, *frozenset().union(*VARIABLES.values()), *NUMBERS}))
numbers = st.one_of(
    st.integers(-3, 300).map(str), st.floats(-4, 4, width=16).map(repr),
    st.sampled_from(["0", "1", ".5", "1e9", "1e308", "1e-320", "2**62", str(2**63 - 1), "inf"]),
)
calls = st.sampled_from(sorted(FUNCTIONS))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One construct of the language around smaller formulas."""
    lists = st.lists(inner, min_size=1, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    pairs = st.lists(st.tuples(inner, inner), min_size=1, max_size=3)
    tables = pairs.map(lambda rows: "{" + ", ".join(f"{k}: {v}" for k, v in rows) + "}")
    return st.one_of(
        st.tuples(inner, st.sampled_from(_OPERATORS), inner).map("".join),
        st.tuples(st.sampled_from(["-", "+", "not "]), inner).map("".join),
        inner.map(lambda x: f"({x})"),
        st.tuples(inner, inner, inner).map(lambda x: f"{x[0]} if {x[1]} else {x[2]}"),
        st.tuples(calls, st.lists(inner, max_size=3)).map(lambda x: f"{x[0]}({', '.join(x[1])})"),
        st.tuples(calls, lists).map(lambda x: f"{x[0]}({x[1]})"),
        lists,
        st.tuples(lists, inner).map(lambda x: f"{x[0]}[{x[1]}]"),
        st.tuples(inner, lists).map(lambda x: f"{x[0]} in {x[1]}"),
        st.tuples(tables, inner, inner).map(lambda x: f"{x[0]}.get({x[1]}, {x[2]})"),
        st.tuples(tables, inner).map(lambda x: f"{x[0]}[{x[1]}]"),
        st.tuples(inner, inner).map(lambda x: f"ts({x[0]}, {x[1]})"),
    )


sound = st.recursive(st.one_of(numbers, names), _grown, max_leaves=12)
"""Formulas by the grammar, though numbers and lists may not fit together."""


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A formula with some characters taken away, put in or changed."""
    text = list(draw(sound))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        text[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([*"()[]{},.:=!@#'\"\\`~;&|^<>?*/%+- \n\t", "**", "lambda: ", "é", "0"])
        )
    return "".join(text)


@st.composite
def long(draw: st.DrawFn) -> str:
    """One construct many times over."""
    piece = draw(st.sampled_from(
        ["(", "[", "-", "not ", "t+", "t**", "1 if t else ", "max(t, ", "[t][", "{0: ", "9", "t<"]
    ))
    return piece * draw(st.integers(1, 2100)) + draw(st.sampled_from(["", "t", "1", "0)", "t]"]))


formulas = st.one_of(sound, sound, broken(), long(), st.sampled_from(NASTY_TEXTS), st.text())
