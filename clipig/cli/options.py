"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clipig.web import OFFLINE_VARIABLE

if TYPE_CHECKING:
    from clipig.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def _go_offline(_: click.Context, __: click.Parameter, given: bool) -> None:
    if given:
        os.environ[OFFLINE_VARIABLE] = "1"


def offline_option(function: F) -> F:
    """--offline, which applies to the entire process."""
    return click.option(
        "--offline", is_flag=True, expose_value=False, is_eager=True, callback=_go_offline,
        help="Download nothing: models and images must be on this disk.",
    )(function)


def engine_options(function: F) -> F:
    """--model, --device, --precision and --offline."""
    for option in (
        offline_option,
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
                     help="Arithmetic of the encoder; canvas and optimizer are always fp32."),
        click.option("-d", "--device", metavar="NAME",
                     help="auto, cpu, cuda, cuda:N or mps; overrides the config."),
        click.option("--model", metavar="NAME",
                     help="Encoder to use instead of the config's: auto, embedded, ViT-B/32, "
                     "a file or folder, hf-hub:ORG/NAME, open_clip:ARCH/PRETRAINED ..."),
    ):
        function = option(function)
    return function


DEFAULT = "penguin_piano"
"""Config for a prompt that is given without one."""
SHOWN = 12
"""Maximum number of differences listed by a refused resume."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
"""Suffixes of pictures, to recognize one given instead of a config."""


class Seed(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A seed: an integer from 0 to 2^63 - 1, or `random`."""

    name = "seed"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if value == "random":
            return secrets.randbelow(2**32)
        try:
            number = int(str(value))
        except ValueError:
            self.fail(f"found {value!r}, expected a whole number or random")
        if not 0 <= number < 2**63:
            self.fail(f"found {number}, expected 0 to {2**63 - 1}")
        return number


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The size of an image in pixels: `256`, or `320x240` for width and height."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*(?:[x×, ]\s*(\d+)\s*)?", str(value), re.I)
        if match is None or not all(int(n) for n in match.groups() if n):
            self.fail(f"found {value!r}, expected a size such as 256 or 320x240")
        return tuple(int(n) for n in match.groups() if n)


class Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An amount of memory: `8G`, `500M`, `1.5GiB`."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        try:
            return value if isinstance(value, int) else parse_bytes(str(value))
        except ValueError:
            self.fail(f"{value!r} found, an amount of memory such as 8G or 500M expected")


def speed_options(function: F) -> F:
    """--max-memory. These options change the time, never the image."""
    for option in (
        click.option("--max-memory", type=Bytes(), metavar="SIZE",
                     help="Memory that batches may use, e.g. 8G; default: what is free."),
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


def rating_options(function: F) -> F:
    """--views and --judge."""
    for option in (
        click.option("--judge", metavar="MODEL",
                     help="A second encoder that did not guide and rates all pictures, too."),
        click.option("--views", type=click.IntRange(1, 10_000), default=50, show_default=True,
                     help="Fresh views over which a picture is rated."),
    ):
        function = option(function)
    return function


def batch_option(unit: str) -> Callable[[F], F]:
    """--batch, counted in `unit`s: `Runs`."""
    return click.option(
        "--batch", "group", type=click.IntRange(1, 4096), metavar="N",
        help=f"{unit} per batch; automatic if absent. An interruption loses one batch.",
    )


def ray_option(function: F) -> F:
    """--ray."""
    return click.option(
        "--ray", metavar="ADDRESS", is_flag=False, flag_value="local",
        help="Make the batches as Ray tasks, on a cluster (auto, ray://HOST:PORT) or, "
        "without ADDRESS, on this machine. Needs the extra clipig[ray].",
    )(function)


@dataclass(frozen=True)
class Common:
    """Options shared by `run`, `rank` and `grid`."""

    seed: int | None
    output: str | None
    resume: bool
    dry_run: bool
    quiet: bool
    model: str | None
    device: str | None
    precision: str | None
    max_memory: int | None

    def session(self) -> Session:
        """Make a session with the requested model, device and precision."""
        from clipig.session import Session

        return Session(
            self.model, self.device, self.precision, max_memory=self.max_memory,
            progress=None if self.quiet else Download(),
        )


@dataclass(frozen=True)
class Many(Common):
    """Options shared by `rank` and `grid`, which rate many runs in a folder."""

    views: int
    judge: str | None
    group: int | None
    ray: str | None


class Download:
    """Shows the progress of a download of weights."""

    def __init__(self) -> None:
        self._spoken = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._spoken < 1.0 and done != total:
            return
        self._spoken = time.monotonic()
        size = f" of {total / 1e6:.0f}" if total else ""
        click.echo(f"\rdownloading weights: {done / 1e6:.0f}{size} MB", err=True, nl=done == total)


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bytes(text: str) -> int:
    """Parse `6G`, `500M`, `1.5 GB` or a number of bytes. Raises `ValueError`."""
    word = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    unit = word[-1:] if word[-1:] in _UNITS else ""
    amount = float(word[: len(word) - len(unit)])
    if not (math.isfinite(amount) and amount > 0):
        raise ValueError(f"{text!r} is no amount of memory")
    return int(amount * _UNITS[unit])
