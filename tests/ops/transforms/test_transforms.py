"""Every transform against an independent reference, and the contract of all of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image, ImageOps
from torch import Tensor

from clipig.ops.kernels.resizing import reduction_gain
from clipig.ops.transforms import RESIZING, TRANSFORMS, Geometry, Pixelwise, Transform
from clipig.ops.transforms.chain import Chain, ChainError
from clipig.rng import Draw, ViewDraw
from tests.support.ops_contract import SEEDS, one_run, params, picture, subclasses, view_draw

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "add": [{"value": [0.1, 0, -0.2]}],
    "mul": [{"factor": "1/2"}, {"factor": [0.5, 1, 2]}],
    "mean": [{"value": [0.2, 0.5, 0.7]}],
    "clamp": [{"range": [0.3, 0.6]}],
    "quantize": [{"step": 0.25}],
    "saturation": [{"factor": 1.5}, {"factor": 0}],
    "contrast": [{"factor": 0.5}, {"factor": 2}],
    "random_contrast": [{"factor": [0.4, 1]}],
    "color_jitter": [{}],
    "noise": [{"std": [0.1, 0.2, 0.3]}],
    "bwnoise": [{"std": 0.1}],
    "uniform_noise": [{"std": 0.1}],
    "rnoise": [{"std": 0.1, "resolution": [6, 9]}],
    "fnoise": [{"std": 2}],
    "random_erase": [{"probability": 1}],
    "blur": [{"kernel_size": 5}, {"kernel_size": [3, 6], "sigma": [1, 2]}],
    "edge": [{"kernel_size": 5, "amount": [1, 2, 3]}],
    "border": [{"size": [2, 3], "color": 1}, {"size": 0}],
    "rotate": [{"degree": 30}, {"degree": -75, "center": [0.2, 0.9]}],
    "random_rotate": [{"degree": [-30, 30], "center": [0, 1]}],
    "random_scale": [{"scale": [0.5, 1.5]}],
    "random_translate": [{"offset": 0.2}],
    "shift": [{"offset": [0.25, -3]}],
    "random_shift": [{"offset": [-0.2, 0.2]}, {"offset": [1, 9, -9, -1]}],
    "random_flip": [{}],
    "random_perspective": [{}, {"amount": 0.9}],
    "resize": [{"size": [10, 15]}, {"size": [40, 7]}],
    "center_crop": [{"size": [10, 15]}],
    "random_crop": [{"size": [10, 15]}],
    "crop": [{"box": [0.25, 0.25, 0.5, 0.5]}, {"box": [-2, 3, 30, 9]}],
    "repeat": [{"count": [2, 3]}],
    "pad": [{"size": [3, 4], "mode": m, "color": 0.7} for m in ("fill", "edge", "wrap")],
    "cutouts": [{"size": [12, 10]}, {"scale": [0.2, 2], "overscan": 0.3, "size": 8}],
}
SIZE = (18, 22)
CASES = [(name, kwargs) for name, many in EXAMPLES.items() for kwargs in many]


def once(
    op: Transform, source: Tensor, draw: ViewDraw | None = None, p: Any = None, views: int = 1
) -> Tensor:
    """One transform of `[R, 3, H, W]` alone: `[R, N, 3, h, w]`."""
    p = params(op, source.device) if p is None else p
    size = (source.shape[-2], source.shape[-1])
    draw = view_draw(SEEDS[: len(source)], views) if draw is None else draw
    chain = Chain.arrange([op], [p], size, op.out_size(size, p))
    return chain.run(source, [p], [draw], views)


def make(name: str, **fields: Any) -> Transform:
    return TRANSFORMS[name](**fields)


def shown(name: str, source: Tensor, **fields: Any) -> Tensor:
    """A transform of one picture `[3, H, W]`: `[3, h, w]`."""
    return once(make(name, **fields), source[None])[0, 0]


@pytest.fixture(scope="module")
def pic() -> Tensor:
    return torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))


def close(a: Tensor | np.ndarray, b: Tensor | np.ndarray, tolerance: float = 1e-5) -> None:
    a, b = (torch.tensor(np.asarray(v), dtype=torch.float32) for v in (a, b))
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# ------------------------------------------------------------------ the tables


def test_every_class_is_in_the_table() -> None:
    assert len(TRANSFORMS) >= 33
    assert {c for c in subclasses(Transform) if c.__module__.startswith("clipig.")} == set(
        TRANSFORMS.values()
    )
    assert all(name == cls.name for name, cls in TRANSFORMS.items())
    assert set(EXAMPLES) == set(TRANSFORMS)


def test_resizing_is_what_can_change_the_size() -> None:
    changing = {n for n, c in TRANSFORMS.items() if c.out_size is not Transform.out_size}
    assert changing == RESIZING


# ----------------------------------------------------------- colours, by NumPy


def test_add_mul_mean_clamp_quantize(pic: Tensor) -> None:
    x = pic.numpy().astype(np.float64)
    color = np.array([0.1, 0, -0.2])[:, None, None]
    close(shown("add", pic, value=[0.1, 0, -0.2]), x + color)
    close(shown("mul", pic, factor=[0.1, 0, -0.2]), x * color)
    close(shown("mean", pic, value=[0.1, 0, -0.2]), x - x.mean((1, 2), keepdims=True) + color)
    close(shown("clamp", pic, range=[0.3, 0.6]), np.clip(x, 0.3, 0.6))
    close(shown("quantize", pic, step=0.25), np.floor(x / 0.25) * 0.25)


@pytest.mark.parametrize("factor", [0, 0.3, 1, 2.5])
def test_saturation_and_contrast_as_torchvision(pic: Tensor, factor: float) -> None:
    close(shown("saturation", pic, factor=factor), tv.adjust_saturation(pic, factor))
    close(shown("contrast", pic, factor=factor), tv.adjust_contrast(pic, factor))


def test_random_contrast_scales_about_the_center(pic: Tensor) -> None:
    views = once(make("random_contrast", factor=[0.4, 1], center=0.3), pic[None], views=200)[0]
    factor = (views - 0.3) / (pic - 0.3)
    assert factor.flatten(1).std(1).max() < 1e-3
    factor = factor.flatten(1).median(1).values
    assert factor.min() >= 0.4
    assert factor.max() <= 1
    assert abs(factor.mean() - 0.7) < 0.04


def test_color_jitter_by_hand(pic: Tensor) -> None:
    op = make("color_jitter", brightness=0.1, contrast=0.2, saturation=0.3)
    p = params(op)
    u = torch.tensor([0.5, -0.5, 0.25])
    x = pic.numpy()
    gray = np.einsum("c,chw->hw", [0.2989, 0.587, 0.114], x)
    vivid = gray + (x - gray) * (1 + 0.25 * 0.3)
    expected = gray.mean() + (vivid - gray.mean()) * (1 - 0.5 * 0.2) + 0.5 * 0.1
    close(op.apply(pic[None, None], p, (u.view(1, 1, 3),))[0, 0], expected)


def test_straight_through_gradient_of_quantize(pic: Tensor) -> None:
    x = pic.clone().requires_grad_(True)
    shown("quantize", x, step=0.25).sum().backward()
    close(x.grad, torch.ones_like(pic))


# ------------------------------------------------------- filters, borders


@pytest.mark.parametrize(
    ("kernel", "sigma"), [((3, 3), None), ((5, 3), None), ((3, 7), (0.6, 2.0)), ((1, 5), (1, 1))]
)
def test_blur_as_torchvision(pic: Tensor, kernel: Any, sigma: Any) -> None:
    expected = tv.gaussian_blur(pic, list(kernel), None if sigma is None else list(sigma))
    fields = {} if sigma is None else {"sigma": list(sigma)}
    close(shown("blur", pic, kernel_size=list(kernel), **fields), expected)


def test_blur_as_scipy(pic: Tensor) -> None:
    expected = scipy.ndimage.gaussian_filter(
        pic.numpy().astype(np.float64), (0, 2.0, 1.0), mode="mirror", radius=(0, 4, 4)
    )
    close(shown("blur", pic, kernel_size=9, sigma=[1, 2]), expected)


def test_even_kernels_grow_and_small_ones_do_nothing(pic: Tensor) -> None:
    close(shown("blur", pic, kernel_size=4), shown("blur", pic, kernel_size=5))
    close(shown("blur", pic, kernel_size=0), pic)
    close(shown("blur", pic, kernel_size=3, sigma=0), pic)


def test_blur_with_a_sigma_per_view(pic: Tensor) -> None:
    op = make("blur", kernel_size=5, sigma=1)
    p = params(op)
    p.sigma = torch.tensor([[1.0, 1.0], [2.0, 0.5]]).view(1, 2, 2)
    out = once(op, pic[None], p=p, views=2)[0]
    close(out[0], tv.gaussian_blur(pic, [5, 5], [1.0, 1.0]))
    close(out[1], tv.gaussian_blur(pic, [5, 5], [2.0, 0.5]))


def test_edge_formula(pic: Tensor) -> None:
    expected = (pic - tv.gaussian_blur(pic, [5, 5])).abs() * torch.tensor([1, 2, 3]).view(3, 1, 1)
    close(shown("edge", pic, kernel_size=5, amount=[1, 2, 3]), expected)


@pytest.mark.parametrize("width", [0, 1, 4, 11, 30])
@pytest.mark.parametrize("height", [0, 2, 9, 40])
def test_border_by_slices(pic: Tensor, width: int, height: int) -> None:
    expected = pic.numpy().copy()
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            if min(x, SIZE[1] - 1 - x) < width or min(y, SIZE[0] - 1 - y) < height:
                expected[:, y, x] = [0.1, 0.5, 0.9]
    close(shown("border", pic, size=[width, height], color=[0.1, 0.5, 0.9]), expected, 0)


def test_kernels_that_do_not_fit_are_refused() -> None:
    op = make("blur", kernel_size=[3, 40])
    with pytest.raises(ChainError, match="a kernel of 3x41 needs a picture of more than 1x20"):
        Chain.arrange([op], [params(op)], SIZE, SIZE)


# ------------------------------------------------------------------ noise


def spread(name: str, size: tuple[int, int] = (64, 64), **fields: Any) -> Tensor:
    """What a noise adds to a black picture: `[50, 3, H, W]`."""
    return once(make(name, **fields), torch.zeros(1, 3, *size), views=50)[0]


def test_noise_strengths() -> None:
    noise = spread("noise", std=[0.1, 0.2, 0.4])
    close(noise.std((0, 2, 3)), torch.tensor([0.1, 0.2, 0.4]), 2e-3)
    assert noise.mean().abs() < 1e-3
    assert np.abs(np.corrcoef(noise.transpose(0, 1).flatten(1).numpy()) - np.eye(3)).max() < 0.01
    bw = spread("bwnoise", std=0.1)
    assert torch.equal(bw[:, 0], bw[:, 1])
    assert abs(bw.std() - 0.1) < 1e-3
    uniform = spread("uniform_noise", std=0.3)
    assert -0.3 <= uniform.min() < -0.299
    assert 0.299 < uniform.max() <= 0.3
    assert uniform.mean().abs() < 1e-3
    assert abs(uniform.std() - 0.3 / 3**0.5) < 1e-3


def test_rnoise_is_smaller_noise_enlarged() -> None:
    op = make("rnoise", std=0.1, resolution=[20, 10])
    drawn = op.sample(view_draw((1,), 3), params(op), (224, 224))
    assert drawn[0].shape == (1, 3, 3, 10, 20)
    added = op.apply(torch.zeros(1, 1, 3, 40, 50), params(op), drawn)[0]
    expected = torch.nn.functional.interpolate(drawn[0][0], (40, 50), mode="bilinear") * 0.1
    close(added, expected)
    # the figure that the reference gives for 20 -> 224: two thirds of std
    assert abs(spread("rnoise", (224, 224), std=1, resolution=20).std() - 0.67) < 0.02


@pytest.mark.parametrize("size", [(64, 64), (15, 17)])
def test_fnoise_strength(size: tuple[int, int]) -> None:
    count = size[0] * size[1]
    expected = 15 * 0.5 * (2 / count) ** 0.5
    assert abs(spread("fnoise", size, std=0.5).std() / expected - 1) < 0.03
    op = make("fnoise", std=0.5)
    p, drawn = params(op), op.sample(view_draw((1,), 2), params(op), size)
    spectrum = drawn[0].numpy().astype(np.float64)
    expected_noise = np.fft.irfft(spectrum[0, :, 0] + 1j * spectrum[0, :, 1], count) * 15 * 0.5
    black = torch.zeros(1, 2, 3, *size)
    close(op.apply(black, p, drawn)[0].flatten(2), expected_noise)


def test_random_erase() -> None:
    op = make("random_erase", probability=0.5, area=[0.1, 0.2], color=1)
    painted = once(op, torch.zeros(1, 3, 60, 60), views=400)[0][:, 0].numpy()
    share = painted.mean((1, 2))
    assert abs((share > 0).mean() - 0.5) < 0.08
    assert share[share > 0].min() > 0.08
    assert share.max() < 0.22
    for view in painted[share > 0][:20]:  # one full rectangle each
        rows, columns = np.nonzero(view.any(1))[0], np.nonzero(view.any(0))[0]
        assert view[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert view.sum() == len(rows) * len(columns)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("degree", [0, 30, -75, 90, 200])
def test_rotate_as_torchvision(pic: Tensor, degree: float) -> None:
    bilinear = tv.InterpolationMode.BILINEAR
    expected = tv.rotate(pic, degree, bilinear)
    close(shown("rotate", pic, degree=degree), expected, 1e-4)
    expected = tv.rotate(pic, degree, bilinear, center=[0.25 * SIZE[1], 0.75 * SIZE[0]])
    close(shown("rotate", pic, degree=degree, center=[0.25, 0.75]), expected, 1e-4)


def test_rotate_is_counter_clockwise_as_in_pillow() -> None:
    x = torch.zeros(3, 9, 9)
    x[:, 4, 8] = 1  # right of the centre
    turned = shown("rotate", x, degree=90)
    expected = Image.fromarray((x[0].numpy() * 255).astype(np.uint8)).rotate(90)
    close(turned[0], np.asarray(expected) / 255, 1e-4)
    assert turned[0, 0, 4] > 0.99  # now above it


def test_random_rotate_draws_within_its_range() -> None:
    x = torch.zeros(1, 3, 101, 101)
    x[..., 50, 90] = 1
    views = once(make("random_rotate", degree=[-30, 60]), x, views=200)[0, :, 0]
    place = views.flatten(1).argmax(1)
    angle = torch.rad2deg(torch.atan2(50.0 - place // 101, place % 101 - 50.0))
    assert angle.min() > -32
    assert angle.max() < 62
    assert abs(angle.mean() - 15) < 5
    op = make("random_rotate", degree=[20, 20], center=[0, 1])
    drawn = (torch.tensor([0.5, 0.25, 0.75]).view(1, 1, 3),)
    stages = op.stages((100, 200), params(op), drawn, x)
    center = torch.tensor([0.25 * 200, 0.75 * 100, 1.0])  # the point that stays
    close(stages[1].matrix[0, 0] @ center, center, 1e-3)


def test_random_scale_about_the_middle(pic: Tensor) -> None:
    close(shown("random_scale", pic, scale=[1, 1]), pic)
    op = make("random_scale", scale=[2, 2])
    expected = tv.affine(pic, 0, [0, 0], 2.0, [0, 0], tv.InterpolationMode.BILINEAR)
    close(once(op, pic[None])[0, 0], expected, 1e-4)


def test_random_scale_reduces_antialiased() -> None:
    x = picture(3, 64, 64)
    half = shown("random_scale", x, scale=[0.5, 0.5])
    small = tv.resize(x, [32, 32], antialias=True)
    close(half[:, 17:47, 17:47], small[:, 1:-1, 1:-1], 1e-2)
    assert half[:, :15].abs().max() == 0
    grid = torch.arange(128.0) % 2  # stripes of one pixel become an even gray
    gray = shown("random_scale", grid.expand(3, 128, 128), scale=[0.4, 0.4])
    assert (gray[:, 44:84, 44:84] - 0.5).abs().max() < 0.15


def test_random_translate_by_whole_pixels(pic: Tensor) -> None:
    op = make("random_translate", offset=[0.5, 0.25])
    p = params(op)
    stages = op.stages(SIZE, p, (torch.tensor([0.5, -0.9]).view(1, 1, 2),), pic)
    move = stages[1].matrix[0, 0]
    right, down = round(0.5 * 0.5 * SIZE[1]), round(-0.9 * 0.25 * SIZE[0])
    assert (move[0, 2], move[1, 2]) == (-right, -down)
    views = once(op, pic[None], views=20)[0]
    black = np.pad(pic.numpy(), ((0, 0), SIZE[:1] * 2, SIZE[1:] * 2))
    for view in views.numpy():  # each view is the picture moved by some whole number
        errors = [
            np.abs(black[:, y : y + SIZE[0], x : x + SIZE[1]] - view).max()
            for y in range(SIZE[0] - 5, SIZE[0] + 6)
            for x in range(SIZE[1] - 11, SIZE[1] + 12)
        ]
        assert min(errors) < 1e-4


@pytest.mark.parametrize(
    ("offset", "pixels"),
    [((1, 0), (1, 0)), ((0.5, 0.25), (11, 4)), ((-3, 7), (-3, 7)), ((-0.99, 40), (-21, 40)),
     ((1.7, -2.9), (1, -2)), ((0, 0), (0, 0))],
)
def test_shift_as_numpy_roll(pic: Tensor, offset: Any, pixels: Any) -> None:
    expected = np.roll(pic.numpy(), (pixels[0], pixels[1]), (2, 1))
    close(shown("shift", pic, offset=list(offset)), expected, 1e-5)


def test_random_shift_ranges() -> None:
    op = make("random_shift", offset=[1, 5, -9, -7])
    stages = op.stages((50, 50), params(op), op.sample(view_draw((1,), 300), params(op), (50, 50)),
                       torch.zeros(1))
    x, y = -stages[1].matrix[..., 0, 2], -stages[1].matrix[..., 1, 2]
    assert set(x.unique().tolist()) == {1, 2, 3, 4}
    assert set(y.unique().tolist()) <= {-9, -8, -7}
    assert len(y.unique()) >= 2


def test_random_flip(pic: Tensor) -> None:
    close(shown("random_flip", pic, probability=1), pic.flip(-1))
    close(shown("random_flip", pic, probability=0), pic)
    views = once(make("random_flip", probability=0.3), pic[None], views=500)[0]
    flipped = (views - pic.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    assert abs(flipped.float().mean() - 0.3) < 0.06


@pytest.mark.parametrize("amount", [0.3, 0.6])
def test_random_perspective_corners(amount: float) -> None:
    op = make("random_perspective", amount=amount)
    p = params(op)
    drawn = op.sample(view_draw((3,), 50), p, (100, 200))
    matrix = op.stages((100, 200), p, drawn, torch.zeros(1))[1].matrix[0].double()
    corners = torch.tensor([[0, 0, 1], [200, 0, 1], [0, 100, 1], [200, 100, 1]]).double()
    shown_at = torch.linalg.inv(matrix) @ corners.T  # where the input's corners appear
    shown_at = shown_at[:, :2] / shown_at[:, 2:]
    inward = (shown_at - corners.T[:2]).abs() / torch.tensor([[100.0], [50.0]])
    assert inward.max() <= amount + 1e-4
    assert inward.amax((1, 2)).mean() > 0.3 * amount
    assert inward.amin((1, 2)).max() < 1e-4  # the nearest corner stays
    close(shown("random_perspective", picture(3, *SIZE), amount=0), picture(3, *SIZE), 1e-4)


def test_random_perspective_as_torchvision() -> None:
    x = picture(1, 3, 40, 60)
    op = make("random_perspective", amount=0.3)
    p, drawn = params(op), (torch.tensor([0.7, -0.4]).view(1, 1, 2),)
    matrix = op.stages((40, 60), p, drawn, x)[1].matrix[0, 0].double()
    ends = torch.tensor([[0, 0, 1], [60, 0, 1], [60, 40, 1], [0, 40, 1]]).double().T
    start = matrix @ ends
    start = (start[:2] / start[2:]).T
    whole = ends[:2].T
    expected = tv.perspective(x[0], start.tolist(), whole.tolist(),
                              tv.InterpolationMode.BILINEAR)
    close(once(op, x, _Fixed(drawn[0]), p)[0, 0], expected, 1e-3)


class _Fixed:
    """Stands in for the random numbers of one op; gives what it was made with."""

    def __init__(self, *values: Tensor):
        self._values = list(values)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return self._values.pop(0)


@pytest.mark.parametrize("out", [(9, 11), (7, 40), (40, 50), (1, 1), (17, 22)])
def test_resize_as_torchvision_and_pillow(pic: Tensor, out: tuple[int, int]) -> None:
    got = shown("resize", pic, size=[out[1], out[0]])
    close(got, tv.resize(pic, list(out), antialias=True))
    pil = Image.fromarray(pic[0].numpy()).resize((out[1], out[0]), Image.Resampling.BILINEAR)
    close(got[0], np.asarray(pil), 2e-3)


@pytest.mark.parametrize("out", [(10, 15), (11, 15), (30, 40), (31, 9), (18, 23), (19, 22)])
def test_center_crop_as_torchvision(pic: Tensor, out: tuple[int, int]) -> None:
    close(shown("center_crop", pic, size=[out[1], out[0]]), tv.center_crop(pic, list(out)), 1e-4)


def test_random_crop_takes_every_place_alike() -> None:
    ramp = torch.arange(12.0)[None, None, None].expand(1, 3, 5, 12) / 12
    views = once(make("random_crop", size=[10, 5]), ramp, views=600)[0]
    left = (views[:, 0, 0, 0] * 12).round()
    shares = [(left == k).float().mean().item() for k in range(3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)
    close(views[0, 0], ramp[0, 0, :, int(left[0]) : int(left[0]) + 10], 1e-4)
    op = make("random_crop", size=[10, 6])
    with pytest.raises(ChainError, match="10x6 does not fit into the view, which is 12x5"):
        Chain.arrange([op], [params(op)], (5, 12), (5, 5))


def test_crop_fractions_and_pixels(pic: Tensor) -> None:
    close(shown("crop", pic, box=[0.25, 0.5, 0.5, 0.25]), pic[:, 9:13, 5:16], 1e-4)
    close(shown("crop", pic, box=[3, 2, 10, 4]), pic[:, 2:6, 3:13], 1e-4)
    close(shown("crop", pic, box=[0, 0, 1, 1]), pic[:, :1, :1], 1e-4)  # one pixel, as documented
    beyond = np.pad(pic.numpy(), ((0, 0), (0, 7), (2, 6)))[:, 3:, :30]
    close(shown("crop", pic, box=[-2, 3, 30, 22]), beyond, 1e-4)


@pytest.mark.parametrize("size", [(3, 4), (0, 2), (40, 50)])
def test_pad_as_numpy(pic: Tensor, size: tuple[int, int]) -> None:
    rim = ((0, 0), (size[1],) * 2, (size[0],) * 2)
    for mode, name in (("edge", "edge"), ("wrap", "wrap"), ("fill", "constant")):
        values = {"constant_values": 0.7} if mode == "fill" else {}
        expected = np.pad(pic.numpy(), rim, name, **values)  # type: ignore[call-overload]
        close(shown("pad", pic, size=list(size), mode=mode, color=0.7), expected, 1e-4)


def test_pad_fill_as_pillow() -> None:
    x = torch.randint(0, 256, (6, 5, 3)).to(torch.uint8)
    expected = ImageOps.expand(Image.fromarray(x.numpy()), (3, 2, 3, 2), fill=(255, 0, 51))
    got = shown("pad", x.permute(2, 0, 1) / 255, size=[3, 2], color=[1, 0, 0.2])
    close(got.permute(1, 2, 0), np.asarray(expected) / 255, 1e-4)


def test_repeat_as_numpy_tile(pic: Tensor) -> None:
    close(shown("repeat", pic, count=[2, 3]), np.tile(pic.numpy(), (1, 3, 2)), 1e-4)


def test_cutouts_are_stratified_squares() -> None:
    op = make("cutouts", scale=[0.2, 1], size=8)
    p = params(op)
    drawn = op.sample(view_draw((3,), 10), p, (60, 80))
    move = op.stages((60, 80), p, drawn, torch.zeros(1))[1]
    side = move.matrix[0, :, 0, 0] * 8 / 60
    edges = torch.linspace(0.2, 1, 11)
    assert ((side >= edges[:-1] - 1e-5) & (side <= edges[1:] + 1e-5)).all()
    close(move.matrix[..., 0, 0], move.matrix[..., 1, 1])
    left, right = move.matrix[..., 0, 2], move.matrix[..., 0, 2] + 60 * side
    top, bottom = move.matrix[..., 1, 2], move.matrix[..., 1, 2] + 60 * side
    for low, high, extent in ((left, right, 80), (top, bottom, 60)):
        assert low.min() >= -1e-3
        assert high.max() <= extent + 1e-3


def test_cutouts_show_the_piece_as_torchvision_would() -> None:
    x = picture(1, 3, 96, 96)
    op = make("cutouts", scale=[0.5, 0.5], size=24)
    got = once(op, x, _Fixed(torch.tensor([0.5, 0.25, 0.75]).view(1, 1, 3)))[0, 0]
    expected = tv.resized_crop(x[0], 36, 12, 48, 48, [24, 24], antialias=True)
    inner = (slice(None), slice(1, -1), slice(1, -1))  # the piece is reduced with what is around it
    close(got[inner], expected[inner], 5e-3)


# ------------------------------------------------------------- the contract


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_contract(name: str, fields: dict[str, Any], device: torch.device) -> None:
    op = make(name, **fields)
    p = params(op, device)
    source = picture(3, 3, *SIZE, device=device)
    draw = {"views": 4, "device": device}

    def go(seeds: tuple[int, ...] = SEEDS, step: int = 5, source: Tensor = source,
           p: Any = p) -> Tensor:
        return once(op, source, view_draw(seeds, step=step, **draw), p, views=4)  # type: ignore[arg-type]

    leaf = source.clone().requires_grad_(True)
    views = go(source=leaf)
    out = op.out_size(SIZE, p)
    assert views.shape == (3, 4, 3, *out)
    assert views.dtype == torch.float32
    assert views.isfinite().all()
    (views * torch.rand_like(views)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert (leaf.grad.flatten(1).abs().sum(1) > 0).all()

    assert torch.equal(go(), go())
    if op.random:
        assert not torch.allclose(go(), go(seeds=(1, 2, 3)))
        assert not torch.allclose(go(), go(step=6))
        many = once(op, source, view_draw(views=16, device=device), p, views=16)
        assert not torch.allclose(many[:, :1].expand_as(many), many)
    else:
        close(views[:, :1].expand_as(views).detach().cpu(), views.detach().cpu(), 0)

    for run_number in range(3):  # batched equals alone
        part = slice(run_number, run_number + 1)
        alone = go(SEEDS[part], source=source[part], p=one_run(p, run_number))
        close(alone.cpu(), views[part].detach().cpu())
    assert torch.equal(source, picture(3, 3, *SIZE, device=device)), "the source was changed"


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_sample_holds_all_the_randomness(
    name: str, fields: dict[str, Any], device: torch.device
) -> None:
    op = make(name, **fields)
    p = params(op, device)
    drawn = op.sample(view_draw(device=device), p, SIZE)
    assert bool(drawn) == op.random
    alone = op.sample(view_draw(SEEDS[1:2], device=device), p, SIZE)
    for batch, one in zip(drawn, alone, strict=True):
        assert batch.shape[:2] == (3, 4)
        assert torch.equal(batch[1:2], one)
    if isinstance(op, Pixelwise):
        x = picture(3, 4, 3, *SIZE, device=device)
        assert torch.equal(op.apply(x, p, drawn), op.apply(x, copy.deepcopy(p), drawn))
    else:
        assert isinstance(op, Geometry)
        first, again = (op.stages(SIZE, p, drawn, drawn[0] if drawn else torch.zeros(1).to(device))
                        for _ in range(2))
        for a, b in zip(first, again, strict=True):
            assert type(a) is type(b)
            if hasattr(a, "matrix"):
                assert torch.equal(a.matrix, b.matrix)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_parameters_may_differ_by_run_and_view(name: str, fields: dict[str, Any]) -> None:
    """A field's numbers may be `[R, N, k]`; the result is that of each run alone."""
    op = make(name, **fields)
    p = params(op)
    for key, value in vars(p).items():
        if isinstance(value, Tensor):
            setattr(p, key, value.expand(3, 4, -1) * (1 + 0.01 * torch.arange(3.0).view(3, 1, 1)))
    source = picture(3, 3, *SIZE)
    views = once(op, source, view_draw(), p, views=4)
    assert views.shape == (3, 4, 3, *op.out_size(SIZE, p))
    for run_number in range(3):
        part = slice(run_number, run_number + 1)
        alone = once(op, source[part], view_draw(SEEDS[part]), one_run(p, run_number), views=4)
        close(alone, views[part])


# --------------------------------------------------- chains: what is done where


def built(*entries: tuple[str, dict[str, Any]]) -> tuple[list[Transform], list[SimpleNamespace]]:
    ops = [make(name, **fields) for name, fields in entries]
    return ops, [params(op) for op in ops]


def draws(count: int, seeds: tuple[int, ...] = SEEDS, views: int = 4) -> list[ViewDraw]:
    return [ViewDraw(Draw(seeds), 100 + i, 3, views) for i in range(count)]


METHOD_1 = (
    ("pad", {"size": 32, "mode": "edge"}), ("random_rotate", {"degree": [-30, 30]}),
    ("mul", {"factor": 0.5}), ("mean", {"value": 0.5}), ("noise", {"std": 0.1}),
)


def test_arrange_moves_the_reduction_forward() -> None:
    ops, ps = built(*METHOD_1)
    first, touch = Chain.arrange(ops, ps, (224, 224), (64, 64)).segments
    assert (first.ops, first.size, first.out, first.fused) == ((0, 1), (224, 224), (64, 64), True)
    assert touch.ops == (2, 3, 4)
    assert touch.size == touch.out == (64, 64)
    assert not touch.fused
    assert touch.noise_gain == pytest.approx(reduction_gain((288, 288), (64, 64)))


def test_arrange_does_not_pass_what_it_must_not() -> None:
    ops, ps = built(("mul", {"factor": 2}), ("blur", {}), ("mul", {"factor": 2}))
    sizes = [(s.ops, s.size, s.out) for s in Chain.arrange(ops, ps, (40, 40), (20, 20)).segments]
    assert sizes == [((0,), (40, 40), (40, 40)), ((1,), (40, 40), (40, 40)),
                     ((), (40, 40), (20, 20)), ((2,), (20, 20), (20, 20))]
    enlarged = Chain.arrange(ops, ps, (40, 40), (80, 80)).segments
    assert [s.ops for s in enlarged] == [(0,), (1,), (2,), ()]
    mixed = Chain.arrange(ops, ps, (40, 40), (80, 20)).segments
    assert [s.ops for s in mixed] == [(0,), (1,), (2,), ()]
    assert Chain.arrange([], [], (40, 40), (40, 40)).segments == ()
    same = Chain.arrange(ops, ps, (40, 40), (40, 40)).segments
    assert [s.ops for s in same] == [(0,), (1,), (2,)]


def test_arrange_names_the_transform_that_fails() -> None:
    ops, ps = built(("resize", {"size": 10}), ("random_crop", {"size": 11}))
    with pytest.raises(ChainError) as error:
        Chain.arrange(ops, ps, (40, 40), (20, 20))
    assert error.value.index == 1
    assert "10x10 here" in error.value.message


def test_moved_reduction_gives_the_same_views() -> None:
    """Linear transforms: equal, but for means that the filter's edges change by < 2e-3."""
    source = torch.rand(3, 3, 96, 96)
    for name, tolerance in (("add", 1e-5), ("mul", 1e-5), ("random_contrast", 1e-5),
                            ("mean", 2e-3), ("color_jitter", 2e-3)):
        ops, ps = built((name, EXAMPLES[name][0]))
        moved = Chain.arrange(ops, ps, (96, 96), (28, 28)).run(source, ps, draws(1), 4)
        full = Chain.arrange(ops, ps, (96, 96), (96, 96)).run(source, ps, draws(1), 4)
        expected = tv.resize(full.flatten(0, 1), [28, 28], antialias=True)
        close(moved.flatten(0, 1), expected, tolerance)
    marked = {n for n, c in TRANSFORMS.items() if getattr(c, "commutes", "") == "linear"}
    assert marked == {"add", "mul", "random_contrast", "mean", "color_jitter"}


@pytest.mark.parametrize("name", ["noise", "bwnoise", "uniform_noise"])
def test_moved_noise_has_the_strength_of_the_reduced(name: str) -> None:
    ops, ps = built((name, {"std": 0.4}))
    black = torch.zeros(3, 3, 96, 80)
    moved = Chain.arrange(ops, ps, (96, 80), (28, 20)).run(black, ps, draws(1, views=20), 20)
    full = Chain.arrange(ops, ps, (96, 80), (96, 80)).run(black, ps, draws(1, views=20), 20)
    reduced = tv.resize(full.flatten(0, 1), [28, 20], antialias=True)
    assert float(moved.std() / reduced.std()) == pytest.approx(1, abs=0.02)
    # correlation of neighbours, which the moved noise does not have
    near = (reduced[..., 1:] * reduced[..., :-1]).mean() / reduced.var()
    assert 0.15 < near < 0.35


def test_chain_batched_equals_alone() -> None:
    ops, ps = built(*METHOD_1)
    source = picture(3, 3, 96, 96)
    chain = Chain.arrange(ops, ps, (96, 96), (48, 48))
    together = chain.run(source, ps, draws(5), 4)
    assert together.shape == (3, 4, 3, 48, 48)
    for i in range(3):
        alone = chain.run(source[i : i + 1], ps, draws(5, SEEDS[i : i + 1]), 4)
        close(alone[0], together[i])


def test_views_stay_shared_until_something_random() -> None:
    ops, ps = built(("mul", {"factor": 0.5}), ("blur", {}))
    source = picture(2, 3, 20, 20)
    views = Chain.arrange(ops, ps, (20, 20), (20, 20)).run(source, ps, draws(2), 5)
    assert views.shape == (2, 5, 3, 20, 20)
    assert views.stride(1) == 0
