"""The table of constraints, in the order measured values, comparisons, natural images, style."""

from __future__ import annotations

from clipig.ops.constraints import compared, measured, natural, style
from clipig.ops.constraints.base import Bounded, Constraint

_CLASSES: tuple[type[Constraint], ...] = (
    measured.MeanConstraint, measured.StdConstraint, measured.SaturationConstraint,
    measured.EdgeMeanConstraint, measured.ContrastConstraint,
    compared.BlurConstraint, compared.BorderConstraint, compared.NormalizeConstraint,
    compared.NoiseConstraint, compared.TotalVariation, compared.Gray,
    natural.Spectrum, natural.PaletteColors, natural.GrayWorld,
    style.Style,
)

CONSTRAINTS: dict[str, type[Constraint]] = {c.name: c for c in _CLASSES}
"""Every constraint by its YAML key."""

__all__ = ["CONSTRAINTS", "Bounded", "Constraint"]
