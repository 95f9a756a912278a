"""Pydantic's errors in our words, at the place where the user wrote the value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from clipig.config.entries import EntryList, OpEntry, Rate
from clipig.config.parts import Model, PostProc
from clipig.config.schema import Experiment
from clipig.config.tree import Path, Place, Tree
from clipig.errors import Problem
from clipig.ops.base import Fixed, Op, numbers_of
from clipig.values.faults import found, nearest

TEXTS = {
    "bool_type": "true or false", "string_type": "text", "list_type": "a list",
    "int_type": "a whole number", "float_type": "a number", "finite_number": "a number",
    "too_short": "at least {min_length} entries", "too_long": "at most {max_length} entries",
    "greater_than_equal": "{ge} or more", "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less", "less_than": "less than {lt}",
}
"""What is allowed, by pydantic's type of error."""

NAMES = ("extra_forbidden", "clipig_name")
"""Errors about a key instead of its value."""


def problems_of(
    tree: Tree, error: ValidationError, root: type[BaseModel] = Experiment
) -> list[Problem]:
    """Pydantic's errors about a tree, read as a `root`, as problems with places.

    Where a value may be one of several kinds pydantic has an error for each:
    they become one, and none if the fault lies deeper in one of the kinds.
    """
    grouped: dict[tuple[Path, Place], list[str]] = {}
    kinds: dict[tuple[Path, Place], list[str]] = {}
    for detail in error.errors(include_url=False):
        place, path, node = locate(tree, detail["loc"], key=detail["type"] in NAMES)
        # a value that may be one of several kinds has the kind at the end of its location
        several = len(detail["loc"]) > len(path) and detail["type"] != "missing"
        for found_at in (grouped, kinds) if several else (grouped,):
            texts = found_at.setdefault((path, place), [])
            text = message_of(detail, node, root)
            texts += [text] if text not in texts else []
    deep = {path[:i] for path, _ in grouped for i in range(len(path))}
    return [
        place.problem(text, path)
        for (path, place), texts in grouped.items()
        for text in _joined(texts, kinds.get((path, place), []))
        if path not in deep or not _about_kind(text)
    ]


_HINT = re.compile(r"; | \((?=YAML)")


def _joined(texts: list[str], kinds: list[str]) -> list[str]:
    """What each kind of a value is told as one: `found X, expected 'a', 'b' or a number`.

    Of several ways to say what was found the longest is kept.
    """
    if len(kinds) < 2:
        return texts
    heads: list[str] = []
    allowed: list[str] = []
    hints: list[str] = []
    for text in kinds:
        head, _, rest = text.partition(", expected ")
        hint = _HINT.search(rest)
        end = hint.start() if hint else len(rest)
        heads.append(head)
        allowed.append(rest[:end])
        hints += [rest[end:]] if hint else []
    allowed.sort(key=lambda a: not a.startswith("'"))  # stable: words before numbers
    words = [a.replace(" or ", ", ") if a.startswith("'") else a for a in allowed[:-1]]
    choice = f"{', '.join(words)} or {allowed[-1]}{''.join(hints[:1])}"
    others = [text for text in texts if text not in kinds]
    return [*others, f"{max(heads, key=len)}, expected {choice}"]


def _about_kind(text: str) -> bool:
    return text.startswith(("found a list, ", "found a mapping, "))


def locate(
    tree: Tree, loc: Iterable[str | int], key: bool = False
) -> tuple[Place, Path, Tree]:
    """Where a value (or its `key`) stands, the path as the user wrote it, and the value.

    Steps that the user left out (the field of `- blur: 5`, the list around a
    single model) are passed over, so that the nearest value is shown.
    """
    path: Path = ()
    place, node = tree.place, tree
    for step in loc:
        below = node.step(step)
        if below is None:
            continue
        place = below.place
        if isinstance(step, str) and (key or isinstance(below.value, dict | list)):
            place = node.keys.get(step, place)
        path, node = (*path, step), below
    return place, path, node


def message_of(error: Mapping[str, Any], node: Tree, root: type[BaseModel] = Experiment) -> str:
    """What was found, what is allowed, the nearest name."""
    kind, loc, raw = error["type"], tuple(error["loc"]), error["input"]
    if kind in ("clipig", "clipig_name", "value_error", "assertion_error"):
        text = str(error["msg"]).removeprefix("Value error, ")
        return text.replace(f"found {found(raw)},", f"found {spelled(raw, node)},")
    if kind == "extra_forbidden":
        return _unknown_key(loc, root)
    if kind == "missing":
        return f"found no `{loc[-1]}`, expected {_allowed(loc, root)}"
    if kind == "literal_error":
        return _choice(error, raw, node)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"found {spelled(raw, node)}, expected {_mapping(owner(loc, root))}"
    if kind in TEXTS:
        expected = TEXTS[kind].format(**error.get("ctx", {}))
        remedy = _remedy(kind, raw, _annotation(loc, root))
        return f"found {spelled(raw, node)}, expected {expected}{remedy}"
    return f"found {spelled(raw, node)}: {error['msg']}"


def spelled(raw: object, node: Tree) -> str:
    """The value as the user spelled it."""
    if isinstance(raw, bool) and node.written:
        return f"`{node.written}`"
    return found(raw)


def _remedy(kind: str, raw: object, annotation: Any) -> str:
    if kind == "string_type" and isinstance(raw, bool):
        return "; YAML reads this word as true or false, put it in quotes"
    if kind == "string_type" and isinstance(raw, int | float):
        return "; put it in quotes"
    if kind == "bool_type" and str(raw).lower() in ("true", "false"):
        return " without quotes"
    if kind == "list_type" and models_in(annotation):
        return " of entries, each begun with `- `"
    if kind == "list_type":
        if isinstance(raw, str | int | float) and re.fullmatch(r"[-+\d.\s]+", str(raw)):
            return f" such as [{', '.join(str(raw).split())}]"
        if marks := _marks(annotation):
            return f", each entry {marks[0].numbers.describe()}"
        return f" such as [{raw}]" if isinstance(raw, str) else ""
    return ""


def _marks(annotation: Any) -> list[Fixed]:
    """What the entries of a list of numbers may be, anywhere in an annotation."""
    inner = get_args(annotation)
    if get_origin(annotation) is list:
        return [m for m in getattr(inner[0], "__metadata__", ()) if isinstance(m, Fixed)]
    return [mark for part in inner for mark in _marks(part)]


def _unknown_key(loc: Path, root: type[BaseModel]) -> str:
    cls = owner(loc[:-1], root)
    keys = keys_of(cls) if cls else []
    listing = f"; known are {', '.join(keys)}" if keys else ""
    return f"found an unknown key{nearest(str(loc[-1]), keys) or listing}"


def _choice(error: Mapping[str, Any], raw: object, node: Tree) -> str:
    choices = str(error["ctx"]["expected"])
    near = nearest(raw, choices.replace("'", "").replace(" or ", ", ").split(", ")) if (
        isinstance(raw, str)
    ) else ""
    return f"found {spelled(raw, node)}, expected {choices}{near}"


def _mapping(cls: type[BaseModel] | None) -> str:
    """What may stand for a model."""
    if cls is PostProc:
        return "an edit such as `blur: 3`"
    keys = f" with {', '.join(keys_of(cls))}" if cls else ""
    return f"{'a name or ' if cls is Model else ''}a mapping{keys}"


def keys_of(cls: type[BaseModel]) -> list[str]:
    """The keys that a user may write below a model."""
    keys = sorted(cls.model_fields, key=lambda name: name in ("start", "end"))
    keys = [name for name in keys if not (cls is PostProc and name == "transforms")]
    return [*keys, "the name of an edit"] if cls is PostProc else keys


def _allowed(loc: Path, root: type[BaseModel]) -> str:
    """What a field that is missing would take."""
    cls = owner(loc[:-1], root)
    if cls is None or loc[-1] not in cls.model_fields:
        return "it"
    return allowed(cls, str(loc[-1]))


def allowed(cls: type[BaseModel], name: str) -> str:
    """What a field takes, in words: `1 or 3 numbers of at least 0`."""
    if mark := numbers_of(cls).get(name):
        return mark.describe()
    annotation = cls.model_fields[name].annotation
    return {str: "a text", bool: "true or false"}.get(annotation, "it")  # type: ignore[arg-type]


def _annotation(loc: Path, root: type[BaseModel]) -> Any:
    """The type of the field that a location ends with."""
    for end in range(len(loc) - 1, -1, -1):
        cls = owner(loc[:end], root)
        if cls and loc[end] in cls.model_fields:
            return cls.model_fields[str(loc[end])].annotation
    return None


def owner(loc: Path, root: type[BaseModel] = Experiment) -> type[BaseModel] | None:
    """The model that lies at a location of pydantic's."""
    cls: type[BaseModel] | None = root
    table: Mapping[str, type[Op]] = {}
    for key in loc:
        if isinstance(key, int):
            continue
        if key in table:
            cls, table = table[key], {}
        elif cls and key in cls.model_fields:
            info = cls.model_fields[key]
            table = table_of(info)
            cls = None if table else next(iter(models_in(info.annotation)), None)
    return cls


def table_of(info: FieldInfo) -> Mapping[str, type[Op]]:
    """The table of ops whose names a field takes, if it does."""
    marks = [m for m in info.metadata if isinstance(m, OpEntry | EntryList | Rate)]
    return marks[0].table if marks else {}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]

