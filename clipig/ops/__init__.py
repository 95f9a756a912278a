"""The ops that a config can name: transforms, constraints, canvases, optimizers, schedules.

May import: `values`, `rng`, `errors`.
"""
