"""The original's formulas in numpy and scipy, written from its documentation alone.

Nothing here imports clipig or torch: what is worked out here is what clipig is held to.
A picture is `[3, H, W]` of float64. Where clipig decided to differ from the original (see
`docs/deviations.md`) the formula is that of the decision, and its docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Array = npt.NDArray[np.float64]
LUMA = np.array([0.2989, 0.587, 0.114])


def per_channel(color: float | Sequence[float]) -> Array:
    """One number or three as `[3, 1, 1]`."""
    return np.broadcast_to(np.asarray(color, dtype=float), (3,)).reshape(3, 1, 1)


def luma(x: Array) -> Array:
    """Brightness `[H, W]`."""
    return np.einsum("c,chw->hw", LUMA, x)


# -- transforms -----------------------------------------------------------------------------------


def mean(x: Array, value: float | Sequence[float]) -> Array:
    """A shift of each channel to the given mean."""
    return x + per_channel(value) - x.mean((1, 2), keepdims=True)


def quantize(x: Array, step: float | Sequence[float]) -> Array:
    """Down to the next multiple of the step."""
    return np.floor(x / per_channel(step)) * per_channel(step)


def saturation(x: Array, factor: float) -> Array:
    """A blend with the brightness of each pixel, limited to 0..1."""
    return np.clip(factor * x + (1 - factor) * luma(x), 0, 1)


def contrast(x: Array, factor: float) -> Array:
    """A blend with the mean brightness, limited to 0..1."""
    return np.clip(factor * x + (1 - factor) * luma(x).mean(), 0, 1)


def kernel(size: int, sigma: float | None) -> Array:
    """Gaussian weights; even sizes grow by one, below 1 is 1; sigma is at least 1e-4."""
    size = max(1, size + 1 - size % 2)
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8 if sigma is None else max(sigma, 1e-4)
    away = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (away / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def blur(
    x: Array, size: tuple[int, int], sigma: tuple[float, float] | None = None
) -> Array:
    """Gaussian blur, `size` and `sigma` for (x, y), edges reflected without doubling."""
    across, down = (
        kernel(size[axis], None if sigma is None else sigma[axis]) for axis in (0, 1)
    )
    out = scipy.ndimage.correlate1d(x, across, axis=2, mode="mirror")
    return np.asarray(scipy.ndimage.correlate1d(out, down, axis=1, mode="mirror"))


def edge(
    x: Array, size: tuple[int, int], amount: float | Sequence[float] = 1.0,
    sigma: tuple[float, float] | None = None,
) -> Array:
    """What the original documented (its code crashed): amount * abs(x - blur(x))."""
    return per_channel(amount) * np.abs(x - blur(x, size, sigma))


def border(x: Array, size: tuple[int, int], color: float | Sequence[float]) -> Array:
    """`size` (columns, rows) painted on all sides; 0 paints nothing (it crashed)."""
    out, (across, down) = x.copy(), size
    height, width = x.shape[1:]
    y, z = np.mgrid[:height, :width]
    inside = (z >= across) & (z < width - across) & (y >= down) & (y < height - down)
    out[:, ~inside] = per_channel(color)[:, 0]
    return out


def sampled(x: Array, rows: Array, columns: Array, mode: str) -> Array:
    """Bilinear samples at pixel indices (0 is the centre of the first pixel)."""
    return np.stack([
        scipy.ndimage.map_coordinates(c, [rows, columns], order=1, mode=mode, cval=0.0) for c in x
    ])


def rotate(x: Array, degree: float, center: tuple[float, float] = (0.5, 0.5)) -> Array:
    """Counter-clockwise about a point in fractions of (width, height), black outside.

    Bilinear about the exact point; the original took the nearest pixel about a whole one.
    """
    height, width = x.shape[1:]
    y, z = np.mgrid[:height, :width] + 0.5
    cx, cy = center[0] * width, center[1] * height
    turn = np.deg2rad(degree)
    across = cx + (z - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
    down = cy + (z - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
    return sampled(x, down - 0.5, across - 0.5, "grid-constant")


def zoom(x: Array, factor: float) -> Array:
    """About the centre, size kept; bilinear (the original: nearest pixel)."""
    height, width = x.shape[1:]
    y, z = np.mgrid[:height, :width] + 0.5
    across = width / 2 + (z - width / 2) / factor
    down = height / 2 + (y - height / 2) / factor
    return sampled(x, down - 0.5, across - 0.5, "grid-constant")


def pixels(value: float, extent: int) -> int:
    """Between -1 and 1 a fraction of the extent, else pixels; cut off towards 0."""
    return int(value * extent) if abs(value) < 1 else int(value)


def shift(x: Array, offset: tuple[float, float]) -> Array:
    """Rolled right and down."""
    height, width = x.shape[1:]
    right, down = pixels(offset[0], width), pixels(offset[1], height)
    return np.roll(x, (down, right), (1, 2))


def crop(x: Array, box: tuple[float, float, float, float]) -> Array:
    """x, y, width, height, black outside."""
    height, width = x.shape[1:]
    left, top = pixels(box[0], width), pixels(box[1], height)
    w, h = pixels(box[2], width), pixels(box[3], height)
    return window(x, left, top, w, h)


def window(x: Array, left: int, top: int, width: int, height: int) -> Array:
    """A piece that may reach beyond the picture, where it is black."""
    out = np.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            y, z = top + row, left + column
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[:, row, column] = x[:, y, z]
    return out


def center_crop(x: Array, size: tuple[int, int]) -> Array:
    """(width, height) from the middle; the original swapped the two."""
    height, width = x.shape[1:]

    def begin(extent: int, wanted: int) -> int:
        return -((wanted - extent) // 2) if wanted > extent else round((extent - wanted) / 2)

    return window(x, begin(width, size[0]), begin(height, size[1]), size[0], size[1])


def repeat(x: Array, count: tuple[int, int]) -> Array:
    """Tiled (nx, ny) times."""
    return np.tile(x, (1, count[1], count[0]))


def pad(
    x: Array, size: tuple[int, int], mode: str = "fill", color: float | Sequence[float] = 0.0
) -> Array:
    """`size` (x, y) pixels on both sides."""
    widths = ((0, 0), (size[1],) * 2, (size[0],) * 2)
    if mode != "fill":
        return np.pad(x, widths, mode="edge" if mode == "edge" else "wrap")
    out = per_channel(color) * np.ones((3, x.shape[1] + 2 * size[1], x.shape[2] + 2 * size[0]))
    out[:, size[1] : size[1] + x.shape[1], size[0] : size[0] + x.shape[2]] = x
    return out


def triangle(extent: int, out: int) -> Array:
    """The antialiased bilinear filter `[out, extent]`; no antialiasing where it grows.

    The original of 2021 had none where it shrank; torchvision of today has.
    """
    scale = extent / out
    support = max(scale, 1.0)
    centers = (np.arange(out) + 0.5) * scale
    away = np.abs(np.arange(extent) + 0.5 - centers[:, None])
    weights = np.clip(1 - away / support, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def resize(x: Array, size: tuple[int, int]) -> Array:
    """To (width, height), bilinear."""
    down, across = triangle(x.shape[1], size[1]), triangle(x.shape[2], size[0])
    return np.einsum("yh,chw,xw->cyx", down, x, across)


# -- noise: what it adds, in the mean over many views ---------------------------------------------


def enlarged_deviation(small: tuple[int, int], size: tuple[int, int]) -> float:
    """Deviation of white noise of deviation 1 at `small` (w, h), enlarged to `size` (w, h)."""
    across, down = triangle(small[0], size[0]), triangle(small[1], size[1])
    power = np.square(down).sum(1)[:, None] * np.square(across).sum(1)[None]
    return float(np.sqrt(power.mean()))


def spectral_deviation(count: int) -> float:
    """Deviation in pixels of 15 * N(0, 1) in real and imaginary parts of a row of `count`."""
    ends = 2 if count % 2 == 0 else 1  # frequencies that have no imaginary part
    pairs = (count - ends) // 2
    return 15 * float(np.sqrt(ends + 4 * pairs)) / count


# -- constraints: D(x), K included, weight 1 ------------------------------------------------------


def distance(difference: Array, loss: str) -> float:
    """Mean square (l2, mse) or mean absolute difference (l1, mae)."""
    size = np.abs(difference) if loss in ("l1", "mae") else np.square(difference)
    return float(size.mean())


def bounds(
    value: Array, above: float | Sequence[float] | None, below: float | Sequence[float] | None,
    loss: str = "l2",
) -> float:
    """One-sided, as documented; the last version of the original pulled from both sides."""
    total = 0.0
    if above is not None:
        total += distance(np.clip(per_channel(above).reshape(3) - value, 0, None), loss)
    if below is not None:
        total += distance(np.clip(value - per_channel(below).reshape(3), 0, None), loss)
    return total


MEASURED: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "mean": (100.0, lambda x: x.mean((1, 2))),
    "std": (100.0, lambda x: x.reshape(3, -1).std(1, ddof=1)),
    "saturation": (100.0, lambda x: np.abs(x - x.mean(0)).mean((1, 2))),
    "edge_mean": (100.0, lambda x: np.abs(blur(x, (3, 3)) - x).mean((1, 2))),
    "contrast": (1.0, lambda x: np.array([_contrast(c) for c in x])),
}
"""K and the value of each channel that `above` and `below` are about."""


def _contrast(channel: Array) -> float:
    """Mean of the pixels above the mean less that of those below; a flat channel has none."""
    middle = channel.mean()
    bright, dark = channel[channel > middle + 1e-12], channel[channel < middle - 1e-12]
    return float(bright.mean() - dark.mean()) if bright.size and dark.size else 0.0


def normalized(x: Array, low: float, high: float) -> Array:
    """Each channel stretched to low..high."""
    least, most = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    return np.asarray(low + (x - least) / (most - least) * (high - low))


def slope(function: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    """The gradient of a number by a picture or vector, by central differences."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        more, less = x.copy(), x.copy()
        more[index] += step
        less[index] -= step
        out[index] = (function(more) - function(less)) / (2 * step)
    return out


# -- losses of features ---------------------------------------------------------------------------


def unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def feature_loss(view: Array, feature: Array, kind: str) -> float:
    """Between unit vectors: 1 - cos, 100 * mean abs, 100 * mean square."""
    if kind == "cosine":
        return float(1 - view @ feature)
    return 100 * distance(view - feature, kind)


# -- optimizers: one step of each, on any number of parameters ------------------------------------


class Adam:
    """Kingma and Ba, 2015, algorithm 1; learnrate 1 is 0.01."""

    base = 0.01

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.m: Array | float = 0.0
        self.v: Array | float = 0.0
        self.n = 0

    def step(self, g: Array, rate: float) -> Array:
        self.n += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m, v = self.m / (1 - self.b1**self.n), self.v / (1 - self.b2**self.n)
        return np.asarray(-rate * m / (np.sqrt(v) + self.eps))


class SGD:
    """Plain descent; learnrate 1 is 10."""

    base = 10.0

    def step(self, g: Array, rate: float) -> Array:
        return -rate * g


class RMSprop:
    """Graves, 2013, eqs. 38 to 42 (centred; learnrate 1 is 0.003), as torch writes it.

    The mean square is centred, the momentum is of the scaled gradient, and eps stands
    outside the root.
    """

    base = 0.003

    def __init__(self, alpha: float = 0.99, momentum: float = 0.1, centered: bool = True):
        self.alpha, self.momentum, self.centered = alpha, momentum, centered
        self.square: Array | float = 0.0
        self.mean: Array | float = 0.0
        self.buffer: Array | float = 0.0

    def step(self, g: Array, rate: float) -> Array:
        self.square = self.alpha * self.square + (1 - self.alpha) * g**2
        spread = self.square
        if self.centered:
            self.mean = self.alpha * self.mean + (1 - self.alpha) * g
            spread = self.square - self.mean**2
        scaled = g / (np.sqrt(spread) + 1e-8)
        self.buffer = self.momentum * self.buffer + scaled
        return np.asarray(-rate * (self.buffer if self.momentum else scaled))


class Adadelta:
    """Zeiler, 2012, algorithm 1, times the rate; learnrate 1 is 20."""

    base = 20.0

    def __init__(self, rho: float = 0.9, eps: float = 1e-6):
        self.rho, self.eps = rho, eps
        self.square: Array | float = 0.0
        self.moved: Array | float = 0.0

    def step(self, g: Array, rate: float) -> Array:
        self.square = self.rho * self.square + (1 - self.rho) * g**2
        step = np.sqrt(self.moved + self.eps) / np.sqrt(self.square + self.eps) * g
        self.moved = self.rho * self.moved + (1 - self.rho) * step**2
        return np.asarray(-rate * step)


# -- time -----------------------------------------------------------------------------------------


def moment(epoch: int, epochs: int) -> float:
    """t: 0 at the first epoch, 1 at the last."""
    return epoch / max(1, epochs - 1)


def time_step(t: float, a: float, b: float) -> float:
    """0 before a, linear, 1 after b; a > b falls from 1 to 0; a == b is a step."""
    if a > b:
        return 1 - time_step(t, b, a)
    if a == b:
        return float(t >= a)
    return float(np.clip((t - a) / (b - a), 0, 1))


def between(first: float, last: float, share: float) -> float:
    """Evenly from the first value to the last."""
    return first + (last - first) * share


def annealed(first: float, last: float, share: float) -> float:
    """Along half a cosine (Loshchilov and Hutter, 2017, eq. 5)."""
    return last + (first - last) * (1 + float(np.cos(np.pi * share))) / 2


def is_active(epoch: int, epochs: int, start: int | float, end: int | float) -> bool:
    """Both ends included; a whole number is an epoch, a real one a part of the run."""

    def now(moment_: int | float) -> float:
        return epoch if isinstance(moment_, int) else moment(epoch, epochs)

    return start <= now(start) and now(end) <= end
