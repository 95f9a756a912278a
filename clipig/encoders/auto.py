"""What `auto` means on this machine, and why."""

from __future__ import annotations

from pathlib import Path

from clipig.encoders.discovery import FoundModel, discover
from clipig.encoders.hub import hub_is_offline
from clipig.encoders.known import FAMILIES
from clipig.encoders.names import FALLBACK, PREFERRED
from clipig.encoders.weights import why_unreachable
from clipig.web import OFFLINE


def choose(cache: Path | None = None, allow_download: bool = True) -> tuple[str, str]:
    """Choose the model that draws best of those that this machine has or can get.

    First what is on this disk and known to draw well (the order of `known.FAMILIES`), then
    the download of ViT-B/32, then any other CLIP on this disk, then the embedded model.

    Args:
        cache: Where clipig keeps downloads.
        allow_download: Whether a download may be counted on.

    Returns:
        Its name, and the reason as the end of a sentence.
    """
    here = [found for found in discover(cache) if not found.fault]
    known = [found for found in here if found.family is not None and found.family.tried]
    if known:
        best = min(known, key=_rank)
        family = best.family
        assert family is not None
        others = f", the best of {len(here)} models found" if len(here) > 1 else ""
        return best.name, (
            f"since its weights are in {best.folder}{others} ({family.title}: {family.reason})"
        )
    if not allow_download:
        why = "downloads are not allowed"
    elif hub_is_offline():
        why = OFFLINE
    else:
        fault = why_unreachable(PREFERRED)
        if fault is None:
            return PREFERRED, "since its weights can be downloaded"
        why = f"its download is out of reach ({fault})"
    if here:
        best = min(here, key=_rank)
        return best.name, f"since it is in {best.folder}, nothing better is here, and {why}"
    return FALLBACK, f"since no other model was found on this disk and {why}"


def _rank(found: FoundModel) -> tuple[int, int, str]:
    """Order of preference; of one family the smaller, which costs less time."""
    order = FAMILIES.index(found.family) if found.family else len(FAMILIES)
    return order, found.bytes, found.name
