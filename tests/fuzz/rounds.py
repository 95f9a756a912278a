"""One round: some cases of one target, drawn by hypothesis from a seed, in this process."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky

from tests.fuzz.corpus import encoded, known
from tests.fuzz.guard import Limits, TooLarge, TooSlow, guarded, kind, offline
from tests.fuzz.targets import Case, Target, run

PATIENCE = 60.0
"""Seconds that may go into making a case smaller that takes too much"""
_MOST_KINDS = 6
"""Kinds of findings that are looked for, one after the other"""


@dataclass
class Report:
    """What came of a round.

    cases      how many were tried, those for making findings smaller included
    taken      how many of them went through, without a `ClipigError`
    known      how many ended as `expected.yaml` says
    findings   the smallest case and what was said of it, by kind
    """

    cases: int = 0
    taken: int = 0
    known: int = 0
    findings: dict[str, tuple[Case, str]] = field(default_factory=dict)


def prepare(home: Path) -> None:
    """Settings of the process in which cases are tried."""
    torch.set_num_threads(1)
    for name in ("CLIPIG_CACHE", "HOME", "XDG_CACHE_HOME"):
        os.environ[name] = str(home / name.lower())
    os.environ["CLIPIG_CHECKPOINT_SECONDS"] = "0"


class Found(Exception):
    """A finding, for hypothesis to make smaller; it holds on to nothing of the call."""


def play(target: Target, number: int, count: int, folder: Path, limits: Limits) -> Report:
    """Try `count` cases of a target, drawn from the seed `number`, in files below `folder`.

    Each time something new is found it is made smaller, and the search begins anew, for
    what else there is.
    """
    search = _Search(target, folder, limits)
    for attempt in range(_MOST_KINDS):
        search.focus = None
        explore = seed(f"{number} {attempt}")(settings(
            max_examples=count, deadline=None, database=None, verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )(given(target.cases)(lambda case: search.check(case))))
        with contextlib.suppress(Found, Flaky):  # what takes long may do so but once
            explore()
        if search.focus is None:
            break
        search.done.add(search.focus)
    return search.report


class _Search:
    """What is known of a target while cases are tried.

    focus   the kind of finding that is being made smaller
    done    kinds that have been
    """

    def __init__(self, target: Target, folder: Path, limits: Limits):
        self.target, self.folder, self.limits = target, folder, limits
        self.report = Report()
        self.known = known(target.name)
        self.focus: str | None = None
        self.done: set[str] = set()
        self.spent = 0.0

    def check(self, case: Case) -> None:
        """Try a case; raises `Found` if it is one of those that are being made smaller."""
        (self.folder / "current").write_bytes(encoded(case))
        self.report.cases += 1
        begun = time.monotonic()
        try:
            with offline():
                self.report.taken += guarded(
                    lambda: run(self.target, case, self.folder / "case"), self.limits
                )
            return
        except Exception as fault:
            what, said = kind(fault), f"{type(fault).__name__}: {fault}"
            costly = isinstance(fault, TooSlow | TooLarge)
            for one in (fault, fault.__cause__, fault.__context__):
                traceback.clear_frames(one.__traceback__ if one else None)  # and their tensors
        if what.startswith(self.known):
            self.report.known += 1
            return
        smallest = self.report.findings.get(what)
        if smallest is None or len(case) < len(smallest[0]):
            self.report.findings[what] = case, said
        if what in self.done:
            return
        if self.focus is None:
            self.focus, self.spent = what, 0.0
        self.spent += time.monotonic() - begun if costly else 0
        if what == self.focus and self.spent < PATIENCE:
            raise Found(what)
