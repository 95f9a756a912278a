"""The table of canvases."""

from __future__ import annotations

from clipig.canvases.base import Canvas, CanvasSpec, Picture
from clipig.canvases.fourier import Fourier
from clipig.canvases.layers import Layers
from clipig.canvases.palette import Palette
from clipig.canvases.pixels import Pixels
from clipig.canvases.pyramid import Pyramid
from clipig.canvases.siren import Siren

_CLASSES: tuple[type[CanvasSpec], ...] = (Pixels, Pyramid, Fourier, Siren, Layers, Palette)

CANVASES: dict[str, type[CanvasSpec]] = {c.name: c for c in _CLASSES}
"""Every canvas by its YAML key."""

__all__ = ["CANVASES", "Canvas", "CanvasSpec", "Picture"]
