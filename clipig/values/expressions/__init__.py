"""Formulas in a config: `1/5*ti`, `8 if t < .4 else 16`; a whitelist, never `eval`.

A text is parsed once (`parse`) into an `Expression`, which can be evaluated in plain Python
(`Expression.evaluate`) or on tensors without waiting for the device (`Expression.tensor`).
"""

from clipig.values.expressions.expression import Expression, parse
from clipig.values.expressions.names import ALIASES, VARIABLES, time_context

__all__ = ["ALIASES", "VARIABLES", "Expression", "parse", "time_context"]
