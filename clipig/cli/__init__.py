"""The command line: one module per command, imported when the command is called.

Only `main` catches exceptions. A fault of the user becomes one message on stderr and exit
code 2, an interruption exit code 130. Any other exception is a defect and shows its
traceback.
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
"""Error codes of a stream that accepts no more data, for example on a full disk."""


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
    """Hint for a word that is not a command: the right command for it, or a similar one."""
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
    """Print warnings for users as one line, and hide those for developers."""
    if issubclass(category, UserWarning):
        click.echo(f"note: {message}", err=True)


def main(args: list[str] | None = None) -> None:
    """Run the program `clipig`.

    SIGTERM (a cluster's time limit) and SIGHUP (a closed terminal) end it like Ctrl-C,
    unless the calling process ignores them, as nohup does.
    """
    # OpenMP reads these when torch is imported. On a machine with other load, threads that
    # spin while waiting make a run ten times slower or worse. Spinning for some microseconds
    # and then sleeping avoids that, and is as fast on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    open_streams()
    keep_freed_memory()
    warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discards the rest of the buffer
        sys.exit(2)
