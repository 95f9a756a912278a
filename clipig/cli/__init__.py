"""The command line: one module per command, loaded when it is called.

`main` is the only place that catches: a fault of the user becomes one message on
stderr and exit code 2, an interruption exit code 130. Everything else that
escapes is a defect and shows its traceback.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import signal
import sys
import threading
import warnings
from typing import TextIO

import click

from clipig import __version__
from clipig.cli.streams import open_streams
from clipig.engine.host import keep_freed_memory
from clipig.errors import ClipigError
from clipig.files import reason

COMMANDS = {
    "run": "Make a picture from a config.",
    "rank": "Make many short runs and finish the best of them.",
    "grid": "Make a picture for each combination of some lists, and a page to browse them.",
    "rate": "Measure how well pictures match texts or other pictures.",
    "similar": "Find near-duplicates, neighbours and clusters among pictures.",
    "score": "Measure the quality of pictures by a judge that did not guide them.",
    "bridge": "Fit the bridge of a model to images and captions.",
    "bench": "Measure the speed on this machine.",
    "info": "Show what is stored in a picture made by clipig.",
    "reproduce": "Make a picture again from what is stored in it.",
    "list": "Show the reference: transforms, constraints, optimizers, models ...",
    "schema": "Print the JSON Schema of a config, for completion in editors.",
    "doctor": "Check the installation: versions, device, models, one step.",
}
"""Name and one-line help, so that `clipig --help` need not import the commands."""


_STREAM_FAULTS = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)
"""What a stream says that takes no more: a full disk, `/dev/full`."""


class Commands(click.Group):
    """Imports the module of a command when the command is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"clipig.cli.{name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            raise click.UsageError(f"unknown command {name!r}{_meant(name)}")
        return super().resolve_command(context, args)


def _meant(name: str) -> str:
    """What somebody may have meant who named something else than a command."""
    from clipig.cli.options import PICTURES
    from clipig.config.sources import is_config
    from clipig.values.faults import nearest

    if name.lower().endswith(PICTURES):
        return f"; to make a picture again: clipig reproduce {name}"
    if " " in name.strip() or is_config(name):
        return f"; to make a picture: clipig run {shlex.quote(name)}"
    return nearest(name, COMMANDS) or f" (known are {', '.join(COMMANDS)})"


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clipig")
def group() -> None:
    """Pictures from noise, with CLIP as the critic.

    \b
    clipig run penguin_piano
    clipig rank --runs 512 --top 6
    clipig grid configs/grid_small.yaml
    """


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:
    """Warnings meant for users as one line; others are the business of developers."""
    if issubclass(category, UserWarning):
        click.echo(f"note: {message}", err=True)


def main(args: list[str] | None = None) -> None:
    """The program `clipig`.

    SIGTERM (a cluster's "time is up") and SIGHUP (a closed terminal) end it like Ctrl-C,
    unless the caller ignores them, as nohup does.
    """
    # read by OpenMP when torch is imported: threads that wait by spinning make a run on a
    # machine that others use, too, ten times slower and more; spinning for some microseconds
    # only, then sleeping, costs nothing there and is as fast where nobody else works
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    open_streams()
    keep_freed_memory()
    warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
    try:
        # without standalone mode click returns the code of an Exit instead of raising it
        code = group.main(args=args, prog_name="clipig", standalone_mode=False)
        sys.stdout.flush()
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except ClipigError as e:
        click.echo(f"clipig: {e}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as e:
        if e.errno not in _STREAM_FAULTS or e.filename is not None:
            raise
        click.echo(f"clipig: the output cannot be written: {reason(e)}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        sys.exit(2)
