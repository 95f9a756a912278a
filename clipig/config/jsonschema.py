"""JSON Schema of a config (draft 2020-12), for completion and hints in editors.

Made from the fields of the schema and of the ops, shorthands included. It
allows a little more than the loader: it cannot read expressions.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clipig.config.dump import numbers, plain
from clipig.config.entries import EntryList, OpEntry, Rate
from clipig.config.parts import EDITS, Feature, Model, PostProc
from clipig.config.schema import Experiment
from clipig.ops.base import Moment, Numbers, Op, numbers_of
from clipig.ops.canvases import CanvasSpec
from clipig.ops.constraints import Constraint
from clipig.ops.optimizers import OptimizerSpec
from clipig.ops.schedules import Schedule
from clipig.ops.transforms import Transform
from clipig.values.expressions.functions import FUNCTIONS
from clipig.values.expressions.functions import NUMBERS as CONSTANTS
from clipig.values.expressions.names import ALIASES
from clipig.values.numbers import LIVE, RATE, SHAPE, TIME, Fixed, Value

Schema = dict[str, Any]

_SIMPLE: Mapping[Any, Schema] = {
    str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"},
    float: {"type": "number"}, type(None): {"type": "null"}, Any: {},
}
KINDS: Mapping[str, type[Op]] = {
    "transform": Transform, "constraint": Constraint, "canvas": CanvasSpec,
    "optimizer": OptimizerSpec, "schedule": Schedule,
}
_SOURCES = [{"required": [key]} for key in ("text", "texts", "image", "preset")]


def json_schema() -> Schema:
    """The schema of a config file."""
    builder = _SchemaBuilder()
    top = builder.model(Experiment)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:clipig:config",
        "title": "clipig config",
        **top,
        "patternProperties": {"^x-": {}},
        "$defs": dict(sorted(builder.definitions.items())),
    }


class _SchemaBuilder:
    """Schemas of models; those that are used in several places become definitions."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def reference(self, name: str, make: Any) -> Schema:
        """A `$ref` to a definition, which is made when it is first used."""
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def model(self, cls: type[BaseModel]) -> Schema:
        """The mapping of a model's keys."""
        fields = {n: f for n, f in cls.model_fields.items() if n != "transforms" or cls != PostProc}
        out: Schema = {
            "type": "object",
            "description": inspect.cleandoc(cls.__doc__ or ""),
            "properties": {name: self.field(cls, name) for name in fields},
            "additionalProperties": False,
        }
        if required := [name for name, info in fields.items() if info.is_required()]:
            out["required"] = required
        if cls is Feature:
            out["anyOf"] = _SOURCES
        if cls is PostProc:
            out["properties"] |= self.table(EDITS)
            out["properties"]["transforms"] = {"type": "array", "items": self.entry(EDITS)}
        return out

    def field(self, cls: type[BaseModel], name: str) -> Schema:
        """One key of a model, with its description and default."""
        info = cls.model_fields[name]
        out = self.typed(info.annotation, info.metadata)
        if cls is Experiment and name == "model":
            one = self.typed(Model, ())
            out = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
        elif out.get("type") == "array" and not info.is_required():
            out = {**out, "type": ["array", "null"]}
        if info.description:
            out = {**out, "description": info.description}
        default = _default(cls, name, info)
        return out if default in (None, [], {}) else {**out, "default": default}

    def typed(self, annotation: Any, metadata: Any) -> Schema:
        """The values of a type."""
        for mark in [*metadata, *getattr(annotation, "__metadata__", ())]:
            if isinstance(mark, Rate):
                return {"anyOf": [self.numbers(mark), self.entry(mark.table)]}
            if isinstance(mark, Numbers):
                return self.numbers(mark)
            if isinstance(mark, Fixed):
                return self.numbers(mark.numbers)
            if isinstance(mark, EntryList):
                return {"type": "array", "items": self.entry(mark.table)}
            if isinstance(mark, OpEntry):
                return self.entry(mark.table)
            if getattr(mark, "json_schema_input_type", PydanticUndefined) is not PydanticUndefined:
                return self.typed(mark.json_schema_input_type, ())
        if annotation in _SIMPLE:
            return dict(_SIMPLE[annotation])
        if annotation is Moment:
            return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self.node(annotation)
        return self.generic(annotation)

    def numbers(self, mark: Numbers) -> Schema:
        """Numbers, texts with numbers or expressions, lists of both."""
        name = mark.describe().replace(" ", "-")

        def make() -> Schema:
            formula = self.reference(f"formula.{_group(mark)}", lambda: _formula(mark))
            one = [mark.number_schema(), formula]
            lengths = [{"minItems": n, "maxItems": n} for n in sorted({1, *mark.counts})]
            items = {"type": "array", "items": {"anyOf": one}, "anyOf": lengths}
            return {"anyOf": [*one, items]}

        return self.reference(f"{name}.{_group(mark)}", make)

    def node(self, cls: type[BaseModel]) -> Schema:
        """A model, with what may stand in its place."""
        whole = self.reference(cls.__name__.lower(), lambda: self.model(cls))
        if cls is Model:
            return {"anyOf": [{"type": "string"}, whole]}
        if cls is PostProc:
            return {"anyOf": [{"enum": list(EDITS)}, whole]}
        return whole

    def generic(self, annotation: Any) -> Schema:
        """Lists, choices and unions."""
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Literal:
            return {"enum": list(inner)}
        if origin in (list, tuple):
            return {"type": "array", "items": self.typed(inner[0], ())}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.typed(inner[1], ())}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.typed(part, ()) for part in inner]}
        return self.typed(get_args(annotation)[0], ()) if inner else {}

    def entry(self, table: Mapping[str, type[Op]]) -> Schema:
        """A name of a table, or a mapping of names to their options."""
        bare = [name for name, cls in table.items() if not _required(cls)]
        whole = {
            "type": "object", "properties": self.table(table), "additionalProperties": False,
        }
        return {"anyOf": [{"enum": bare}, whole]}

    def table(self, table: Mapping[str, type[Op]]) -> dict[str, Schema]:
        """The options of each name."""
        return {name: self.options(name, cls) for name, cls in table.items()}

    def options(self, name: str, cls: type[Op]) -> Schema:
        """What may stand after a name: a mapping, or the value of its main field."""
        kind = next(kind for kind, base in KINDS.items() if issubclass(cls, base))
        forms = [self.reference(f"{kind}.{cls.name}", lambda: self.model(cls))]
        if cls.sole and set(_required(cls)) <= {cls.sole}:
            forms.append(self.field(cls, cls.sole))
        if not _required(cls):
            forms.append({"type": "null"})
        return {"anyOf": forms, "description": cls.summary()}


def _required(cls: type[BaseModel]) -> list[str]:
    return [name for name, info in cls.model_fields.items() if info.is_required()]


def _default(cls: type[BaseModel], name: str, info: FieldInfo) -> Any:
    if info.is_required() or info.default is None:
        return None
    if isinstance(info.default, Value):
        return numbers(info.default, numbers_of(cls)[name])
    if isinstance(info.default, list):
        return None
    default = plain(info.default)
    return None if isinstance(default, dict) else default


def _group(mark: Numbers) -> str:
    """The name of the widest group of variables that a field may use."""
    groups = {"live": LIVE, "rate": RATE, "shape": SHAPE, "time": TIME}
    return next((name for name, group in groups.items() if mark.variables >= group), "none")


def _formula(mark: Numbers) -> Schema:
    """A text with a number, or with a name that an expression may use."""
    if not mark.variables:
        return {"type": "string", "pattern": "[0-9]"}
    short = [alias for alias, name in ALIASES.items() if name in mark.variables]
    words = "|".join(sorted({*mark.variables, *short, *CONSTANTS, *FUNCTIONS}))
    return {"type": "string", "pattern": rf"[0-9]|\b({words})\b"}
