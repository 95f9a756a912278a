"""The YAML reader and the grammar of formulas under libFuzzer, which looks for new branches.

    pip install --group fuzz
    python -m tests.fuzz.by_coverage yaml -max_total_time=60
    python -m tests.fuzz.by_coverage formula -max_total_time=60 -max_len=200

Further arguments are libFuzzer's. A finding is written to `crash-...` and printed; keep it in
`corpus/yaml` or `corpus/formula`. Linux and macOS only; atheris has no wheel for Windows.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["clipig.config", "clipig.values", "yaml"]):
    from clipig.config.load import load_text
    from clipig.config.yaml_text import parse as parse_yaml
    from clipig.values.expressions import VARIABLES, parse, time_context

from clipig.errors import ClipigError

EVERY = frozenset().union(*VARIABLES.values())
CONTEXT = {
    **time_context(3, 10), "resolution": [224, 160], "width": 224, "height": 160,
    "learnrate": 0.02, "learnrate_scale": 1.5, "similarity": 21.5, "row": 0.5,
}


def read_yaml(data: bytes) -> None:
    """Any bytes: a tree or a problem, then a config or a `ConfigError`."""
    tree, problems = parse_yaml(data, "a.yaml")
    assert tree is not None or problems
    with contextlib.suppress(ClipigError, UnicodeDecodeError):
        load_text(data.decode("utf-8"))


def read_formula(data: bytes) -> None:
    """Any text: a formula with a value, or an `ExpressionError`."""
    with contextlib.suppress(ClipigError):
        parse(data.decode("utf-8", "replace"), EVERY).evaluate(CONTEXT, lambda: 0.375)


TARGETS: dict[str, Callable[[bytes], None]] = {"yaml": read_yaml, "formula": read_formula}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.by_coverage {'|'.join(TARGETS)} [OPTION ...]")
    name = sys.argv.pop(1)
    root = Path(__file__).parent
    seeds = [root / "corpus" / name]
    if name == "yaml":
        seeds += [root / "corpus" / "config", root.parents[1] / "configs"]
    with tempfile.TemporaryDirectory() as new:  # libFuzzer writes what it learns to the first
        options = ["-timeout=2", "-rss_limit_mb=2048"]
        atheris.Setup([*sys.argv, *options, new, *map(str, seeds)], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
