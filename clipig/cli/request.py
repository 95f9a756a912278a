"""What `clipig run` was asked for: options, and configs or a prompt."""

from __future__ import annotations

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
    """The command line's options, named as they are written."""

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
        """What the options say of the config: by key, the option's name and the value."""
        out: dict[str, tuple[str, object]] = {}
        for key in ("seed", "epochs", "learnrate", "optimizer", "runs", "snapshot_interval"):
            value = getattr(self, key)
            if value is not None:
                out[key] = (f"--{key.replace('_', '-')}", value)
        if self.resolution:
            out["resolution"] = ("--resolution", list(self.resolution))
        return out


def understood(words: tuple[str, ...], options: RunOptions) -> Request:
    """What is meant by the words of a command line: configs, or a prompt for the default recipe.

    Raises:
        UsageError: Nothing to make, a picture in place of a config, a prompt without quotes.
    """
    from clipig.config.sources import is_config

    pictures = [w for w in words if w.lower().endswith(PICTURES)]
    if pictures:
        raise UsageError(
            f"{pictures[0]} is a picture, expected a config; to make a picture of clipig again: "
            f"clipig reproduce {shlex.quote(pictures[0])}"
        )
    numbers = [w for w in words if w.isdecimal() and not Path(w).exists()]
    if len(numbers) == 1 and options.resolution and len(options.resolution) == 1:
        size = (*options.resolution, int(numbers[0]))  # -r 64 48, as the original took it
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
    strangers = [w for w in words if w != "-" and not Path(w).exists() and not is_config(w)]
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
    """What was asked for on the command line."""

    configs: tuple[str, ...]
    options: RunOptions

    def load(self) -> Loaded:
        """The experiment and where its values stand, options applied. Raises `ConfigError`."""
        from clipig.config.load import read
        from clipig.config.prompts import set_text

        o = self.options
        loaded = read(*self.configs, overrides=o.overrides, options=o.as_options())
        if o.text is None:
            return loaded
        return replace(loaded, experiment=set_text(loaded.experiment, o.text))

    @property
    def is_folder(self) -> bool:
        """Whether a folder is named in place of a config: an interrupted run's."""
        return len(self.configs) == 1 and Path(self.configs[0]).is_dir()

    def name(self) -> str:
        """What the files are called."""
        last = self.configs[-1]
        return "output" if last == "-" else Path(last).stem

    def place(self, loaded: Loaded) -> RunFiles:
        """Where to write, the number that keeps it from overwriting not yet added."""
        from clipig.outputs.places import choose

        return choose(self.options.output or loaded.experiment.output, self.name())

    def session(self) -> Session:
        """A session with the models and devices that were asked for."""
        return self.options.session()
