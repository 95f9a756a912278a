"""Ops in YAML: `{blur: {kernel_size: 5}}` where a table says what `blur` is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError, core_schema
from typing_extensions import LiteralString

from clipig.ops.base import Numbers, Op, Value, fault, found, nearest, wrong
from clipig.ops.schedules import SCHEDULES, Schedule


def read_entries(
    table: Mapping[str, type[Op]], raw: object, refused: Mapping[str, str] = MappingProxyType({})
) -> list[Op]:
    """The ops of one list entry, in written order: usually one.

    `{}` is no op, as in the original. `refused` names what is not in the table and why.
    Raises a pydantic
    `ValidationError` whose locations are `(name, field, ...)`.
    """
    if isinstance(raw, Op):
        return [raw]
    if isinstance(raw, str):
        raw = {raw: None}
    if raw == {}:
        return []
    if not isinstance(raw, Mapping):
        raise wrong(raw, f"an entry such as `{next(iter(table))}: ...`")
    ops: list[Op] = []
    problems: list[InitErrorDetails] = []
    for name, value in raw.items():
        if name not in table:
            message = unknown(table, name, refused)
            problems.append(_detail((str(name),), message, value, "clipig_name"))
            continue
        try:
            ops.append(table[name].model_validate(value))
        except ValidationError as e:
            problems += [moved(d, (name,)) for d in e.errors(include_url=False)]
    if problems:
        raise ValidationError.from_exception_data("entry", problems)
    return ops


def unknown(table: Mapping[str, Any], name: object, refused: Mapping[str, str]) -> str:
    """The message for a name that is not in a table."""
    if reason := refused.get(str(name)):
        return f"found {found(name)}, {reason}"
    near = nearest(str(name), table) or f"; known are {', '.join(table)}"
    return f"found unknown name {found(name)}{near}"



def _detail(
    place: tuple[str | int, ...], message: str, value: object, kind: LiteralString = "clipig"
) -> InitErrorDetails:
    error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=place, input=value)


def moved(error: Mapping[str, Any], place: tuple[str | int, ...]) -> InitErrorDetails:
    """An error of an inner model as one of the outer model."""
    context = {**error.get("ctx", {}), "message": error["msg"]}
    kind = PydanticCustomError(error["type"], "{message}", context)
    return InitErrorDetails(type=kind, loc=place + tuple(error["loc"]), input=error["input"])


@dataclass(frozen=True)
class EntryList:
    """The type of a list of ops: `Annotated[list[Transform], EntryList(TRANSFORMS)]`."""

    table: Mapping[str, type[Op]]
    refused: Mapping[str, str] = field(default_factory=dict)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda ops: [dump_entry(op) for op in ops]
            ),
        )

    def read(self, raw: object) -> list[Op]:
        """All ops of the list; collects the problems of every entry."""
        if not isinstance(raw, list | tuple):
            raise wrong(raw, "a list of entries, each begun with `- `")
        ops: list[Op] = []
        problems: list[InitErrorDetails] = []
        for number, entry in enumerate(raw):
            try:
                ops += read_entries(self.table, entry, self.refused)
            except ValidationError as e:
                problems += [moved(d, (number,)) for d in e.errors(include_url=False)]
            except PydanticCustomError as e:
                problems.append(_detail((number,), e.message(), entry))
        if problems:
            raise ValidationError.from_exception_data("list", problems)
        return ops



@dataclass(frozen=True)
class OpEntry:
    """The type of a single op: a name or a mapping of one name to its options."""

    table: Mapping[str, type[Op]]
    refused: Mapping[str, str] = field(default_factory=dict)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(dump_entry)
        )

    def read(self, raw: object) -> Op:
        """The op."""
        if not raw or not isinstance(raw, str | Mapping | Op):
            raise wrong(raw, f"one of {', '.join(self.table)}")
        ops = read_entries(self.table, raw, self.refused)
        if len(ops) != 1:
            raise wrong(raw, "one name")
        return ops[0]



@dataclass(frozen=True)
class Rate(Numbers):
    """The type of a learning rate: numbers, or a schedule, which is written out as a formula."""

    table: ClassVar[Mapping[str, type[Schedule]]] = SCHEDULES

    def read(self, raw: object) -> Value:
        """The typed value of a number, a formula, `cosine` or `{cosine: {...}}`."""
        if isinstance(raw, Mapping) or (isinstance(raw, str) and raw.strip() in self.table):
            schedules = read_entries(self.table, raw.strip() if isinstance(raw, str) else raw)
            if len(schedules) != 1:
                raise wrong(raw, "one schedule")
            assert isinstance(schedules[0], Schedule)
            return super().read(schedules[0].formula())
        try:
            return super().read(raw)
        except PydanticCustomError:
            if isinstance(raw, str) and (near := nearest(raw, self.table)):
                raise fault(f"found {found(raw)}, expected a number or a schedule{near}") from None
            raise


def dump_entry(op: Op) -> dict[str, Any] | str:
    """An op as it would stand in YAML; fields at their default are left out."""
    body = {
        name: value
        for name, value in op.model_dump().items()
        if name in op.model_fields_set and value is not None
    }
    return {op.name: body} if body else op.name
