"""Pictures in and out: the only user of Pillow besides `sheets`.

In memory a picture is a float tensor `[3, H, W]` (or `[4, H, W]` with alpha),
sRGB in [0, 1]. Embedded colour profiles are not applied.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from clipig.errors import ClipigError, ImageError, InputError, OutputError
from clipig.files import atomic_write, make_folder, open_input, read_bytes, reason
from clipig.web import cached_path, fetch_picture, is_url

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Fit = Literal["crop", "stretch"]
RGB = tuple[float, float, float]
WHITE: RGB = (1.0, 1.0, 1.0)
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
"""Bytes of a picture's file."""
LARGE = 12_000_000
"""Pixels from which pictures are decoded one at a time, whatever the number of threads."""
_LARGE = threading.Lock()
T = TypeVar("T")

# Raster formats decoded inside Pillow; not EPS and the like, which start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "AVIF", "PCX", "DDS")
_DEEP = re.compile(r"I(;.*)?|F")  # more than 8 bits a channel
_KEY = re.compile(r"[ -~¡-ÿ]{1,79}")  # PNG's rule for keywords


def load_image(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    background: RGB = WHITE,
    cache: Path | None = None,
) -> Tensor:
    """Load a file or an http(s) address as `[3, H, W]` float32 in [0, 1].

    `size` is `(H, W)`; with `fit="crop"` the short side is resized to fit and
    the middle is kept, with `"stretch"` the aspect is not. Resizing is bicubic
    and antialiased. Transparent parts show `background`. The orientation in the
    file is obeyed; of an animation the first frame is taken. Pictures from the
    web are kept in the cache directory.

    Raises `ImageError` naming the source.
    """
    return _open(
        source, cache, lambda p: _to_tensor(_resized(_flatten(p, background), size, fit))
    )


def load_rgba(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    cache: Path | None = None,
) -> Tensor:
    """As `load_image`, but `[4, H, W]` with straight (not premultiplied) alpha."""
    return _open(source, cache, lambda p: _to_tensor(_resized(_with_alpha(p), size, fit)))


def _open(source: str | Path, cache: Path | None, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of an upright picture in mode RGB, RGBA or F (0..255)."""
    if isinstance(source, str) and is_url(source):
        return _open_url(source, cache, use)
    try:
        data = read_bytes(source, MAX_BYTES)
    except InputError as fault:
        raise ImageError(str(fault)) from fault
    return _decode(data, str(source), use)


def _open_url(url: str, cache: Path | None, use: Callable[[Image.Image], T]) -> T:
    path = cached_path(url, cache)
    if path.is_file():
        try:
            return _decode(read_bytes(path, MAX_BYTES), url, use)
        except (ImageError, InputError):
            path.unlink(missing_ok=True)
    data = fetch_picture(url)
    found = _decode(data, url, use)  # only what is a picture goes into the cache
    with contextlib.suppress(OutputError):  # a cache that cannot be written stops nobody
        atomic_write(make_folder(path.parent) / path.name, data)
    return found


def _decode(data: bytes, name: str, use: Callable[[Image.Image], T]) -> T:
    if not data:
        raise ImageError(f"{name}: the file is empty")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formats = [f for f in _FORMATS if f in Image.OPEN]
            picture: Image.Image = Image.open(io.BytesIO(data), formats=formats)
            pixels = picture.width * picture.height
            if pixels > MAX_PIXELS:
                raise Image.DecompressionBombError
            with _LARGE if pixels > LARGE else contextlib.nullcontext():
                picture.load()
                beyond = _beyond_one(picture)
                found = use(_to_known_mode(ImageOps.exif_transpose(picture)))
    except UnidentifiedImageError as fault:
        raise ImageError(f"{name}: not a picture, or of an unknown kind") from fault
    except Image.DecompressionBombError as fault:
        raise ImageError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels") from fault
    except ClipigError:
        raise
    except Exception as fault:  # decoders raise whatever a broken file makes them raise
        raise ImageError(f"{name}: a damaged picture: {reason(fault)}") from fault
    if beyond:
        warnings.warn(f"{name}: float values beyond 0..1 are clipped", stacklevel=4)
    return found


def _beyond_one(picture: Image.Image) -> bool:
    """Whether a picture of floats has values that the range 0..1 does not hold."""
    return picture.mode == "F" and not bool(np.nanmax(np.asarray(picture), initial=0) <= 1)


def _to_known_mode(picture: Image.Image) -> Image.Image:
    if _DEEP.fullmatch(picture.mode):
        values: Floats = np.asarray(picture).astype(np.float32)
        if picture.mode == "F":
            grey = np.nan_to_num(values) * np.float32(255)
        elif picture.mode != "I" or values.max() > 255:
            grey = (values / 65535 * 255).astype(np.float32)
        else:
            grey = values
        grey = np.clip(grey, 0, 255)
        clear = picture.info.get("transparency")  # one value of a 16-bit grey PNG
        if not isinstance(clear, int):
            return Image.fromarray(grey)
        bytes_ = np.rint(grey).astype(np.uint8)
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        return Image.fromarray(np.stack([bytes_, bytes_, bytes_, alpha], -1))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("RGB")


def _flatten(picture: Image.Image, background: RGB) -> Image.Image:
    """Without alpha: RGB, or F for deep greys."""
    if picture.mode != "RGBA":
        return picture
    color = tuple(int(c * 255 + 0.5) for c in background)
    below = Image.new("RGBA", picture.size, (*color, 255))
    return Image.alpha_composite(below, picture).convert("RGB")


def _with_alpha(picture: Image.Image) -> Image.Image:
    """RGBA of any mode; deep greys are rounded to 8 bits."""
    if picture.mode == "F":
        picture = Image.fromarray(np.rint(np.asarray(picture)).astype(np.uint8))
    return picture.convert("RGBA")


def _resized(picture: Image.Image, size: tuple[int, int] | None, fit: Fit) -> Image.Image:
    if size is None:
        return picture
    height, width = size
    if height < 1 or width < 1:
        raise ImageError(f"a picture of {width} x {height} pixels is impossible")
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    if fit == "stretch":
        return picture.resize((width, height), Image.Resampling.BICUBIC)
    raise ValueError(f"fit is {fit!r}, expected 'crop' or 'stretch'")


def _to_tensor(picture: Image.Image) -> Tensor:
    import torch

    values = np.asarray(picture, dtype=np.float32) / 255
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    return torch.from_numpy(np.clip(values, 0, 1).transpose(2, 0, 1).copy())


def to_bytes(picture: Any) -> npt.NDArray[np.uint8]:
    """`[C, H, W]` in [0, 1] to `[H, W, C]` of 0..255, rounded to the nearest; NaN becomes 0."""
    if hasattr(picture, "detach"):
        picture = picture.detach().to("cpu").float().numpy()
    values: Floats = np.asarray(picture, dtype=np.float32)
    if values.ndim != 3 or values.shape[0] not in (3, 4) or 0 in values.shape:
        raise ImageError(f"a picture of shape {list(values.shape)}, expected [3 or 4, H, W]")
    values = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
    found: npt.NDArray[np.uint8] = (values.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    return found


def to_pil(picture: Any) -> Image.Image:
    """A Pillow picture (RGB or RGBA) of `[3 or 4, H, W]` in [0, 1]."""
    return Image.fromarray(to_bytes(picture))


def save_png(
    picture: Any,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write `[3 or 4, H, W]` in [0, 1], or a Pillow picture, as PNG; returns where it went.

    An existing file is left alone and `stem-2.png` ... written, unless
    `overwrite`. The file appears whole or not at all. `metadata` becomes text
    chunks (see `read_metadata`). Raises `ImageError`.
    """
    image = picture if isinstance(picture, Image.Image) else to_pil(picture)
    chunks = _text_chunks(metadata or {})
    return atomic_write(
        Path(path), lambda file: image.save(file, "PNG", pnginfo=chunks), overwrite=overwrite
    )


def save_indexed_png(
    indices: Any,
    palette: Any,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write `[H, W]` indices into a palette `[K, 3]` in [0, 1], K <= 256; else as `save_png`."""
    if hasattr(indices, "detach"):
        indices, palette = indices.detach().cpu().numpy(), palette.detach().cpu().numpy()
    indices, palette = np.asarray(indices), np.asarray(palette, dtype=np.float32)
    count = len(palette)
    if indices.ndim != 2 or palette.ndim != 2 or palette.shape[1] != 3 or not 0 < count <= 256:
        raise ImageError(
            f"indices {list(indices.shape)} and palette {list(palette.shape)}, "
            "expected [H, W] and [1..256, 3]"
        )
    if indices.size == 0 or indices.min() < 0 or indices.max() >= count:
        raise ImageError(f"an index lies outside the palette of {count} colours")
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(to_bytes(palette.T[:, None, :]).tobytes())
    return save_png(image, path, metadata, overwrite=overwrite)


def _text_chunks(metadata: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", b"\0")
    for key, value in metadata.items():
        value = value.encode("utf-8", errors="backslashreplace").decode()  # halves of pairs
        if not _KEY.fullmatch(key) or key != key.strip():
            raise ImageError(f"{key!r} is no PNG keyword (1 to 79 Latin letters)")
        # tEXt is Latin-1 without control characters but newline; iTXt is UTF-8.
        if value.isascii() and "\0" not in value:
            chunks.add_text(key, value)
        else:
            chunks.add_itxt(key, value.replace("\0", ""))
    return chunks


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts (tEXt, zTXt, iTXt) in a PNG file; `ImageError` naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_input(path, MAX_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
                assert isinstance(image, PngImagePlugin.PngImageFile)
                return {str(key): str(value) for key, value in image.text.items()}
    except InputError as fault:
        raise ImageError(str(fault)) from fault
    except UnidentifiedImageError as fault:
        raise ImageError(f"{path}: not a PNG file") from fault
    except Exception as fault:  # decoders raise whatever a broken file makes them raise
        raise ImageError(f"{path}: cannot be read: {reason(fault)}") from fault
