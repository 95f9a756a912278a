"""Formulas, drawn from the tables of functions and variables themselves."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from clipig.values.expressions import ALIASES, VARIABLES
from clipig.values.expressions.functions import FUNCTIONS, NUMBERS
from tests.fuzz.texts import NASTY_TEXTS

_OPERATORS = [*"+-*/%<>", "//", "**", "<=", "==", "!=", ">=", " and ", " or "]
_NAMES = sorted({*ALIASES, *frozenset().union(*VARIABLES.values()), *NUMBERS})
names = st.one_of(st.sampled_from(["t", "epoch", "width", "lr", "sim"]), st.sampled_from(_NAMES))
numbers = st.one_of(
    st.integers(-3, 300).map(str), st.floats(-4, 4, width=16).map(repr),
    st.sampled_from(["0", "1", ".5", "1e9", "1e308", "1e-320", "2**62", str(2**63 - 1), "inf"]),
)
calls = st.sampled_from(sorted(FUNCTIONS))


@st.composite
def sound(draw: st.DrawFn, depth: int = 4) -> str:
    """A formula by the grammar, though numbers and lists may not fit together."""
    kind = draw(st.sampled_from(_KINDS)) if depth else "leaf"
    if kind == "leaf":
        return draw(st.one_of(numbers, names))

    def part() -> str:
        return draw(sound(depth - 1))

    def several() -> str:
        return ", ".join(part() for _ in range(draw(st.integers(1, 3))))

    def table() -> str:
        rows = (f"{part()}: {part()}" for _ in range(draw(st.integers(1, 3))))
        return "{" + ", ".join(rows) + "}"

    def call() -> str:
        name = draw(calls)
        row = FUNCTIONS[name]
        if row.takes == "list" or (row.takes == "either" and draw(st.booleans())):
            return f"{name}([{several()}])"
        count = draw(st.integers(row.least, min(row.most or 3, 3)))
        return f"{name}({', '.join(part() for _ in range(count))})"

    forms: dict[str, Callable[[], str]] = {
        "pair": lambda: f"{part()}{draw(st.sampled_from(_OPERATORS))}{part()}",
        "sign": lambda: draw(st.sampled_from(["-", "+", "not "])) + part(),
        "brackets": lambda: f"({part()})",
        "condition": lambda: f"{part()} if {part()} else {part()}",
        "call": call,
        "list": lambda: f"[{several()}]",
        "item": lambda: f"[{several()}][{part()}]",
        "member": lambda: f"{part()} in [{several()}]",
        "get": lambda: f"{table()}.get({part()}, {part()})",
        "key": lambda: f"{table()}[{part()}]",
        "ramp": lambda: f"ts({part()}, {part()})",
    }
    return forms[kind]()


_KINDS = [
    *["leaf"] * 5, "pair", "pair", "pair", "sign", "brackets", "condition", "call", "call",
    "call", "list", "item", "member", "get", "key", "ramp",
]


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A formula with some characters taken away, put in or changed."""
    text = list(draw(sound()))
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


formulas = st.one_of(sound(), sound(), broken(), long(), st.sampled_from(NASTY_TEXTS), st.text())
