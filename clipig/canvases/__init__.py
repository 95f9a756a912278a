"""The table of canvases."""

from __future__ import annotations

from clipig.canvases.base import Canvas, CanvasSpec, Picture
from clipig.canvases.pixels import Pixels
from clipig.canvases.pyramid import Pyramid

_CLASSES: tuple[type[CanvasSpec], ...] = (Pixels, Pyramid)

CANVASES: dict[str, type[CanvasSpec]] = {c.name: c for c in _CLASSES}
"""Every canvas by its YAML key."""

__all__ = ["CANVASES", "Canvas", "CanvasSpec", "Picture"]
