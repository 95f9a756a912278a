"""What is nasty in any text, number or name, and ways to spoil data that was in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

NASTY_TEXTS = [
    "", " ", "\x00", "\ufeff", "\ud83d", "\udcff", "\u202e", "\x1b]0;x\x07", "a\r\nb", "\x85",
    "\U0010ffff",
    "{a}", "{{a}}", "{", "}", "${x}", "%s", "%(x)s", "{0}", "{a.b[0]}", "%", "100%", "-1%",
    "nan", "inf", "-inf", "1e999", "1e-999", "-0", "0x10", "1_0", "1__0", "0b2", "08", "١٢",
    "½", "1/0", "0/0", "t", "1/t", "t**-1", "9**9**9", "[t]", "[[t]]", "[]", "()", "{0: 1}",
    "random()", "ts(0, 1)", "sim", "lr", "res", "res[0]", "width*height", "epoch**epoch",
    "1 2 3", "1, 2", "1,,2", ",", "-", "--", "...", "---", "~", "null", "yes", "no", "on", "12:30",
    "*a", "&a b", "!!python/object:os.system x", "<<", "? a", "| a", "> a", "@a", "`a`", "# a",
    "/dev/null", "..", ".", "/", "~root", "file:///etc/passwd", "http://", "http://[::1", "http://a:b/",
    "https://example.invalid/a.png", "ftp://a/b", "://", "C:\\a", "a" * 300, "\u00e9" * 100,
]
NASTY_NUMBERS: list[Any] = [
    0, -0.0, -1, 1, 2, 0.5, 1.5, -0.5, 1e-9, 1e-300, 5e-324, 1e300, -1e300, 255, 4095, 4096, 4097,
    2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400,
    float("inf"), float("-inf"), float("nan"),
]
nasty_texts = st.one_of(
    st.sampled_from(NASTY_TEXTS),
    st.text(max_size=12),
    st.text(st.characters(codec=None, categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Lu"]), max_size=4),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NASTY_NUMBERS), st.integers(), st.floats(),
    nasty_texts,
)
data = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(nasty_texts, inner, max_size=3)
    ),
    max_leaves=6,
)
"""Any plain data at all."""

Path = tuple[str | int, ...]


def paths(tree: Any, here: Path = ()) -> Iterator[Path]:
    """The places of all values in plain data, the whole included."""
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from paths(value, (*here, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from paths(value, (*here, index))


def at(tree: Any, path: Path) -> Any:
    """The value at a place."""
    for key in path:
        tree = tree[key]
    return tree


def replaced(tree: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def without(tree: Any, path: Path) -> Any:
    """A copy without the value at a place."""
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(tree[path[0]], path[1:])
    return copy


@st.composite
def spoiled(draw: st.DrawFn, tree: Any, times: int = 3) -> Any:
    """Plain data with up to some of its values changed, moved, renamed or taken away."""
    for _ in range(draw(st.integers(0, times))):
        places = list(paths(tree))
        path = draw(st.sampled_from(places))
        old = at(tree, path)
        kind = draw(st.sampled_from(["replace", "delete", "rename", "wrap", "copy", "twice"]))
        if kind == "replace":
            tree = replaced(tree, path, draw(data))
        elif kind == "delete" and path:
            tree = without(tree, path)
        elif kind == "rename" and path and isinstance(path[-1], str):
            above = dict(at(tree, path[:-1]))
            above[draw(nasty_texts)] = above.pop(path[-1])
            tree = replaced(tree, path[:-1], above)
        elif kind == "wrap":
            tree = replaced(tree, path, draw(st.sampled_from([[old], {"a": old}, [old, old]])))
        elif kind == "copy":
            tree = replaced(tree, path, at(tree, draw(st.sampled_from(places))))
        elif kind == "twice" and isinstance(old, list):
            tree = replaced(tree, path, [*old, *old])
    return tree


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of which some are others, missing or doubled."""
    out = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        if not out:
            break
        place = draw(st.integers(0, len(out) - 1))
        kind = draw(st.sampled_from(["byte", "cut", "drop", "double", "insert"]))
        if kind == "byte":
            out[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del out[place:]
        elif kind == "drop":
            del out[place : place + draw(st.integers(1, 8))]
        elif kind == "double":
            out[place:place] = out[place : place + draw(st.integers(1, 16))]
        else:
            out[place:place] = draw(st.binary(min_size=1, max_size=4))
    return bytes(out)
