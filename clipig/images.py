"""Pictures in and out: the only user of Pillow besides `sheets`.

In memory a picture is a float tensor `[3, H, W]` (or `[4, H, W]` with alpha),
sRGB in [0, 1]. Embedded colour profiles are not applied.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from clipig.errors import ImageError
from clipig.files import atomic_write, reason
from clipig.web import cached_path, fetch_picture, is_url

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Fit = Literal["crop", "stretch"]
Color = tuple[float, float, float]
WHITE: Color = (1.0, 1.0, 1.0)
MAX_PIXELS = 100_000_000

# Raster formats decoded inside Pillow; not EPS and the like, which start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "AVIF", "PCX", "DDS")
_DEEP = re.compile(r"I(;.*)?|F")  # more than 8 bits a channel
_KEY = re.compile(r"[ -~¡-ÿ]{1,79}")  # PNG's rule for keywords


def load_image(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    background: Color = WHITE,
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
    return _to_tensor(_resized(_flatten(_open(source, cache), background), size, fit))


def load_rgba(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    cache: Path | None = None,
) -> Tensor:
    """As `load_image`, but `[4, H, W]` with straight (not premultiplied) alpha."""
    picture = _open(source, cache)
    if picture.mode == "F":
        picture = _flatten(picture, WHITE)
    return _to_tensor(_resized(picture.convert("RGBA"), size, fit))


def _open(source: str | Path, cache: Path | None) -> Image.Image:
    """An upright picture in mode RGB, RGBA or F (0..255)."""
    if isinstance(source, str) and is_url(source):
        return _open_url(source, cache)
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            raise ImageError(f"{source}: a folder, expected a picture")
        if not path.exists():
            raise ImageError(f"{source}: no such file")
        if not path.is_file():
            raise ImageError(f"{source}: not a regular file")
        data = path.read_bytes()
    except (OSError, ValueError) as fault:
        raise ImageError(f"{source}: cannot be read: {reason(fault)}") from fault
    return _decode(data, str(source))


def _open_url(url: str, cache: Path | None) -> Image.Image:
    path = cached_path(url, cache)
    if path.is_file():
        try:
            return _decode(path.read_bytes(), url)
        except (ImageError, OSError):
            path.unlink(missing_ok=True)
    data = fetch_picture(url)
    picture = _decode(data, url)  # only what is a picture goes into the cache
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data)
    except (OSError, ImageError):
        pass  # a cache that cannot be written is no reason to stop
    return picture


def _decode(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name}: the file is empty")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formats = [f for f in _FORMATS if f in Image.OPEN]
            picture: Image.Image = Image.open(io.BytesIO(data), formats=formats)
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            return _to_known_mode(picture)
    except UnidentifiedImageError as fault:
        raise ImageError(f"{name}: not a picture, or of an unknown kind") from fault
    except Image.DecompressionBombError as fault:
        raise ImageError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels") from fault
    except Exception as fault:  # decoders raise whatever a broken file makes them raise
        raise ImageError(f"{name}: a damaged picture: {reason(fault)}") from fault


def _to_known_mode(picture: Image.Image) -> Image.Image:
    if _DEEP.fullmatch(picture.mode):
        values: Floats = np.asarray(picture).astype(np.float32)
        if picture.mode == "F":
            values = np.nan_to_num(values)
            values = values * np.float32(255 if values.max() <= 1 else 1)
        elif picture.mode != "I" or values.max() > 255:
            values = (values / 65535 * 255).astype(np.float32)
        return Image.fromarray(np.clip(values, 0, 255))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("RGB")


def _flatten(picture: Image.Image, background: Color) -> Image.Image:
    """Without alpha: RGB, or F for deep greys."""
    if picture.mode != "RGBA":
        return picture
    color = tuple(int(c * 255 + 0.5) for c in background)
    below = Image.new("RGBA", picture.size, (*color, 255))
    return Image.alpha_composite(below, picture).convert("RGB")


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
            with Image.open(path, formats=["PNG"]) as image:
                assert isinstance(image, PngImagePlugin.PngImageFile)
                return {str(key): str(value) for key, value in image.text.items()}
    except UnidentifiedImageError as fault:
        raise ImageError(f"{path}: not a PNG file") from fault
    except Exception as fault:  # decoders raise whatever a broken file makes them raise
        raise ImageError(f"{path}: cannot be read: {reason(fault)}") from fault
