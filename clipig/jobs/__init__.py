"""Many runs: rank, grid, rate, similar, score, bench, time estimates.

May import: `outputs`, `session` and below.
"""
