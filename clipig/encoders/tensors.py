"""The tensors of a checkpoint, compared with those that a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clipig.errors import EncoderError


def checked_tensors(
    state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], device: torch.device,
    ignored: frozenset[str],
) -> dict[str, Tensor]:
    """Pick the tensors that a model needs.

    Args:
        state: Those of a checkpoint, any float dtype, on the CPU.
        wanted: Names and shapes of what is needed.
        device: Where they go.
        ignored: Names that may be there and are not needed.

    Returns:
        The wanted tensors in float32.

    Raises:
        EncoderError: Tensors are missing, too many, misshapen or not finite.
    """
    optional = {key for key in wanted if key.endswith("num_batches_tracked")} | ignored
    missing = sorted(set(wanted) - set(state) - optional)
    if missing:
        raise EncoderError(_listing(len(missing), "missing", missing))
    unknown = sorted(key for key in set(state) - set(wanted) - optional if "attn_mask" not in key)
    if unknown:
        raise EncoderError(_listing(len(unknown), "too many", unknown))
    values = {}
    for key, shape in wanted.items():
        if key in optional:  # not used in eval mode
            values[key] = torch.zeros(shape, device=device)
            continue
        if tuple(state[key].shape) != shape:
            raise EncoderError(
                f"the tensor {key} has shape {list(state[key].shape)}, expected {list(shape)}"
            )
        if not state[key].is_floating_point():
            raise EncoderError(f"the tensor {key} holds {state[key].dtype}, expected floats")
        value = state[key].detach().to(torch.float32)
        if not torch.isfinite(value).all():  # asked on the host, not on the device
            raise EncoderError(f"the tensor {key} holds NaN or infinite values")
        values[key] = value.to(device)
    return values


def _listing(count: int, what: str, keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3]) + (", ..." if count > 3 else "")
    return f"{count} tensor{'s' if count > 1 else ''} {what}: {shown}"
