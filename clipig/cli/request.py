"""Request of a `clipig run` command line: options, and configs or a prompt."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipig.cli.options import DEFAULT, PICTURES, Common
from clipig.errors import UsageError

if TYPE_CHECKING:
    from clipig.config.load import Loaded
    from clipig.outputs.places import RunFiles
    from clipig.session import Session


@dataclass(frozen=True)
class RunOptions(Common):
    """Options of `clipig run`, named as on the command line."""

    text: str | None
    overrides: tuple[str, ...]
    epochs: int | None
    resolution: tuple[int, ...] | None
    learnrate: float | None
    optimizer: str | None
    snapshot_interval: float | None
    runs: int | None
    video: str | None
    verbose: bool

    def as_options(self) -> dict[str, tuple[str, object]]:
        """Options that set config keys: pairs (option name, value) by key."""
        out: dict[str, tuple[str, object]] = {}
        for key in ("seed", "epochs", "learnrate", "optimizer", "runs", "snapshot_interval"):
            value = getattr(self, key)
            if value is not None:
                out[key] = (f"--{key.replace('_', '-')}", value)
        if self.resolution:
            out["resolution"] = ("--resolution", list(self.resolution))
        return out


def understood(words: tuple[str, ...], options: RunOptions) -> Request:
    """Interpret the words of a command line as configs, or as a prompt for the default config.

    Raises:
        UsageError: No words, a picture instead of a config, or a prompt without quotes.
    """
    from clipig.config.sources import is_config

    pictures = [w for w in words if w.lower().endswith(PICTURES)]
    if pictures:
        raise UsageError(
            f"{pictures[0]} is a picture, expected a config; to make a picture of clipig again: "
            f"clipig reproduce {shlex.quote(pictures[0])}"
        )
    numbers = [w for w in words if w.isdecimal() and not os.path.exists(w)]
    if len(numbers) == 1 and options.resolution and len(options.resolution) == 1:
        size = (*options.resolution, int(numbers[0]))  # `-r 64 48`, as in the original CLIPig
        words = tuple(w for w in words if w != numbers[0])
        return understood(words, replace(options, resolution=size))
    if numbers:
        raise UsageError(
            f"found {numbers[0]!r} where a config belongs; a size is written -r 64x48, "
            "and -v takes no number"
        )
    if not words:
        if options.text is None:
            raise UsageError(
                f'nothing to make: name a config (clipig run {DEFAULT}) or give a prompt '
                '(clipig run "a cat made of pizza")'
            )
        return Request((DEFAULT,), options)
    strangers = [w for w in words if w != "-" and not os.path.exists(w) and not is_config(w)]
    if options.text is not None and strangers:
        whole = " ".join([options.text, *strangers])
        raise UsageError(
            f"found {' '.join(strangers)!r} after --text {options.text}; put the prompt in "
            f"quotes: --text {shlex.quote(whole)}"
        )
    if len(words) == 1 and " " in words[0].strip() and strangers:
        return Request((DEFAULT,), replace(options, text=words[0]))
    if len(strangers) == len(words) > 1:
        whole = " ".join(words)
        raise UsageError(
            f"found no config among {', '.join(words)}; put a prompt in quotes: "
            f"clipig run {shlex.quote(whole)}"
        )
    return Request(words, options)


@dataclass(frozen=True)
class Request:
    """Configs or prompt, and options, of one command line."""

    configs: tuple[str, ...]
    options: RunOptions

    def load(self) -> Loaded:
        """Load the experiment, with options applied. Raises `ConfigError`."""
        from clipig.config.load import read
        from clipig.config.prompts import set_text

        o = self.options
        loaded = read(*self.configs, overrides=o.overrides, options=o.as_options())
        if o.text is None:
            return loaded
        return replace(loaded, experiment=set_text(loaded.experiment, o.text))

    @property
    def is_folder(self) -> bool:
        """Whether a folder (of an interrupted run) is given instead of a config."""
        return len(self.configs) == 1 and os.path.isdir(self.configs[0])

    def name(self) -> str:
        """Name of the output files."""
        last = self.configs[-1]
        return "output" if last == "-" else Path(last).stem

    def place(self, loaded: Loaded) -> RunFiles:
        """Output paths, without the number that a name in use will get."""
        from clipig.outputs.places import choose

        return choose(self.options.output or loaded.experiment.output, self.name())

    def session(self) -> Session:
        """Make a session with the requested model, device and precision."""
        return self.options.session()
