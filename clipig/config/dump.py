"""An experiment as YAML that loads to an equal experiment.

The notation is the article's: `- mul: 1/2`, `degree: -30 30`, `end: 10%`,
post-processing as keys of its entry, values at their default left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import yaml
from pydantic import BaseModel

from clipig.config.parts import Model, PostProc
from clipig.config.schema import Experiment
from clipig.config.yaml_text import resolved
from clipig.ops.base import Op, numbers_of
from clipig.values.expressions import Expression
from clipig.values.moment import Moment
from clipig.values.numbers import Numbers, Value, split_outside_brackets, tidy


class Flow(dict[str, Any]):
    """A mapping that is written in one line: `{size: 32, mode: edge}`."""


class FlowList(list[Any]):
    """A list that is written in one line."""


def dump(experiment: Experiment, header: str = "", full: bool = False) -> str:
    """Write an experiment as YAML; `load_text` of the result equals the experiment.

    Args:
        experiment: From `load`, `load_text` or `Session.settle`.
        header: Text that goes before it as comment lines.
        full: Whether values at their default are written, too.

    Returns:
        The YAML, in the notation of the article: `- mul: 1/2`, `degree: -30 30`, `end: 10%`.
    """
    data = body(experiment, full)
    text = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6,
        default_flow_style=False,
    ) if data else "{}\n"
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    return "".join(f"{line}\n" for line in lines) + text


def body(model: BaseModel, full: bool = False) -> dict[str, Any]:
    """The keys of a model as plain data."""
    marks = numbers_of(type(model))
    out: dict[str, Any] = {}
    fields = type(model).model_fields
    for name in sorted(fields, key=lambda name: name in ("start", "end")):
        value, info = getattr(model, name), fields[name]
        if value is None or (not full and _same(value, info.default)):
            continue
        if isinstance(model, Experiment) and name == "model":
            out[name] = _models(value)
        elif isinstance(model, PostProc) and name == "transforms":
            out = _edits(value, full) | out
        elif isinstance(value, Value):
            out[name] = numbers(value, marks[name])
        else:
            out[name] = plain(value, full)
    return out


def plain(value: Any, full: bool = False) -> Any:
    """Any value of a field as plain data."""
    if isinstance(value, Op):
        return entry(value, full)
    if isinstance(value, BaseModel):
        return body(value, full)
    if isinstance(value, Moment):
        return moment(value)
    if isinstance(value, Mapping):
        return Flow({key: plain(v, full) for key, v in value.items()})
    if isinstance(value, list | tuple):
        entries = [plain(v, full) for v in value]
        simple = not any(isinstance(e, dict) for e in entries)
        return FlowList(entries) if simple and not _has_ops(value) else entries
    return value


def entry(op: Op, full: bool = False) -> Any:
    """An op: `blur`, `{mul: 1/2}` or `{pad: {size: 32}}`."""
    options = _options(op, full)
    return {op.name: options} if options != {} else op.name


def _options(op: Op, full: bool) -> Any:
    fields = list(type(op).model_fields)
    if fields == [op.sole]:
        return body(op, full=True)[op.sole]
    return Flow(body(op, full))


def _edits(ops: list[Op], full: bool) -> dict[str, Any]:
    """Post-processing in the article's form, unless an edit occurs twice."""
    names = [op.name for op in ops]
    if len(set(names)) < len(names):
        return {"transforms": [entry(op, full) for op in ops]}
    return {op.name: _options(op, full) for op in ops}


def _models(models: list[Model]) -> Any:
    bodies = [body(m) for m in models]
    entries = [b["name"] if set(b) == {"name"} else Flow(b) for b in bodies]
    return entries[0] if len(entries) == 1 else entries


def _has_ops(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(value, Op) for value in values)


def numbers(value: Value, mark: Numbers) -> Any:
    """Numbers as one would write them: `-30 30`, `1/3`, `[t, 1-t]`."""
    parts = value.parts
    if len(parts) == 1 and isinstance(parts[0], Expression):
        text = parts[0].text
        alone = mark.counts == (1,) or len(split_outside_brackets(text)) == 1
        return text if alone else FlowList([text])
    if value.constant:
        shown = [number(p) for p in value.numbers()]
        if len(set(map(str, shown))) == 1 and value.count == min(mark.counts):
            return shown[0]
        return " ".join(map(str, shown))
    return FlowList([p.text if isinstance(p, Expression) else number(p) for p in parts])


def number(x: float) -> int | float | str:
    """A number, or the fraction that gives it exactly: `1/3`."""
    x = tidy(x)
    if isinstance(x, int) or len(repr(x)) < 10:
        return x
    ratio = Fraction(x).limit_denominator(1000)
    exact = ratio.denominator > 1 and ratio.numerator / ratio.denominator == x
    return f"{ratio.numerator}/{ratio.denominator}" if exact else x


def moment(time: Moment) -> int | float | str:
    """A moment: epoch, percentage, or fraction if a percentage would be long."""
    if isinstance(time.at, Expression):
        return time.at.text
    percent = tidy(time.at * 100)
    if isinstance(time.at, float) and percent / 100 == time.at and len(str(percent)) < 6:
        return f"{percent}%"
    return time.at


def _same(a: object, b: object) -> bool:
    """Equal, and of one type: epoch 1 is not fraction 1.0."""
    return type(a) is type(b) and a == b


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key; what our reader takes for a number is quoted."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = "'" if resolved(data) != data else None
    if "\n" in data and not data.startswith((" ", "\n")):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


def _flow(dumper: yaml.SafeDumper, data: Flow) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)


def _flow_list(dumper: yaml.SafeDumper, data: FlowList) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Flow, _flow)
_Dumper.add_representer(FlowList, _flow_list)
