"""Image-text models behind one protocol (`protocol.Encoder`).

    info = resolve("auto")      # which model, its sizes; no weights loaded
    encoder = load(info, "cpu")

Importing this package does not import torch. May import: `web`, `files`, `errors`.
"""

from clipig.encoders.loading import load
from clipig.encoders.table import model_names, resolve

__all__ = ["load", "model_names", "resolve"]
