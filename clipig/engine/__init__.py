"""One plan on a device: the loop, the step, losses, optimizer updates, events, saved state.

Reads no file, prints nothing. May import: `plan`, `config`, `encoders`, `ops` and below.
"""
