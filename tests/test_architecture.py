"""What holds for every module; the import order is a contract of import-linter."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clipig"

LONGEST = 420
"""Lines of a module; longer ones should be two."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_engine_reads_nothing_and_prints_nothing() -> None:
    for path in sorted((PACKAGE / "engine").glob("*.py")):
        name = path.stem
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {
            n.func.id for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"print", "open", "input", "eval", "exec"}, name
    names = {
        a.name for n in ast.walk(ast.parse((PACKAGE / "engine" / "loop.py").read_text())) if
        isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    assert not names & {"yaml", "time", "Path", "click", "PIL"}


def test_nothing_evaluates_text() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path
