"""Options that several commands share."""

from __future__ import annotations

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


def talk_options(function: F) -> F:
    """--quiet and --verbose."""
    for option in (
        click.option("-v", "--verbose", is_flag=True,
                     help="Print the table of targets while running."),
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and results."),
    ):
        function = option(function)
    return function
