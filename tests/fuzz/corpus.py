"""Cases that are kept as files: findings of the past, and inputs that people met.

    corpus/TARGET/NAME.SUFFIX     a case
    corpus/expected.yaml          which of them are not right yet, and why

A case that stands in `expected.yaml` must fail as it says there; once it is right, the
test of the corpus fails until its line is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.fuzz.targets import TARGETS, Case, Target

FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Expected:
    """A finding that is known: how it begins, and why it is not mended yet.

    `dies`: it ends the process, so it is tried in one of its own.
    """

    finding: str
    reason: str
    dies: bool = False


def kept() -> list[tuple[str, Target, Case]]:
    """Name, target and content of every file of the corpus."""
    found = []
    for target in TARGETS.values():
        for path in sorted((FOLDER / target.name).glob(f"*{target.suffix}")):
            found.append((f"{target.name}/{path.name}", target, read(target, path)))
    return found


def read(target: Target, path: Path) -> Case:
    """The case in a file."""
    data = path.read_bytes()
    if target.binary:
        return data
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # bytes that are no text, as the system hands them over
        return data.decode("utf-8", "surrogateescape")


def encoded(case: Case) -> bytes:
    """A case as the content of its file."""
    if isinstance(case, bytes):
        return case
    try:
        return case.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return case.encode("utf-8", "surrogatepass")


def expected() -> dict[str, Expected]:
    """What is not right yet, by the name of the case."""
    path = FOLDER / "expected.yaml"
    rows = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return {name: Expected(**row) for name, row in (rows or {}).items()}


def known(target: str) -> tuple[str, ...]:
    """How findings of a target begin that are expected."""
    return tuple(e.finding for n, e in expected().items() if n.startswith(f"{target}/"))


def deadly(target: str) -> bool:
    """Whether some case of a target is expected to end the process."""
    return any(e.dies for n, e in expected().items() if n.startswith(f"{target}/"))
