"""Counter-based random numbers.

Every value is a pure function of (seed of the run, stream, step, index). There is no state to
save, and a run draws the same values alone, in a batch of 512 or after a resume, on the CPU
and on a GPU. No function here waits for the device.

The generator hashes a counter: `mix(index * a + b)` with `a` odd and `b` both
derived from seed, stream and step. `mix` is the 32-bit finaliser with the
lowest known bias of its form (C. Wellons, "Prospecting for hash functions",
2018). Its quality suffices for image noise, not for cryptography or Monte Carlo.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_M1, _M2 = 0x7FEB352D, 0x846CA68B - (1 << 32)
_GOLDEN = 0x9E3779B1
_BLOCK = 1 << 16
"""Values computed at a time on a CPU; larger blocks leave its cache and halve the speed."""
BANK = 1 << 20
"""Number of normal values from which the noise of views is copied. Computing new noise takes 4 to
7 % of a step of method 1 for one run (embedded, bf16), 1 to 4 % for eight (docs/performance.md)."""


def _mix(x: Tensor) -> Tensor:
    """Hash int32 values in place. The masks turn arithmetic shifts into logical ones."""
    x ^= (x >> 16) & 0xFFFF
    x *= _M1
    x ^= (x >> 15) & 0x1FFFF
    x *= _M2
    x ^= (x >> 16) & 0xFFFF
    return x


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def _mix_int(x: int) -> int:
    """`_mix` of one integer on the host."""
    x &= 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * _M1) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * (_M2 & 0xFFFFFFFF)) & 0xFFFFFFFF
    return x ^ (x >> 16)


def stream_id(*path: object) -> int:
    """Hash a path in the plan, e.g. `("target", 0, "noise", 3)`, to a 32-bit stream number."""
    digest = hashlib.blake2b("/".join(map(str, path)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def derive_seed(seed: int, *path: object) -> int:
    """Derive a seed in 0 .. 2**63-1 from `seed` and a path, e.g. a run number."""
    digest = hashlib.blake2b(f"{seed}/{'/'.join(map(str, path))}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _by_row(numbers: Tensor, starts: Tensor, count: int) -> Tensor:
    """Copy `count` values from each start, as rows of a view with overlapping rows."""
    return numbers.unfold(0, count, 1).index_select(0, starts)


def _by_position(numbers: Tensor, starts: Tensor, count: int) -> Tensor:
    """As `_by_row`, for devices that would first materialize all rows of that view."""
    return numbers[starts[:, None] + torch.arange(count, device=starts.device)]


class Draw:
    """Random values of R runs. Methods return float32 tensors `[R, *shape]`.

    Args:
        seeds: One integer per run.
        device: Where the values are computed.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        rows = []
        for seed in seeds:
            digest = hashlib.blake2b(str(int(seed)).encode(), digest_size=8).digest()
            rows.append(
                [int.from_bytes(digest[i : i + 4], "little", signed=True) for i in (0, 4)]
            )
        self.keys = torch.tensor(rows, dtype=torch.int32, device=device)
        self.bank = _bank(self.keys.device)

    @classmethod
    def of_keys(cls, keys: Tensor, bank: Tensor) -> Draw:
        """A draw with the given keys `[R, 2]` int32 (rows of another draw's keys)."""
        draw = cls.__new__(cls)
        draw.keys, draw.bank = keys, bank
        return draw

    def at_steps(self, first: int, count: int) -> tuple[Draw, Tensor]:
        """Repeat this draw for several steps, as if there were `count` times as many runs.

        Args:
            first: First step.
            count: Number of steps.

        Returns:
            A draw with rows ordered by step, then by run, and the step of each row
            `[count * R, 1]`, to be passed to the methods as `step`.
        """
        steps = torch.arange(first, first + count, device=self.device)
        rows = steps.repeat_interleave(len(self.keys))[:, None]
        return Draw.of_keys(self.keys.repeat(count, 1), self.bank), rows

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def bits(self, stream: int, step: int | Tensor, count: int) -> Tensor:
        """Random int32 `[R, count]`, all 32 bits random. `step` may be a tensor on the device."""
        a, b = self._line(stream, step)
        return self._hashed(a, b, 0, count)

    def uniform(
        self, stream: int, step: int | Tensor, shape: Sequence[int],
        low: float = 0.0, high: float = 1.0,
    ) -> Tensor:
        """Uniform in [low, high) up to rounding, with 24 random bits each, `[R, *shape]`."""
        count = math.prod(shape)
        out = torch.empty(len(self.keys), count, device=self.device)
        a, b = self._line(stream, step)
        for start, end in self._blocks(count):
            bits = self._hashed(a, b, start, end).bitwise_right_shift_(8).bitwise_and_(0xFFFFFF)
            out[:, start:end].copy_(bits).mul_((high - low) / (1 << 24)).add_(low)
        return out.view(len(self.keys), *shape)

    def normal(self, stream: int, step: int | Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal `[R, *shape]`, by Box and Muller (1958).

        Radius and angle use 16 bits each, which bounds values by 4.9 standard deviations.
        Image noise needs no more, and it halves the cost.
        """
        count = math.prod(shape)
        half = (count + 1) // 2
        out = torch.empty(len(self.keys), 2 * half, device=self.device)
        a, b = self._line(stream, step)
        for start, end in self._blocks(half):
            bits = self._hashed(a, b, start, end)
            angle = (bits >> 16).to(torch.float32).mul_(math.pi / 32768)
            radius = bits.bitwise_and_(0xFFFF).to(torch.float32).add_(0.5).mul_(1 / 65536)
            radius.log_().mul_(-2).sqrt_()
            out[:, start:end] = angle.cos().mul_(radius)
            out[:, half + start : half + end] = angle.sin_().mul_(radius)
        return out[:, :count].reshape(len(self.keys), *shape)

    def noise(
        self, stream: int, step: int | Tensor, views: int, shape: Sequence[int]
    ) -> Tensor:
        """Standard normal `[R, views, *shape]`, copied from a bank of precomputed values.

        The slice of each view begins at a random position. Views thus share values, but hardly
        ever (for one in about 10^5 pairs) at the same pixel. If a view needs more than half
        the bank, new values are computed.
        """
        count = math.prod(shape)
        if not 0 < count <= BANK // 2:
            return self.normal(stream, step, (views, *shape))
        positions = BANK - count + 1
        starts = self.bits(stream, step, views).bitwise_and_(0x7FFFFFFF).remainder_(positions)
        copy = _by_position if starts.device.type == "mps" else _by_row
        copied = copy(self.bank, starts.reshape(-1), count)
        return copied.view(*starts.shape, *shape)

    def _line(self, stream: int, step: int | Tensor) -> tuple[Tensor, Tensor]:
        """Odd factor and offset of the counter, `[R, 1]` each."""
        salt: int | Tensor
        if isinstance(step, Tensor):  # a step that is counted on the device
            salt = _mix(step.to(torch.int32) * _signed(_GOLDEN) + _signed(stream))
        else:
            salt = _signed(_mix_int(step * _GOLDEN + stream))
        a = _mix(self.keys[:, :1] ^ salt)
        return a | 1, _mix(self.keys[:, 1:] + a)

    def _hashed(self, a: Tensor, b: Tensor, start: int, end: int) -> Tensor:
        index = torch.arange(start, end, dtype=torch.int32, device=self.device)
        return _mix(index * a + b)

    def _blocks(self, count: int) -> list[tuple[int, int]]:
        """Index ranges (start, end) that are computed at a time: they fit the CPU's cache."""
        size = count
        if self.device.type == "cpu":
            size = max(1024, _BLOCK // len(self.keys))
        return [(i, min(i + size, count)) for i in range(0, count, max(size, 1))]


class ViewDraw:
    """Random values `[R, N, *shape]` of one op in one step, for N views.

    Every call uses a new stream, so an op may draw several times.
    """

    def __init__(self, draw: Draw, stream: int, step: int | Tensor, views: int):
        self._draw, self._stream, self._step, self._views = draw, stream, step, views
        self._calls = 0

    def _next(self) -> int:
        self._calls += 1
        return (self._stream + self._calls * 0x85EBCA6B) & 0xFFFFFFFF

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform `[R, N, *shape]` in [low, high)."""
        return self._draw.uniform(self._next(), self._step, (self._views, *shape), low, high)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal `[R, N, *shape]` for images; see `Draw.noise`."""
        return self._draw.noise(self._next(), self._step, self._views, shape)


@functools.lru_cache(maxsize=8)
def _bank(device: torch.device) -> Tensor:
    """`BANK` standard normal values, identical on all machines up to rounding."""
    with torch.inference_mode(False):
        keys = torch.tensor([[1, 2]], dtype=torch.int32, device=device)
        return Draw.of_keys(keys, torch.empty(0)).normal(0, 0, (BANK,))[0]
