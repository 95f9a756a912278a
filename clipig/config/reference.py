"""The reference, generated from the ops and the schema themselves.

`python -m clipig.config.reference docs/reference` writes the pages and the JSON Schema
of the shipped configs; a test holds them to be current.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from clipig.config.dump import numbers, plain
from clipig.config.entries import EntryList, OpEntry, Rate
from clipig.config.jsonschema import json_schema
from clipig.config.parts import EDITS, Feature, Init, Model, PostProc, Target
from clipig.config.schema import Experiment
from clipig.ops.base import Op, numbers_of
from clipig.ops.canvases import CANVASES
from clipig.ops.constraints import CONSTRAINTS
from clipig.ops.optimizers import OPTIMIZERS
from clipig.ops.schedules import SCHEDULES
from clipig.ops.transforms import TRANSFORMS
from clipig.values.expressions.functions import FUNCTIONS
from clipig.values.expressions.functions import NUMBERS as CONSTANTS
from clipig.values.expressions.grammar import MAX_DEPTH, MAX_LENGTH, MAX_NODES
from clipig.values.expressions.names import ALIASES, VARIABLES
from clipig.values.moment import Moment
from clipig.values.numbers import NAMED_GROUPS, ROW, Fixed, Numbers, Value

TITLES = {
    "transforms": "What is done to each view before the encoder sees it, in the order of the "
    "list `targets[].transforms`.",
    "constraints": "Penalties on what the encoder sees, in the list `targets[].constraints`. "
    "The term in the loss is `weight * K * D`; K is 100 unless said otherwise, D the mean square "
    "(`l2`) or mean absolute (`l1`) difference.",
    "postproc": "Edits of the picture after each optimizer step, without gradient, in the list "
    "`postproc`. Each entry may have `start`, `end` and `active`.",
    "optimizers": "What can stand after `optimizer:`, as a name or as a name with options. "
    "The learning rate is `base * learnrate * learnrate_scale`.",
    "schedules": "What can stand after `learnrate:` and `learnrate_scale:` instead of a number or "
    "formula: a name, a name with its peak, or a name with options. It is written out as a formula "
    "of `t` when the config is read.",
    "canvases": "How the picture is stored, after `canvas:`, as a name or as a name with options.",
}
SIMPLE: dict[Any, str] = {
    Moment: "a moment such as `20`, `0.5`, `50%` or a formula", str: "text",
    bool: "true or false", int: "a whole number", float: "a number",
}
VARIABLE_WORDS = {
    "epoch": "number of the step, from 0", "time": "0 at the first step, 1 at the last",
    "time_inverse": "1 - time",
    "time_step": "`ts(a, b)`: 0 before time a, 1 after b, linear between; falls if b < a",
    "resolution": "[width, height] of the picture now", "width": "of the picture now",
    "height": "of the picture now", "learnrate": "learning rate now, base included",
    "learnrate_scale": "`learnrate_scale` now",
    "row": "where the run stands among those of the command: 0 in the first of `runs`, 1 in the "
    "last, evenly between; 0 if there is one run; the config's `row` if it has that key",
    "similarity": "cosine x 100 of the feature; in a target or constraint the mean of its features",
}


def tables() -> dict[str, Mapping[str, type[Op]]]:
    """Every table of ops by the word for its kind."""
    return {
        "transforms": TRANSFORMS, "constraints": CONSTRAINTS, "postproc": EDITS,
        "optimizers": OPTIMIZERS, "schedules": SCHEDULES, "canvases": CANVASES,
    }


def entry(cls: type[Op]) -> str:
    """The reference of one op: name, what it does, its keys, an example."""
    words, example = parts(cls)
    also = [name for name, c in OPTIMIZERS.items() if c is cls and name != cls.name]
    words += "".join(f"\n\nAlso called `{name}`." for name in also)
    fields = "\n".join(describe(cls, name) for name in ordered(cls))
    blocks = [f"## {cls.name}", words, fields, f"```yaml\n{example}\n```" if example else ""]
    return "\n\n".join(block for block in blocks if block) + "\n"


def listing(kind: str) -> str:
    """The page of one kind of op. Raises KeyError for an unknown kind."""
    table = {cls.name: cls for cls in tables()[kind].values()}
    head = f"# {kind.capitalize()}\n\n{TITLES[kind]}\n"
    index = "\n".join(f"- [{name}](#{name}): {cls.summary()}" for name, cls in table.items())
    return "\n".join([head, index, "", *map(entry, table.values())])


def parts(cls: type[BaseModel]) -> tuple[str, str]:
    """The docstring's words and its example."""
    text = inspect.cleandoc(cls.__doc__ or "")
    words, _, example = text.partition("\nExample:\n")
    return words.strip(), inspect.cleandoc(example)


def ordered(cls: type[BaseModel]) -> list[str]:
    """The keys, own ones first, those common to all constraints last."""
    common = ("weight", "loss", "start", "end") if cls in CONSTRAINTS.values() else ("start", "end")
    return sorted(cls.model_fields, key=lambda n: common.index(n) + 1 if n in common else 0)


def describe(cls: type[BaseModel], name: str) -> str:
    """One key: what it takes, its default, what it means."""
    info = cls.model_fields[name]
    default = "required" if info.is_required() else f"default {_default(cls, name)}"
    lines = (info.description or "").split("\n")
    return f"- `{name}` ({takes(cls, name)}; {default}): {' '.join(map(str.strip, lines))}"


def takes(cls: type[BaseModel], name: str) -> str:
    """What a key takes, in words."""
    info = cls.model_fields[name]
    if mark := numbers_of(cls).get(name):
        also = f", or {_names(mark)}" if isinstance(mark, Rate) else ""
        return _numbers(mark) + also
    return _type(info.annotation, info.metadata)


def _numbers(mark: Numbers) -> str:
    groups = [name for name, group in NAMED_GROUPS.items() if mark.variables >= group]
    text = mark.describe()
    return f"{text}, or formulas of {', '.join(groups)}" if groups else text


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], inner[1:])
    for mark in metadata:
        if isinstance(mark, Fixed):
            return mark.numbers.describe()
        if isinstance(mark, OpEntry | EntryList):
            return _names(mark)
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin is list:
        return _list(annotation, inner[0])
    if origin is dict:
        return "a mapping of texts"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping, see [{annotation.__name__}](#{annotation.__name__.lower()})"
    return " or ".join(_type(a) for a in inner if a is not type(None))


def _names(mark: OpEntry | EntryList | Rate) -> str:
    kind = next((k for k, table in tables().items() if set(table) == set(mark.table)), "names")
    page = f"[{kind}]({kind}.md)"
    return f"a list of {page}" if isinstance(mark, EntryList) else f"one of the {page}"


def _list(annotation: Any, item: Any) -> str:
    if annotation == list[Model]:
        return "a name, or a list of names and [Model](#model)s"
    if isinstance(item, type) and issubclass(item, BaseModel):
        return f"a list of [{item.__name__}](#{item.__name__.lower()})"
    if item is Any:
        return "nested lists of numbers"
    return "a list of texts" if item is str else f"a list, each {_type(item)}"


def _default(cls: type[BaseModel], name: str) -> str:
    default = cls.model_fields[name].default
    if default is None or default in ([], {}):
        return "none"
    if isinstance(default, Value):
        return f"`{numbers(default, numbers_of(cls)[name])}`"
    if isinstance(default, list) and isinstance(default[0], Model):
        return f"`{default[0].name}`"
    shown = plain(default)
    if isinstance(shown, bool):
        return f"`{str(shown).lower()}`"
    return f"`{shown}`" if shown not in ({}, "") else "none"


def config_page() -> str:
    """The keys of a config that are no ops."""
    blocks = [
        "# Config\n",
        "All keys of a config file. Numbers may be written as formulas (see "
        "[expressions](expressions.md)), several numbers as `-30 30`, `1, 2, 3` or a list; "
        "one number stands for all channels or both axes. Sizes are `width height`. "
        "A moment is an epoch (`20`), a fraction of the run (`0.5`), a percentage (`50%`) or a "
        "formula: `end: 1` is epoch 1, `end: 1.0` the end.\n",
        "Several files are laid over one another from left to right: mappings merge, lists of "
        "mappings (targets, features, transforms, constraints, postproc) append, all else is "
        "replaced. `--set targets.0.batch_size=4` sets any key.\n",
    ]
    names = {Experiment: "Top level", PostProc: "Postproc"}
    for cls in (Experiment, Model, Init, Target, Feature, PostProc):
        words = parts(cls)[0]
        fields = "\n".join(describe(cls, name) for name in ordered(cls))
        blocks.append(f"## {names.get(cls, cls.__name__)}\n\n{words}\n\n{fields}\n")
    return "\n".join(blocks)


def expressions_page() -> str:
    """Variables, functions and limits of expressions."""
    short = {name: alias for alias, name in ALIASES.items()}
    lines = [
        "# Expressions\n",
        "Wherever a number may stand, a formula may: `1/5*ti`, `8 if t < .4 else 16`, "
        "`{0: 8, 1: 16}.get(int(t*16), 224)`. The language is Python's for numbers: `+ - * / // % "
        "**`, comparisons, `and or not`, `a if b else c`, lists with an index, mappings with "
        "`[key]` or `.get(key, default)`, and the functions below. A formula without variables is "
        "worked out when the config is read; one with random numbers draws them from the run's "
        "seed. A formula with blanks or commas that stands for several numbers must be an item of "
        f"a list. At most {MAX_LENGTH} characters, {MAX_NODES} parts, {MAX_DEPTH} levels.\n",
    ]
    groups = {**NAMED_GROUPS, "the row of runs": ROW}
    for title, group in groups.items():
        lines.append(f"## Variables of {title}\n")
        for name in sorted(group):
            alias = f" (`{short[name]}`)" if name in short else ""
            lines.append(f"- `{name}`{alias}: {_variable(name)}")
        lines.append("")
    lines.append("## Functions\n")
    for name, function in sorted(FUNCTIONS.items()):
        if name != "time_step":
            arity = "argument" if function.arity == "1" else "arguments"
            random = ", random" if function.random else ""
            lines.append(f"- `{name}`: {function.arity} {arity}{random}")
    lines.append(f"\nConstants: {', '.join(f'`{name}`' for name in CONSTANTS)}.\n")
    assert set().union(*groups.values()) == set().union(*VARIABLES.values())
    return "\n".join(lines)


def _variable(name: str) -> str:
    if name in VARIABLE_WORDS:
        return VARIABLE_WORDS[name]
    return f"{name[:-1]} to the power of {name[-1]}"


def pages() -> dict[str, str]:
    """Every page by file name."""
    ops = {f"{kind}.md": listing(kind) for kind in tables()}
    return {**ops, "config.md": config_page(), "expressions.md": expressions_page()}


def schema_text() -> str:
    """The JSON Schema as it is shipped beside the configs."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write the pages to a folder, and the schema beside the shipped configs."""
    folder = Path(arguments[0] if arguments else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    schema = Path(arguments[1] if len(arguments) > 1 else "configs/schema.json")
    schema.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
