"""Image-text models behind one protocol (`protocol.Encoder`).

    info = resolve("auto")      # which model, its sizes; no weights loaded
    encoder = load(info, "cpu")

Importing this package does not import torch. May import: `web`, `files`, `errors`.
"""

from clipig.encoders.names import model_names
from clipig.encoders.registry import load, resolve

__all__ = ["load", "model_names", "resolve"]
