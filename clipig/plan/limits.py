"""How large a plan may be. Checked before the work is done, with an estimate in the message."""

from __future__ import annotations

from clipig.errors import ConfigError, Problem

MAX_PARTS = 10_000
"""targets, features, transforms, constraints and edits of an experiment"""
MAX_EVALUATIONS = 5_000_000
"""values of formulas at all steps of all runs that are planned together: about a minute"""
MAX_TABLES = 1 << 30
"""bytes of the tables of a plan"""
RUNS = 1024
"""runs of a plan; more are planned as several"""
_PER_SECOND = 100_000
"""evaluations of formulas on one core of 2020"""


def check_parts(count: int) -> None:
    """Raise `ConfigError` for an experiment of too many parts."""
    if count > MAX_PARTS:
        raise _too_large(
            "targets", f"found {count:,} targets, features, transforms and constraints, "
            f"expected at most {MAX_PARTS:,} in all"
        )


def check_evaluations(count: int, steps: int) -> None:
    """Raise `ConfigError` if formulas would have too many values.

    Args:
        count: Values of all formulas at all steps of all runs.
        steps: Of the longest run, for the message.
    """
    if count > MAX_EVALUATIONS:
        raise _too_large(
            "epochs", f"found formulas with {count:,} values in {steps:,} epochs, which would take "
            f"about {count / _PER_SECOND / 60:,.0f} minutes to compute, expected at most "
            f"{MAX_EVALUATIONS:,}; fewer epochs, runs or formulas have fewer values"
        )


def check_tables(size: int) -> None:
    """Raise `ConfigError` if the tables of a plan would take too much memory.

    Args:
        size: Bytes of all tables.
    """
    if size > MAX_TABLES:
        raise _too_large(
            "epochs", f"found random formulas whose tables take {size / 2**30:,.1f} GiB, expected "
            f"at most {MAX_TABLES / 2**30:.0f} GiB; fewer epochs, views or runs need less"
        )


def _too_large(key: str, message: str) -> ConfigError:
    return ConfigError([Problem("", 0, 0, key, message)])
