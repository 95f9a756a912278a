"""The table of view transforms, in the order colours, noise, filters, geometry."""

from __future__ import annotations

from clipig.ops.transforms import color, cutting, filters, geometry, noise
from clipig.ops.transforms.base import Geometry, Pixelwise, Transform

_CLASSES: tuple[type[Transform], ...] = (
    color.Add, color.Mul, color.Mean, color.Clamp, color.Quantize, color.Saturation,
    color.Contrast, color.RandomContrast, color.ColorJitter,
    noise.Noise, noise.BwNoise, noise.UniformNoise, noise.RNoise, noise.FNoise,
    noise.RandomErase,
    filters.Blur, filters.Edge, filters.Border,
    geometry.Rotate, geometry.RandomRotate, geometry.RandomScale, geometry.RandomTranslate,
    geometry.Shift, geometry.RandomShift, geometry.RandomFlip, geometry.RandomPerspective,
    cutting.Resize, cutting.CenterCrop, cutting.RandomCrop, cutting.Crop, cutting.Cutouts,
    cutting.Repeat, cutting.Pad,
)

TRANSFORMS: dict[str, type[Transform]] = {c.name: c for c in _CLASSES}
"""Every view transform by its YAML key."""

RESIZING = frozenset({"resize", "center_crop", "random_crop", "crop", "cutouts", "repeat", "pad"})
"""Transforms that change the size and therefore cannot edit the canvas (postproc)."""

__all__ = ["RESIZING", "TRANSFORMS", "Geometry", "Pixelwise", "Transform"]
