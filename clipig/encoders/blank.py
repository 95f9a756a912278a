"""Networks without values: shapes only, to be filled from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _SkipInit(TorchFunctionMode):
    """Leaves out what `torch.nn.init` does.

    On the meta device it has nothing to fill, but imports torch's compiler, which
    takes as long as importing torch.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else options["tensor"]
        return func(*args, **options)


@contextmanager
def blank() -> Iterator[None]:
    """Modules made in here take no memory and no time."""
    with torch.device("meta"), _SkipInit():
        yield
