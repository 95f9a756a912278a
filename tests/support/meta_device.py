"""A device without a device: torch's `meta` stands for a GPU, whose steps must not wait.

Tensors of `meta` have shapes and no numbers. What asks for a number (`item`, `bool`, `nonzero`)
fails there, as it would wait on a GPU; the mode here also refuses operations that mix
devices or carry tensors from one to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")


class Refused(Exception):
    """Something that a step on a device may not do."""


class Elsewhere(TorchDispatchMode):
    """Refuses operations that carry tensors between host and device, and work on the host.

    Numbers of the host (tensors without dimensions) may be used anywhere, as on a GPU.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = _devices((args, kwargs or {}))
        if len(given) > 1:
            raise Refused(f"{func} mixes {sorted(given)}")
        result = func(*args, **(kwargs or {}))
        found = _devices(result)
        if given and found and given != found:
            raise Refused(f"{func} carries from {sorted(given)} to {sorted(found)}")
        if "cpu" in found:
            raise Refused(f"{func} makes a tensor on the host")
        return result


def _devices(tree: Any) -> set[str]:
    tensors = [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
    return {x.device.type for x in tensors if x.ndim or x.device.type != "cpu"}


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is done inside may not wait for the device, nor send it anything."""
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Refused("a tensor is made of the host's numbers, which a device has to be sent")

    with ExitStack() as stack:
        for name in ("tensor", "as_tensor", "from_numpy"):
            stack.enter_context(mock.patch.object(torch, name, refuse))
        stack.enter_context(Elsewhere())
        yield
