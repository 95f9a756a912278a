"""Reads and writes images with Pillow.

In memory an image is a float tensor `[3, H, W]` (or `[4, H, W]` with alpha),
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
"""Maximum bytes of an image file."""
LARGE = 12_000_000
"""Images of more pixels are decoded one at a time even by several threads, to save memory."""
_LARGE = threading.Lock()
T = TypeVar("T")

# Raster formats that Pillow decodes itself, without EPS and others that start programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "AVIF", "PCX", "DDS")
_DEEP = re.compile(r"I(;.*)?|F")  # more than 8 bits per channel
_KEY = re.compile(r"[ -~¡-ÿ]{1,79}")  # PNG's rule for keywords


def load_image(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    background: RGB = WHITE,
    cache: Path | None = None,
) -> Tensor:
    """Load an image, upright according to its orientation tag; of animations the first frame.

    Args:
        source: A path or an http(s) address, whose image is kept in the cache.
        size: (H, W) of the result, resized bicubic and antialiased; None: as it is.
        fit: `crop` keeps the aspect and the middle of the image, `stretch` distorts it.
        background: RGB in [0, 1] behind transparent pixels.
        cache: Cache folder; None: the user's.

    Returns:
        `[3, H, W]` float32 in [0, 1].

    Raises:
        ImageError: The image cannot be fetched, read or decoded; the message names the source.
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
    """As `load_image`, but returns `[4, H, W]` with straight (not premultiplied) alpha."""
    return _open(source, cache, lambda p: _to_tensor(_resized(_with_alpha(p), size, fit)))


def _open(source: str | Path, cache: Path | None, use: Callable[[Image.Image], T]) -> T:
    """Apply `use` to the decoded image: upright, in mode RGB, RGBA or F (0..255)."""
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
    found = _decode(data, url, use)  # before caching, as it refuses other content
    with contextlib.suppress(OutputError):  # an unwritable cache is no reason to fail
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
    except Exception as fault:  # decoders raise arbitrary exceptions for broken files
        raise ImageError(f"{name}: a damaged picture: {reason(fault)}") from fault
    if beyond:
        warnings.warn(f"{name}: float values beyond 0..1 are clipped", stacklevel=4)
    return found


def _beyond_one(picture: Image.Image) -> bool:
    """Whether a float image has values above 1."""
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
        clear = picture.info.get("transparency")  # the transparent value of a 16-bit grey PNG
        if not isinstance(clear, int):
            return Image.fromarray(grey)
        bytes_ = np.rint(grey).astype(np.uint8)
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        return Image.fromarray(np.stack([bytes_, bytes_, bytes_, alpha], -1))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("RGB")


def _flatten(picture: Image.Image, background: RGB) -> Image.Image:
    """Remove alpha. The mode becomes RGB, or stays F (more than 8 bits)."""
    if picture.mode != "RGBA":
        return picture
    color = tuple(int(c * 255 + 0.5) for c in background)
    below = Image.new("RGBA", picture.size, (*color, 255))
    return Image.alpha_composite(below, picture).convert("RGB")


def _with_alpha(picture: Image.Image) -> Image.Image:
    """Convert to RGBA; mode F is rounded to 8 bits."""
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
    """Convert `[3 or 4, H, W]` in [0, 1] to rounded uint8 `[H, W, C]`; NaN becomes 0."""
    if hasattr(picture, "detach"):
        picture = picture.detach().to("cpu").float().numpy()
    values: Floats = np.asarray(picture, dtype=np.float32)
    if values.ndim != 3 or values.shape[0] not in (3, 4) or 0 in values.shape:
        raise ImageError(f"a picture of shape {list(values.shape)}, expected [3 or 4, H, W]")
    values = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
    found: npt.NDArray[np.uint8] = (values.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    return found


def to_pil(picture: Any) -> Image.Image:
    """Convert `[3 or 4, H, W]` in [0, 1] to a Pillow image, RGB or RGBA."""
    return Image.fromarray(to_bytes(picture))


def save_png(
    picture: Any,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write an image atomically as PNG.

    Args:
        picture: `[3 or 4, H, W]` in [0, 1], or a Pillow image.
        path: The file.
        metadata: Texts by PNG keyword; see `read_metadata`.
        overwrite: Replace an existing file; otherwise `stem-2.png` ... is used.

    Returns:
        The path of the written file.

    Raises:
        ImageError: The shape or a keyword is invalid.
        OutputError: The file cannot be written.
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
    """As `save_png`, for indices `[H, W]` into a palette `[K, 3]` in [0, 1] with K <= 256."""
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
        value = value.encode("utf-8", errors="backslashreplace").decode()  # lone surrogates
        if not _KEY.fullmatch(key) or key != key.strip():
            raise ImageError(f"{key!r} is no PNG keyword (1 to 79 Latin letters)")
        # tEXt is Latin-1 without control characters except newline; iTXt is UTF-8.
        if value.isascii() and "\0" not in value:
            chunks.add_text(key, value)
        else:
            chunks.add_itxt(key, value.replace("\0", ""))
    return chunks


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the texts (tEXt, zTXt, iTXt) of a PNG by keyword. Raises `ImageError`."""
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
    except Exception as fault:  # decoders raise arbitrary exceptions for broken files
        raise ImageError(f"{path}: cannot be read: {reason(fault)}") from fault
