"""Which arithmetic an encoder computes in: fp32, bf16 or fp16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipig.errors import EncoderError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16")


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16, AMX, ARM BF16)."""
    import torch

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
    """What `precision: auto` means on a device: `"fp32"`, `"bf16"` or `"fp16"`.

    CPU: bf16 where the processor has it, else fp32. CUDA: bf16 from Ampere on,
    else fp16 (bf16 is emulated there). Everything else: fp32.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    if kind == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8 or torch.version.hip is not None
        return "bf16" if native and torch.cuda.is_bf16_supported() else "fp16"
    return "fp32"


def to_dtype(precision: str) -> torch.dtype:
    """The torch dtype of a precision's name; `EncoderError` for another name."""
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise EncoderError(f"unknown precision {precision!r}, allowed: {', '.join(PRECISIONS)}")
    return dtypes[precision]
