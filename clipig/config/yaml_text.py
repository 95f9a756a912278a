"""From YAML text to a tree with places, whoever wrote the text.

The text is read as YAML 1.1, as the original did, without tags, with few
aliases and little depth. Two spellings are read otherwise: `1e3` is a number,
and dates and `1:30` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from clipig.config.tree import MAX_DEPTH, Path, Place, Tree
from clipig.errors import InputError, Problem
from clipig.values.text import valid_text

MAX_BYTES = 4 << 20
MAX_VALUES = 250_000
"""How many values a config may have; an `image_tensor` of 256 x 256 pixels has 197,379."""
MAX_REPEATED = 10_000
"""How many values aliases may repeat, together."""
_SMALL = 1 << 16  # up to here the slower parser, whose messages are better
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes characters; the fast parser refuses it

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"yes|Yes|YES|true|True|TRUE|on|On|ON")
_FALSE = re.compile(r"no|No|NO|false|False|FALSE|off|Off|OFF")
_INT = re.compile(r"[-+]?(0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)"
)
_NO_NUMBER = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")

_SYNTAX = [
    (r"'\\t' that cannot start", "found a tab, expected blanks: YAML is indented by blanks"),
    (r"character '([@`%])' that cannot start",
     "found a value that begins with '{0}', expected quotes around it"),
    (r"mapping values are not allowed",
     "found ': ' where no key is expected; a text that contains it must be quoted, and each "
     "line before needs its own `key: value`"),
    (r"undefined alias '?([^']*)'?", "found the alias '*{0}', expected an anchor '&{0}' before it"),
    (r"expected <block end>, but found '?(<scalar>|[\]}}{{\[])",
     "found text after the end of a value, expected a new line; a formula that begins with "
     "a bracket must be quoted"),
    (r"<block mapping start>|<block sequence start>|but found '?[-?]'?$",
     "found another indentation than before; entries of one list or mapping are indented alike"),
    (r"<document start>", "found text after the end of the config"),
    (r"but found ':'", "found ':' without a key before it"),
    (r"expected ',' or '([\]}}])'", "found no ',' or '{0}' after an entry, expected one of them"),
    (r"end of stream|<stream end>",
     "found the end of the text inside quotes or brackets, expected their end"),
    (r"could not find expected ':'", "found a line without ': ', expected `key: value`"),
    (r"special characters are not allowed", "found a character that text may not contain"),
]


class _Refused(Exception):
    """The text cannot be read any further."""

    def __init__(self, problem: Problem):
        self.problem = problem


def parse(text: str | bytes, name: str) -> tuple[Tree | None, list[Problem]]:
    """The tree of a YAML text and what is wrong with it; no tree if it cannot be read.

    `name` stands for the text in the problems, such as its file's name.
    """
    start = Place(name, 1, 1)
    if len(text) > MAX_BYTES:
        message = f"found more than {MAX_BYTES >> 20} MB, expected a config"
        return None, [replace(start, line=0).problem(message)]
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError as e:
            before = e.object[: e.start]
            place = Place(name, before.count(b"\n") + 1, e.start - before.rfind(b"\n"))
            message = f"found the byte 0x{e.object[e.start]:02x}, expected text in UTF-8"
            return None, [place.problem(message)]
    builder = _TreeBuilder(name, text)
    try:
        tree = builder.document()
    except _Refused as e:
        return None, [*builder.problems, e.problem]
    return tree, builder.problems


class _TreeBuilder:
    """Builds the tree from the parser's events."""

    def __init__(self, name: str, text: str):
        self.name = name
        self.text = text.removeprefix("\ufeff")
        self.problems: list[Problem] = []
        self.anchors: dict[str, Tree | None] = {}
        self.repeated = 0
        self.values = 0
        self.path: Path = ()
        self.events = self.read()

    def read(self) -> Iterator[Any]:
        """The events; faults of syntax are refused in our words."""
        fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        slow = len(self.text) < _SMALL or _HALF.search(self.text)
        try:
            yield from yaml.parse(
                self.text, Loader=yaml.SafeLoader if slow else fast
            )
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            place = self.place(mark) if mark else Place(self.name, 1, 1)
            raise _Refused(place.problem(_syntax(e.problem or "", e.context or ""))) from None
        except yaml.reader.ReaderError as e:
            before = self.text[: e.position]
            place = Place(self.name, before.count("\n") + 1, e.position - before.rfind("\n"))
            code = e.character if isinstance(e.character, int) else ord(e.character)
            message = f"found the character U+{code:04X}, which YAML does not allow"
            raise _Refused(place.problem(message)) from None
        except yaml.YAMLError as e:
            raise _Refused(Place(self.name, 1, 1).problem(f"not valid YAML: {e}")) from None

    def place(self, mark: Any) -> Place:
        return Place(self.name, mark.line + 1, mark.column + 1)

    def refuse(self, event: Any, message: str) -> _Refused:
        return _Refused(self.place(event.start_mark).problem(message))

    def document(self) -> Tree:
        """The only document of the text, a mapping."""
        empty = _Refused(Place(self.name, 1, 1).problem("found nothing, expected a config"))
        tree: Tree | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if tree is not None:
                    raise self.refuse(event, "found a second document, expected one config")
                tree = self.node(next(self.events), 0)
        if tree is None or tree.value is None:
            raise empty
        if not isinstance(tree.value, dict):
            kind = "a list" if isinstance(tree.value, list) else "a text or number"
            message = f"found {kind}, expected a mapping such as `epochs: 200`"
            raise _Refused(tree.place.problem(message))
        return tree

    def node(self, event: Any, depth: int) -> Tree:
        """The tree that begins with this event."""
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        if depth > MAX_DEPTH:
            raise self.refuse(event, f"found more than {MAX_DEPTH} levels, expected less")
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.refuse(event, f"found more than {MAX_VALUES:,} values, expected a config")
        if event.tag not in (None, "!", "!!str", "tag:yaml.org,2002:str"):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.problems.append(
                self.place(event.start_mark).problem(f"found the tag {tag!r}, expected no tags")
            )
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            tree = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            tree = self.sequence(event, depth)
        else:
            tree = self.mapping(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = tree
        return tree

    def alias(self, event: Any, depth: int) -> Tree:
        if event.anchor not in self.anchors:
            raise self.refuse(
                event, f"found the alias '*{event.anchor}', expected an anchor "
                f"'&{event.anchor}' before it"
            )
        tree = self.anchors[event.anchor]
        if tree is None:
            raise self.refuse(event, f"found the alias '*{event.anchor}' inside what it stands for")
        for _, below in tree.walk():
            self.repeated += 1
            if self.repeated > MAX_REPEATED:
                raise self.refuse(event, f"found aliases for more than {MAX_REPEATED} values")
            if depth + below > MAX_DEPTH:
                raise self.refuse(event, f"found more than {MAX_DEPTH} levels, expected less")
        return tree

    def scalar(self, event: Any) -> Tree:
        plain = event.implicit[0] and event.tag is None
        place = self.place(event.start_mark)
        try:
            text = valid_text(event.value)
        except InputError as e:
            self.problems.append(place.problem(str(e).removeprefix("the text: "), self.path))
            text = "?"  # a stand-in, so that nothing else is said of it
        value = resolved(text) if plain else text
        return Tree(value, place, written=text if plain else None)

    def sequence(self, event: Any, depth: int) -> Tree:
        entries: list[Tree] = []
        here = self.path
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            self.path = (*here, len(entries))
            entries.append(self.node(item, depth + 1))
        self.path = here
        return Tree(entries, self.place(event.start_mark))

    def mapping(self, event: Any, depth: int) -> Tree:
        entries: dict[str, Tree] = {}
        keys: dict[str, Place] = {}
        inherited: list[Tree] = []
        here = self.path
        while not isinstance(item := next(self.events), yaml.MappingEndEvent):
            self.path = here
            key = self.node(item, depth + 1)
            self.path = (*here, str(key.value))
            value = self.node(next(self.events), depth + 1)
            self.path = here
            if key.written == "<<":
                inherited += value.value if isinstance(value.value, list) else [value]
            elif name := self.key(key, keys):
                empty = value.value is None and value.written == ""
                entries[name] = replace(value, place=key.place) if empty else value
                keys[name] = key.place
        for base in inherited:
            if not isinstance(base.value, dict):
                self.problems.append(base.place.problem("found no mapping after '<<'"))
                continue
            entries = {**base.value, **entries}
            keys = {**base.keys, **keys}
        return Tree(entries, self.place(event.start_mark), keys)

    def key(self, key: Tree, seen: dict[str, Place]) -> str:
        """The key as text; nothing, and a problem, if it cannot be one."""
        if not isinstance(key.value, str) or not key.value:
            spelled = f"`{key.written}`" if key.written else "no text"
            hint = "; YAML reads it as true or false, quote it" * isinstance(key.value, bool)
            message = f"found {spelled} as a key, expected a name{hint}"
            self.problems.append(key.place.problem(message))
            return ""
        if key.value in seen:
            first = seen[key.value]
            self.problems.append(
                key.place.problem(
                    f"found the key a second time, expected it once: lines {first.line} and "
                    f"{key.place.line}", (*self.path, key.value)
                )
            )
            return ""
        return key.value


def resolved(text: str) -> Any:
    """What a plain scalar means."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if len(text) > 100:
        return text
    digits = text.replace("_", "")
    if _INT.fullmatch(text):
        octal = re.fullmatch(r"([-+]?)0([0-7]+)", digits)
        return int(octal[1] + octal[2], 8) if octal else int(digits, 0)
    if _FLOAT.fullmatch(text):
        return float(digits)
    if match := _NO_NUMBER.fullmatch(text):
        return float(match[1] + match[2])
    return text


def _syntax(problem: str, context: str) -> str:
    for pattern, message in _SYNTAX:
        if match := re.search(pattern, problem) or re.search(pattern, context):
            return message.format(*match.groups())
    return f"not valid YAML: {problem}"
