"""Transforms that depend on a pixel's neighbours or on its position."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clipig.ops.base import Color, Kernel, Margin, Sigma, constant
from clipig.ops.kernels.sampling import Shape
from clipig.ops.transforms.base import Params, Pixelwise, color


def odd(size: Shape) -> Shape:
    """Return the kernel sizes in use: even sizes plus one, at least 1."""
    h, w = (max(1, k + 1 - k % 2) for k in size)
    return h, w


def gaussian(size: int, sigma: Tensor | None, like: Tensor) -> Tensor:
    """Compute the weights of a Gaussian filter.

    Args:
        size: Number of weights.
        sigma: Standard deviation in pixels, `[...]`. None: 0.3 * ((size - 1) / 2 - 1) + 0.8,
            as in OpenCV and torchvision, of shape `[1, 1]`.
        like: Gives device and dtype.

    Returns:
        `[..., size]`, of sum one.
    """
    if sigma is None:
        sigma = like.new_full((1, 1), 0.3 * ((size - 1) * 0.5 - 1) + 0.8)
    x = torch.arange(size, device=like.device, dtype=like.dtype) - (size - 1) / 2
    weights = torch.exp(-0.5 * (x / sigma.clamp(min=1e-4)[..., None]) ** 2)
    return weights / weights.sum(-1, keepdim=True)


def blurred(views: Tensor, kernel: Shape, sigma: Tensor | None, wrap: bool = False) -> Tensor:
    """Blur views with a Gaussian filter.

    Args:
        views: `[R, N, C, H, W]`.
        kernel: Height and width of the filter in pixels.
        sigma: Standard deviation in x and y, `[R|1, N|1, 2]`; None for the default.
        wrap: Continue at the opposite edge instead of reflecting at the edge.

    Returns:
        `[R, N, C, H, W]`.
    """
    height, width = odd(kernel)
    mode = "circular" if wrap else "reflect"
    flat = views.flatten(0, 1)
    if width > 1:
        weights = gaussian(width, None if sigma is None else sigma[..., 0], views)
        pad = (width // 2, width // 2, 0, 0)
        flat = _convolve(F.pad(flat, pad, mode=mode), weights, views.shape, vertical=False)
    if height > 1:
        weights = gaussian(height, None if sigma is None else sigma[..., -1], views)
        pad = (0, 0, height // 2, height // 2)
        flat = _convolve(F.pad(flat, pad, mode=mode), weights, views.shape, vertical=True)
    return flat.view(views.shape)


def _convolve(flat: Tensor, weights: Tensor, shape: torch.Size, vertical: bool) -> Tensor:
    """Filter `[R*N, C, H, W]` along one axis with weights `[R|1, N|1, k]`."""
    runs, views, channels = shape[:3]
    taps = (-1, 1) if vertical else (1, -1)
    if weights.shape[:2] == (1, 1):
        kernel = weights.view(1, 1, *taps).expand(channels, 1, -1, -1)
        return F.conv2d(flat, kernel, groups=channels)
    kernel = weights.expand(runs, views, -1).reshape(runs * views, 1, *taps)
    kernel = kernel.repeat_interleave(channels, 0)
    rows = F.conv2d(flat.flatten(0, 1)[None], kernel, groups=len(kernel))
    return rows[0].view(runs * views, channels, *rows.shape[2:])


def too_large(kernel: Shape, size: Shape) -> str | None:
    """Explain why a kernel does not fit an image; None if it does.

    Reflected edges need an image with more pixels than half of the kernel.
    """
    (h, w), (height, width) = odd(kernel), size
    if h // 2 < height and w // 2 < width:
        return None
    return (
        f"a kernel of {w}x{h} needs a picture of more than {w // 2}x{h // 2} pixels, "
        f"it is {width}x{height} here"
    )


class Blur(Pixelwise):
    """Gaussian blur with reflected edges.

    Example:
        - blur: {kernel_size: 5, sigma: 1.5}
    """

    name: ClassVar[str] = "blur"
    sole: ClassVar[str] = "kernel_size"

    kernel_size: Kernel = constant(3, 3, integer=True)
    """width and height in pixels; even sizes are made odd, below 1 means no blur"""
    sigma: Sigma | None = None
    """standard deviation in x and y; default 0.3 * ((kernel_size - 1) / 2 - 1) + 0.8"""

    def check(self, size: Shape, p: Params) -> str | None:
        return too_large(p.kernel_size, size)

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return blurred(views, p.kernel_size, p.sigma, getattr(p, "wrap", False))


class Edge(Pixelwise):
    """Show the edges: amount * abs(x - blur(x)).

    The original documented this formula, but its code crashed.

    Example:
        - edge: {kernel_size: 5, amount: 2}
    """

    name: ClassVar[str] = "edge"
    sole: ClassVar[str] = "kernel_size"

    kernel_size: Kernel = constant(3, 3, integer=True)
    """width and height of the blur in pixels"""
    sigma: Sigma | None = None
    """standard deviation of the blur in x and y"""
    amount: Color = constant(1.0, 1.0, 1.0)
    """factor for red, green and blue"""

    def check(self, size: Shape, p: Params) -> str | None:
        return too_large(p.kernel_size, size)

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        smooth = blurred(views, p.kernel_size, p.sigma, getattr(p, "wrap", False))
        return (views - smooth).abs() * color(p.amount)


class Border(Pixelwise):
    """Paint the outermost pixels.

    Example:
        - border: {size: 2, color: 1}
    """

    name: ClassVar[str] = "border"
    sole: ClassVar[str] = "size"

    size: Margin = constant(1, 1, integer=True)
    """columns left and right, rows above and below; 0 paints nothing"""
    color: Color = constant(0.0, 0.0, 0.0)
    """colour of the border"""

    def apply(self, views: Tensor, p: Params, drawn: tuple[Tensor, ...]) -> Tensor:
        return torch.where(frame(views, p.size), color(p.color), views)


def frame(views: Tensor, size: Shape) -> Tensor:
    """Mark the pixels of a border of `size` (rows, columns): `[H, W]` bool."""
    height, width = views.shape[-2:]
    y = torch.arange(height, device=views.device)
    x = torch.arange(width, device=views.device)
    rows = (y < size[0]) | (y >= height - size[0])
    columns = (x < size[1]) | (x >= width - size[1])
    return rows[:, None] | columns
