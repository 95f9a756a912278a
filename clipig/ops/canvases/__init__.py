"""The table of canvases."""

from __future__ import annotations

from clipig.ops.canvases.base import Canvas, CanvasSpec, Picture
from clipig.ops.canvases.fourier import Fourier
from clipig.ops.canvases.layers import Layers
from clipig.ops.canvases.palette import Palette
from clipig.ops.canvases.pixels import Pixels
from clipig.ops.canvases.pyramid import Pyramid
from clipig.ops.canvases.siren import Siren

_CLASSES: tuple[type[CanvasSpec], ...] = (Pixels, Pyramid, Fourier, Siren, Layers, Palette)

CANVASES: dict[str, type[CanvasSpec]] = {c.name: c for c in _CLASSES}
"""Every canvas by its YAML key."""

__all__ = ["CANVASES", "Canvas", "CanvasSpec", "Picture"]
