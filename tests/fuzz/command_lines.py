"""Command lines, drawn from the commands' own options: a new option is drawn by itself."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
from hypothesis import strategies as st
from PIL import Image

import clipig.cli
from tests.fuzz.guard import Untrue
from tests.fuzz.texts import NASTY_NUMBERS, NASTY_TEXTS

CONFIG = """
epochs: 3
resolution: 16
model: embedded
device: cpu
seed: 1
targets:
  - features:
      - text: a {animal}
let: {animal: cat}
"""
GRID = "axes: {animal: [cat, pig], learnrate: [.5, 1]}\nrecipe: a.yaml\n"
FILES = ["a.yaml", "b.yaml", "grid.yaml", "texts.txt", "a.png", "pictures", "pictures/", "new/",
         "new.png", "missing.yaml", "*.png", "-", "penguin_piano", "method_1", "grid_small"]
WORDS = [*FILES, "embedded", "cpu", "cuda", "meta", "auto", "a cat", "adam", "rmsprob", "a=cat",
         "epochs=2", "targets.0.weight=2", "targets[0].features[9]=x", "resolution=[4", "x=",
         "=", "1/2", "0-3,7", "1/1", "8G", "1K", "learnrate=cosine", "ViT-B/32", "open_clip:a/b"]
LEFT_OUT = {
    "ray": "starts a cluster",
    "bench": "takes half a minute by design",
    "doctor": "takes a step with every model that is there",
}
"""Options and commands that are not drawn (commands: but for their help)."""


def _harmless(word: str) -> bool:
    """Whether a word can name no file outside of the folder that the call runs in."""
    return not word.startswith(("/", "~", "-o/")) and ".." not in word and "\x00" not in word


words = st.one_of(
    st.sampled_from(FILES), st.sampled_from(WORDS),
    st.sampled_from([t for t in NASTY_TEXTS if _harmless(t)]), st.text(max_size=6),
).filter(_harmless)
numbers = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "-1", "1e3", "nan", "inf", "x", ""]),
    st.sampled_from(NASTY_NUMBERS).filter(lambda n: abs(n) < 10**30).map(str),
)


def commands() -> Mapping[str, click.Command]:
    """The commands by name."""
    group = clipig.cli.group
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def _value(parameter: click.Parameter) -> st.SearchStrategy[str]:
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return st.one_of(st.sampled_from([str(c) for c in kind.choices]), words)
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        return st.one_of(st.sampled_from(["1", "2"]), numbers)
    return words


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """The words after `clipig`."""
    known = commands()
    name = draw(st.sampled_from(["run", "run", "run", *sorted(known)]))
    if name in LEFT_OUT:
        return [name, "--help"]
    if draw(st.integers(0, 30)) == 0:
        name = draw(words)
    command = known.get(name, known["run"])
    line: list[str] = []
    options = [p for p in command.params if isinstance(p, click.Option) and p.name not in LEFT_OUT]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    for option in draw(st.lists(st.sampled_from(options), max_size=4)) if options else []:
        line.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
        if not (option.is_flag or option.count) and draw(st.integers(0, 20)):
            line.append(draw(_value(option)))
    for argument in arguments:
        most = 3 if argument.nargs == -1 else 1
        line += draw(st.lists(_value(argument), min_size=int(draw(st.integers(0, 9)) > 0),
                              max_size=most))
    if draw(st.integers(0, 20)) == 0:
        line.insert(draw(st.integers(0, len(line))), draw(words))
    return [word for word in [name, *line] if _harmless(word)]


class Reached(BaseException):
    """The first step would come next: the command line was taken."""


def _reached(*_: object, **__: object) -> Iterator[None]:
    raise Reached
    yield


def prepare(folder: Path) -> None:
    """The files that the command lines name."""
    (folder / "a.yaml").write_text(CONFIG)
    (folder / "b.yaml").write_text("learnrate: 1 - t\n")
    (folder / "grid.yaml").write_text(GRID)
    (folder / "texts.txt").write_text("a cat\n\na pig\n")
    (folder / "pictures").mkdir(exist_ok=True)
    for name in ("a.png", "pictures/b.png", "pictures/c.png"):
        Image.new("RGB", (12, 10), (200, 30, len(name))).save(folder / name)


def call(
    line: Sequence[str], folder: Path, encoding: str = "utf-8", stdin: bytes = CONFIG.encode(),
    steps: bool = False, codes: Sequence[int] = (0, 2),
) -> tuple[int, str]:
    """Run a command line in a folder: exit code and what was written.

    Without `steps` the call ends where the first step of a picture would begin, with code 0.
    An exit code that is none of `codes`, or a traceback, is `Untrue`.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace", write_through=True)
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8", errors="surrogateescape")
    with ExitStack() as stack:
        stack.enter_context(_inside(folder))
        stack.enter_context(mock.patch.multiple(sys, stdout=out, stderr=err, stdin=given))
        stack.enter_context(warnings.catch_warnings())
        # memory that is kept for later calls could not be told from memory that is in use
        stack.enter_context(mock.patch("clipig.cli.keep_freed_memory"))
        if not steps:
            stack.enter_context(mock.patch("clipig.session.optimize", _reached))
        try:
            clipig.cli.main(list(line))
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
        except Reached:
            code = 0
    said = out.buffer.getvalue() + err.buffer.getvalue()  # type: ignore[attr-defined]
    text = said.decode(encoding, errors="replace")
    if code not in codes:
        raise Untrue(f"exit code {code!r}: {text[-300:]}")
    if "Traceback (most" in text and "_Alarm" not in text:
        raise Untrue(f"a traceback: {text[-600:]}")
    if code == 2 and not text.strip():
        raise Untrue("exit code 2 without a word")
    return code, text


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
