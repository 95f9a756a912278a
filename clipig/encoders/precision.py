"""The arithmetic of an encoder: fp32, bf16 or fp16, and gradients that survive fp16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clipig.errors import EncoderError

PRECISIONS = ("fp32", "bf16", "fp16")


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16, AMX, ARM BF16)."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
    except (AttributeError, RuntimeError):  # torch built without oneDNN
        return False
    # oneDNN also says yes where it must emulate; there bf16 is slower than fp32.
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported"):
        asks = getattr(torch.cpu, name, None)
        if asks is not None and asks():
            return True
    return False


def pick_precision(device: str | torch.device) -> str:
    """Return what `precision: auto` means on a device.

    CPU: bf16 where the processor has it, else fp32. CUDA: bf16 from Ampere on,
    else fp16 (bf16 is emulated there). Every other device: fp32.

    Args:
        device: A device or its name.

    Returns:
        `"fp32"`, `"bf16"` or `"fp16"`.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    if kind == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8 or torch.version.hip is not None
        return "bf16" if native and torch.cuda.is_bf16_supported() else "fp16"
    return "fp32"


def to_dtype(precision: str) -> torch.dtype:
    """Return the torch dtype of a precision.

    Args:
        precision: One of `PRECISIONS`.

    Returns:
        The dtype.

    Raises:
        EncoderError: The name is not one of `PRECISIONS`.
    """
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise EncoderError(f"unknown precision {precision!r}, allowed: {', '.join(PRECISIONS)}")
    return dtypes[precision]


class _Enlarge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, owner: GradientScale, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.owner = owner
        return tuple(x.view_as(x) for x in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        each = [g.detach().abs().flatten(1).amax(dim=1) for g in grads]
        largest = torch.stack(each).amax(dim=0).clamp(min=1e-30)
        factor = torch.exp2(-torch.log2(largest).floor())
        ctx.owner.factor = factor
        return (None, *(g * factor.view(-1, *(1,) * (g.ndim - 1)) for g in grads))


class _Restore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor, owner: GradientScale) -> Tensor:
        ctx.owner = owner
        return views.view_as(views)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad / ctx.owner.factor.view(-1, 1, 1, 1), None


class GradientScale:
    """Keeps gradients inside the range of float16 on their way back through a tower.

    float16 holds values down to 6e-8 only; the gradient of a cosine with respect
    to an activation is often smaller and would vanish. Between the two ends of the
    tower it is multiplied, per view, by a power of two that brings its largest
    value near one, and divided by the same at the input. This is exact, since the
    backward pass is linear, and works per view, so that neighbours in the batch do
    not matter. Several outputs (an embedding and early maps) share the factor.

    One object serves one forward and backward pass: `restore` at the input,
    `enlarge` at the outputs. Without `active` (bf16, fp32) both do nothing.
    """

    factor: Tensor

    def __init__(self, active: bool = True):
        self._active = active

    def enlarge(self, *outputs: Tensor) -> tuple[Tensor, ...]:
        """Identity on all outputs `[B, ...]`; its backward multiplies their gradients per row."""
        if not self._active:
            return outputs
        out: tuple[Tensor, ...] = _Enlarge.apply(self, *outputs)
        return out

    def restore(self, views: Tensor) -> Tensor:
        """Identity; its backward divides the gradient `[B, 3, H, W]` again."""
        if not self._active:
            return views
        out: Tensor = _Restore.apply(views, self)
        return out
