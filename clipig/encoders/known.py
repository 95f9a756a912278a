"""What is known of published models by their names: activation, licence, how well they draw.

Names are those of repositories and files. The order of `FAMILIES` is the order in which
`auto` prefers what it finds; the reasons are from the literature, or measured where it says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clipig.encoders.architecture import Activation
from clipig.files import file_sha256


@dataclass(frozen=True)
class Family:
    """Models of one training.

    Attributes:
        title: Its name.
        pattern: Found in names of repositories, folders and files of it, in lower case.
        licence: Of the weights, `""` where unknown.
        reason: Why it is preferred to those below it.
        tried: Whether models of it are known, from public work, to draw.
    """

    title: str
    pattern: str
    licence: str
    reason: str
    tried: bool = True

    def fits(self, text: str) -> bool:
        """Whether a name is one of this family's."""
        found = re.search(self.pattern, text.lower()) is not None
        return found and not (
            self.title.startswith("OpenAI") and re.search(_OTHER_DATA, text.lower())
        )


_OTHER_DATA = r"laion|datacomp|dfn|meta|siglip|mobile|commonpool|eva|pe-core|clipa|vitamin"

FAMILIES = (
    Family(
        "FARE, TeCoA, LEAF", r"fare\d|tecoa\d|leaf-clip", "MIT",
        "trained against adversarial changes of pixels, so gradients to pixels follow shapes",
    ),
    Family(
        "OpenAI CLIP ViT-B/16", r"vit[-_]?b(ase)?[-_/]?(patch)?16", "MIT",
        "finer patches than ViT-B/32 at three times its cost",
    ),
    Family(
        "OpenAI CLIP ViT-B/32", r"vit[-_]?b(ase)?[-_/]?(patch)?32",
        "MIT", "the model that the recipes were made for, and the fastest of the large ones",
    ),
    Family(
        "OpenAI CLIP ViT-L/14", r"vit[-_]?l(arge)?[-_/]?(patch)?14",
        "MIT", "understands more, at twelve times the cost of ViT-B/32",
    ),
    Family("OpenAI CLIP ResNet", r"\brn\d+|resnet\d+.*clip", "MIT",
           "convolutions draw textures rather than shapes"),
    Family("MetaCLIP", r"metaclip", "CC-BY-NC-4.0", "trained like OpenAI's on open data"),
    Family("DataComp", r"datacomp|commonpool", "MIT", "trained on filtered open data"),
    Family("DFN", r"\bdfn\d?", "Apple", "trained on filtered open data"),
    Family("LAION", r"laion", "MIT", "trained on unfiltered open data"),
    Family("SigLIP 2", r"siglip2|siglip-2", "Apache-2.0",
           "a sigmoid loss; as a guide not tried here", False),
    Family("SigLIP", r"siglip", "Apache-2.0", "a sigmoid loss; as a guide not tried here", False),
    Family("EVA", r"\beva\d", "MIT", "as a guide not tried here", False),
    Family("PE-Core", r"pe-core", "Apache-2.0", "as a guide not tried here", False),
    Family("MobileCLIP", r"mobileclip", "Apple", "fast; as a guide not tried here", False),
)

# The file names that open_clip publishes end in the first eight digits of their sha256.
_NAMED = re.compile(r"-([0-9a-f]{8})\.pth?$")
_BY_CHECKSUM: dict[str, Activation] = {
    "455df137": "quick_gelu", "f000538c": "quick_gelu", "3e04b30e": "quick_gelu",
    "d867053b": "quick_gelu", "46683a32": "quick_gelu",
    "af8dbd0c": "gelu", "00efa78f": "gelu", "55e67d44": "gelu", "8fb26589": "gelu",
    "699c4b84": "gelu", "69988bb6": "gelu", "3d133497": "gelu",
}


def family_of(name: str) -> Family | None:
    """The first family that a name fits, or None."""
    return next((family for family in FAMILIES if family.fits(name)), None)


def known_activation(path: Path) -> Activation | None:
    """Return the activation of a published file, by the checksum in its name, which must be true.

    Args:
        path: A file of weights.

    Returns:
        The activation, None where the file is not known.
    """
    found = _NAMED.search(path.name)
    digits = found.group(1) if found else ""
    if digits not in _BY_CHECKSUM or not file_sha256(path).startswith(digits):
        return None
    return _BY_CHECKSUM[digits]
