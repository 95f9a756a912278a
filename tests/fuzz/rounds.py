"""One round: some cases of one target, drawn by hypothesis from a seed, in this process."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

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


def play(target: Target, number: int, count: int, folder: Path, limits: Limits) -> Report:
    """Try `count` cases of a target, drawn from the seed `number`, in files below `folder`."""
    report, spent = Report(), Counter[str]()
    done: set[str] = set()
    expected, journal = known(target.name), folder / "current"

    def check(case: Case) -> None:
        journal.write_bytes(encoded(case))
        report.cases += 1
        begun = time.monotonic()
        try:
            with offline():
                report.taken += guarded(lambda: run(target, case, folder / "case"), limits)
        except Exception as fault:
            what = kind(fault)
            if what.startswith(expected):
                report.known += 1
                return
            smallest = report.findings.get(what)
            if smallest is None or len(case) < len(smallest[0]):
                report.findings[what] = case, f"{type(fault).__name__}: {fault}"
            spent[what] += time.monotonic() - begun  # type: ignore[assignment]
            if what in done or (isinstance(fault, TooSlow | TooLarge) and spent[what] > PATIENCE):
                return
            raise

    for attempt in range(_MOST_KINDS):
        explore = seed(f"{number} {attempt}")(settings(
            max_examples=count, deadline=None, database=None, verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )(given(target.cases)(check)))
        try:
            explore()
        except Exception:  # of hypothesis; what was found is in the report
            if done >= set(report.findings):
                raise
            done |= set(report.findings)  # once more, for what else there is
        else:
            break
    return report
