"""From experiments to a plan: phases of steps with fixed shapes, and tables of values per step.

Pure: reads no file, touches no device. May import: `config`, `encoders` (descriptions only),
`ops` and below.
"""
