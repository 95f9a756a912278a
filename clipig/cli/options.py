"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def engine_options(function: F) -> F:
    """--model, --device and --precision."""
    for option in (
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
                     help="Arithmetic of the encoder; canvas and optimizer are always fp32."),
        click.option("-d", "--device", metavar="NAME",
                     help="auto, cpu, cuda, cuda:N or mps; overrides the config."),
        click.option("--model", metavar="NAME",
                     help="Encoder to use instead of the config's: auto, embedded, ViT-B/32, "
                     "a checkpoint file, open_clip:ARCH/PRETRAINED."),
    ):
        function = option(function)
    return function


class Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An amount of memory: `8G`, `500M`, `1.5GiB`."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)(?:i?b)?\s*", str(value), re.I)
        try:
            number = float(match[1]) if match else 0.0
        except ValueError:
            number = 0.0
        if match is None or number <= 0:
            self.fail(f"{value!r} found, an amount of memory such as 8G or 500M expected")
        return int(number * 1024 ** ["", "k", "m", "g", "t"].index(match[2].lower()))


def speed_options(function: F) -> F:
    """--compile and --max-memory: what may change the time, never the picture."""
    for option in (
        click.option("--max-memory", type=Bytes(), metavar="SIZE",
                     help="Memory that batches may use, e.g. 8G; default: what is free."),
        click.option("--compile", "compiling", type=click.Choice(["auto", "on", "off"]),
                     default="auto", show_default=True,
                     help="Compile the steps; auto: where that repays its own time."),
    ):
        function = option(function)
    return function


def talk_options(function: F) -> F:
    """--quiet and --verbose."""
    for option in (
        click.option("-v", "--verbose", is_flag=True,
                     help="Print the table of targets while running."),
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and results."),
    ):
        function = option(function)
    return function
