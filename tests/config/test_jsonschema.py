"""The JSON Schema: it is current, it accepts what we ship and refuses what is obviously wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from clipig.config.jsonschema import json_schema
from clipig.config.reference import schema_text, tables
from clipig.config.sources import paths
from tests.support.experiments import experiments

SCHEMA = json_schema()
ROOT = Path(__file__).parents[2]


def faults(config: object) -> list[str]:
    return [e.message for e in Draft202012Validator(SCHEMA).iter_errors(config)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert "://" not in SCHEMA["$id"]


def test_the_shipped_file_is_current() -> None:
    told = "out of date: run `python -m clipig.config.reference docs/reference`"
    assert (ROOT / "configs/schema.json").read_text(encoding="utf-8") == schema_text(), told


@pytest.mark.parametrize("name", sorted(paths()))
def test_shipped_configs(name: str) -> None:
    text = paths()[name].read_text(encoding="utf-8")
    assert faults(yaml.safe_load(text)) == []
    line = text.splitlines()[0]
    schema = paths()[name].parent / line.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text(encoding="utf-8")) == SCHEMA


@given(experiments())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_loads_is_accepted(data: dict[str, Any]) -> None:
    assert faults(data) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}", "epochs: 10*10", "resolution: [t*224]", "resolution: 8 16", "optimizer: rmsprob",
        "optimizer: {adam: {betas: [.9, .99]}}", "optimizer: {adam: }", "model: a",
        "model: [a, {name: b}]",         "targets:",
        "targets: [{features: , transforms: [blur, {blur: }, {blur: 5}, {noise: {std: .1}}]}]",
        "postproc: [blur, {blur: 5, end: 10%}, {blur: {kernel_size: 3}, active: false}]",
        "postproc: [{transforms: [blur, blur]}]", "targets: [{start: 5, end: 10%}]", "let: {a: b}",
        "targets: [{constraints: [{saturation: {below: .005}}, {gray: .5}]}]", "canvas: pyramid",
    ],
)
def test_shorthands(text: str) -> None:
    assert faults(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[]", "foo: 1", "epochs: 0", "epochs: many", "epochs: [1, 2]", "epochs: true", "seed: 1.5",
        "resolution: [1, 2, 3]", "resolution: -1", "output: 5", "ema: 1", "model: []", "model: {}",
        "interpolation: cubics", "optimizer: sparse_adam", "optimizer: {adam: {beta: 1}}",
        "canvas: {pixels: {squash: x}}", "targets: 5", "targets: {}", "targets: [{feature: []}]",
        "targets: [{features: [{}]}]", "targets: [{features: [{text: true}]}]",
        "targets: [{features: [{text: a, loss: cosinus}]}]", "targets: [{transforms: [blurr]}]",
        "targets: [{transforms: [noise]}]", "targets: [{transforms: [{pad: {mode: edge}}]}]",
        "targets: [{transforms: [{mul: foo}]}]", "targets: [{constraints: [{tv: 5}]}]",
        "postproc: [{resize: 5}]", "init: 5", "init: {mean: [1, 2]}",
        "let: {a: 1}",
        "targets: [{active: 'false'}]", "targets: [{start: [1]}]", "snapshot_interval: -1",
    ],
)
def test_refused(text: str) -> None:
    assert faults(yaml.safe_load(text)) != []


def test_everything_is_described() -> None:
    for model in [SCHEMA, *SCHEMA["$defs"].values()]:
        for name, field in model.get("properties", {}).items():
            assert field.get("description") or name == "transforms", name
    known = str(SCHEMA["$defs"].keys())
    for kind, table in tables().items():
        word = {"postproc": "transform", "canvases": "canvas"}.get(kind, kind.rstrip("s"))
        assert all(f"{word}.{cls.name}" in known for cls in table.values())
