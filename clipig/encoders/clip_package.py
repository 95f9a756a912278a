"""The one door to the `clip` package (clip-anytorch): its tokeniser, model classes, URLs.

clip-anytorch 2.6 begins with `from pkg_resources import packaging`, which newer
setuptools no longer ships. For the length of the import, and only where that
line would fail, a stand-in with the one function it calls is put in its place.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clipig.errors import EncoderError

_lock = threading.Lock()


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: `"2.6.0+cpu"` gives `(2, 6, 0)`."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _has_packaging() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return hasattr(importlib.import_module("pkg_resources"), "packaging")
        except Exception:  # whatever a half-installed pkg_resources throws
            return False


@contextmanager
def _pkg_resources_stand_in() -> Iterator[None]:
    before = sys.modules.get("pkg_resources")
    stand_in: Any = types.ModuleType("pkg_resources")
    stand_in.packaging = types.SimpleNamespace(version=types.SimpleNamespace(parse=parse_version))
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = before


def import_clip() -> Any:
    """The module `clip.clip` (`tokenize`, `_tokenizer`, `_MODELS`).

    Raises `EncoderError` when the package is missing or is another `clip`.
    """
    with _lock:
        loaded = sys.modules.get("clip.clip")
        if loaded is not None and hasattr(loaded, "tokenize"):
            return loaded
        try:
            if _has_packaging():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    module = importlib.import_module("clip.clip")
            else:
                with _pkg_resources_stand_in():
                    module = importlib.import_module("clip.clip")
        except ImportError as fault:
            raise EncoderError(
                f"the package clip-anytorch cannot be imported ({fault}): pip install clip-anytorch"
            ) from fault
        if not hasattr(module, "tokenize") or not hasattr(module, "_MODELS"):
            raise EncoderError(
                f"the installed `clip` package ({module.__file__}) is not OpenAI's: "
                "pip uninstall clip && pip install clip-anytorch"
            )
        return module


def import_clip_model() -> Any:
    """The module `clip.model` (the class `CLIP` and its parts)."""
    import_clip()
    return importlib.import_module("clip.model")
