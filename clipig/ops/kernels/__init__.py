"""Tensor functions that the ops are made of; they know no config. May import: `rng`, `errors`."""
