"""Finds the run that `clipig run --resume` continues, and checks that it is the requested one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from clipig.cli.options import SHOWN
from clipig.cli.request import Request
from clipig.errors import OutputError, UsageError

if TYPE_CHECKING:
    from clipig.config.compare import Difference
    from clipig.config.schema import Experiment
    from clipig.outputs.places import RunFiles
    from clipig.session import Session


def interrupted_run(request: Request) -> RunFiles:
    """Find the requested interrupted run. Raises `OutputError` or `UsageError`."""
    from clipig.outputs.places import RunFiles, unfinished

    if not request.is_folder:
        wanted = request.place(request.load())
        place = unfinished(wanted)
        if place is None:
            raise OutputError(
                f"nothing to resume: no checkpoint of this config was found in {wanted.folder}"
            )
        return place
    folder = Path(request.configs[0])
    found = sorted(folder.glob("*.checkpoint"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise OutputError(f"nothing to resume: no checkpoint was found in {folder}")
    return RunFiles(folder, found[-1].name.removesuffix(".checkpoint"))


def longer(
    request: Request, session: Session, saved: Experiment, place: RunFiles
) -> Experiment | None:
    """The requested experiment if it differs from the saved one only by more epochs, else None.

    Raises:
        UsageError: The experiments differ otherwise; the message lists the differences.
    """
    from clipig.config.compare import differences

    if request.is_folder:
        given = [flag for flag, _ in request.options.as_options().values()]
        given += [flag for flag, value in (
            ("--text", request.options.text), ("--set", request.options.overrides),
            ("--model", request.options.model),
        ) if value]
        if not given:
            return None
        found = [f"{flag} was given" for flag in given]
    else:
        asked = request.load().experiment
        wanted = session.prepare(asked)
        if asked.seed is None:
            wanted = wanted.model_copy(update={"seed": saved.seed})
        differing = differences(session.prepare(saved), wanted)
        if [d.key for d in differing] == ["epochs"] and _more(differing[0]):
            return wanted
        found = [str(d) for d in differing]
    if found:
        shown = [*found[:SHOWN], *([f"and {len(found) - SHOWN} more"] * (len(found) > SHOWN))]
        raise UsageError(
            f"{place.config} is another run than the one asked for:\n  "
            + "\n  ".join(shown)
            + "\nto go on with it as it was begun: clipig run --resume "
            + shlex.quote(str(place.folder))
            + "\nfor a new run: leave --resume out"
        )
    return None


def _more(epochs: Difference) -> bool:
    """Whether both numbers of epochs are constant and the requested one is larger."""
    return (
        epochs.saved.isdecimal() and epochs.wanted.isdecimal()
        and int(epochs.wanted) > int(epochs.saved)
    )
