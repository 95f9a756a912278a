"""The order of the rooms: a module imports only from its own layer or from earlier ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clipig"

LAYERS = [
    {"allocator", "errors", "expressions", "rng", "tiles", "words"},
    {"values", "frame_time", "ops", "faults"},
    {"fetch", "images", "sheets", "encoders"},
    {"transforms", "clamping", "bands"},
    {"constraints", "canvases", "optimizers", "schedules"},
    {"config"},
    {"binding", "moments", "plan", "prompts", "reference", "spread"},
    {"ahead", "events", "features", "program", "engine", "memory", "settings", "rule", "graphs",
     "compiling", "styles"},
    {"checkpoints", "session", "estimate", "simple"},
    {"sinks", "pages", "bench", "measure", "scoring", "batches", "folders", "states", "pace"},
    {"ranking", "ranking_report", "halving", "grids", "grid_making", "grid_report",
     "rating", "likeness", "picture_features", "cluster"},
    {"cli", "__main__"},
]
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}

LONGEST = 420
"""Lines of a module; longer ones should be two."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms that a module imports when it is imported itself (not inside functions)."""
    found = set()
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clipig."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "clipig":
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("clipig.")}
    return found


def _executed(tree: ast.Module) -> list[ast.stmt]:
    """Statements at the top level, those under TYPE_CHECKING left out."""
    out: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        out.append(node)
    return out


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_from_above_only(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    assert own in RANK, f"{own} has no place in LAYERS"
    for other in imports(path) - {own, "__version__"}:
        assert other in RANK, f"{other} has no place in LAYERS"
        assert RANK[other] <= RANK[own], f"{path.name} imports {other}, which is below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_engine_reads_nothing_and_prints_nothing() -> None:
    for name in ("engine", "program", "binding", "features"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        calls = {
            n.func.id for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"print", "open", "input", "eval", "exec"}, name
    names = {
        a.name for n in ast.walk(ast.parse((PACKAGE / "engine.py").read_text())) if
        isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    assert not names & {"yaml", "time", "Path", "click", "PIL"}


def test_nothing_evaluates_text() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path
