"""Pictures in and out, against Pillow, NumPy and values by hand."""

from __future__ import annotations

import errno
import http.server
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from clipig import images
from clipig import web as fetch
from clipig.errors import ImageError, OutputError
from clipig.files import reserve
from clipig.images import (
    load_image,
    load_rgba,
    read_metadata,
    save_indexed_png,
    save_png,
    to_pil,
)
from clipig.outputs.contact_sheet import contact_sheet, wrap_label


def gradient(width: int = 8, height: int = 6) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def as_bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# Loading


def test_load_is_exact_for_8_bit_rgb(tmp_path: Path) -> None:
    pixels = gradient()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_rgba_is_composited_on_white_or_a_given_background(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").min() == 1
    green = load_image(tmp_path / "a.png", background=(0, 1, 0))
    assert green[:, 0, 0].tolist() == [0, 1, 0]
    assert load_rgba(tmp_path / "a.png")[:, 0, 0].tolist() == [1, 0, 0, 0]
    Image.new("RGBA", (2, 2), (0, 0, 0, 51)).save(tmp_path / "b.png")
    assert load_image(tmp_path / "b.png")[0, 0, 0] == pytest.approx(0.8, abs=0.003)


def test_a_transparent_palette_is_composited_too(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    assert (load_image(tmp_path / "opaque.png")[:, 0, 0] * 255).tolist() == [10, 20, 30]
    assert load_image(tmp_path / "clear.png").min() == 1
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "la.png")
    assert load_image(tmp_path / "la.png").min() == 1


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(gradient(8, 4)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    loaded = load_image(tmp_path / "a.jpg")
    assert loaded.shape == (3, 8, 4)
    assert loaded[0, 0].mean() < 0.1
    assert loaded[0, -1].mean() > 0.9


def _reads_its_own(mode: str, path: Path) -> bool:
    """Whether Pillow can read what it writes (12 cannot, YCbCr as TIFF)."""
    try:
        Image.open(path).convert(mode).load()
    except OSError:
        return False
    return True


MODES = ["L", "1", "P", "CMYK", "YCbCr", "RGB", "LA", "RGBA"]


@pytest.mark.parametrize(("mode", "kind"), [*((m, "tif") for m in MODES), ("YCbCr", "jpg")])
def test_every_mode_of_a_white_picture_is_white(mode: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode).save(path)
    if not _reads_its_own(mode, path):
        with pytest.raises(ImageError, match="a damaged picture"):
            load_image(path)
        return
    loaded = load_image(path)
    assert loaded.shape == (3, 2, 3)
    assert loaded.min() > 0.98


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert load_image(tmp_path / "a.jpg")[:, 4, 4].tolist() == pytest.approx([1, 0, 0], abs=0.05)


def test_16_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    values = np.array([[0, 16384, 32768, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        loaded = load_image(tmp_path / name)
        assert loaded[1, 0].tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=1e-4)
        assert load_image(tmp_path / name, size=(2, 2)).shape == (3, 2, 2)
        assert load_rgba(tmp_path / name).shape == (4, 1, 4)


def test_float_tiff(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert load_image(tmp_path / "a.tif")[0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [1, 0, 0]


def test_crop_keeps_the_middle_and_the_aspect(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255  # the middle third is white
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", size=(10, 10)).min() == 1
    stretched = load_image(tmp_path / "a.png", size=(10, 10), fit="stretch")
    assert stretched[0, 5].tolist() == pytest.approx([0] * 3 + [1] * 4 + [0] * 3, abs=0.6)
    assert load_image(tmp_path / "a.png", size=(5, 20)).shape == (3, 5, 20)


def test_reduction_is_antialiased(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    small = load_image(tmp_path / "a.png", size=(32, 32))
    reference = Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)
    assert small.std() < 0.07  # 0.29 before; picking pixels would keep it
    expected = torch.from_numpy(np.array(reference)).permute(2, 0, 1) / 255
    assert (small - expected).abs().max() < 1 / 254


def write_bad_files(folder: Path) -> dict[str, Path]:
    good = as_bytes(Image.fromarray(gradient(64, 64)))
    contents = {
        "empty.png": b"",
        "text.png": b"this is no picture at all",
        "page.jpg": b"<!DOCTYPE html><html></html>",
        "truncated.png": good[: len(good) // 2],
        "truncated.jpg": as_bytes(Image.fromarray(gradient(64, 64)), "JPEG")[:400],
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    return {name: folder / name for name in [*contents, "folder.png", "missing.png"]}


def test_bad_files_raise_one_clear_error_that_names_them(tmp_path: Path) -> None:
    for name, path in write_bad_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (200, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="million pixels"):
        load_image(tmp_path / "a.png")
    monkeypatch.undo()
    header = as_bytes(Image.new("L", (1, 1)))
    huge = header[:16] + (60000).to_bytes(4, "big") * 2 + header[24:]
    import zlib

    huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4, "big") + huge[33:]
    (tmp_path / "huge.png").write_bytes(huge)
    with pytest.raises(ImageError, match="million pixels"):
        load_image(tmp_path / "huge.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="found a pipe"):
        load_image(tmp_path / "pipe.png")


# Saving


def test_rounding_to_8_bit_is_to_the_nearest() -> None:
    values = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 127.5 / 255, 1.0, 1.7, -3.0, float("nan")])
    pixels = np.asarray(to_pil(values.expand(3, 1, 8)))[0, :, 0]
    assert pixels.tolist() == [0, 0, 1, 128, 255, 255, 0, 0]


def test_round_trip_of_every_byte(tmp_path: Path) -> None:
    picture = (torch.arange(256) / 255).view(1, 16, 16).expand(3, -1, -1)
    path = save_png(picture, tmp_path / "a.png")
    assert torch.equal(load_image(path), picture)
    rgba = torch.cat([picture, picture[:1]])
    assert torch.equal(load_rgba(save_png(rgba, tmp_path / "b.png")), rgba)


def test_metadata_round_trip(tmp_path: Path) -> None:
    metadata = {
        "config": "targets:\n  - text: café\n",
        "seed": "42",
        "Título": "☃ 画 🐧",
        "empty": "",
        "long": "0123456789" * 200_000,
    }
    path = save_png(torch.zeros(3, 2, 2), tmp_path / "a.png", metadata)
    assert read_metadata(path) == metadata
    with pytest.raises(ImageError, match="keyword"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "b.png", {"k" * 80: "x"})
    with pytest.raises(ImageError, match="keyword"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "b.png", {"": "x"})


def test_metadata_of_bad_files(tmp_path: Path) -> None:
    for name, path in write_bad_files(tmp_path).items():
        with pytest.raises(ImageError, match=name):
            read_metadata(path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = [save_png(torch.full((3, 2, 2), i / 4), tmp_path / "a.png") for i in range(4)]
    assert [p.name for p in paths] == ["a.png", "a-2.png", "a-3.png", "a-4.png"]
    assert load_image(paths[0]).max() == 0
    again = save_png(torch.ones(3, 2, 2), paths[0], overwrite=True)
    assert again == paths[0]
    assert load_image(again).min() == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_many_writers_get_a_name_each(tmp_path: Path) -> None:
    found: list[Path] = []

    def write() -> None:
        for _ in range(4):
            found.append(save_png(torch.zeros(3, 1, 1), tmp_path / "a.png"))
            found.append(reserve(tmp_path / "a.png"))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == len(list(tmp_path.iterdir())) == 32


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "none" / "a.png")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="no space"):
        save_png(torch.zeros(3, 2, 2), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    names = [save_png(torch.zeros(3, 2, 2), tmp_path / "a.png").name for _ in range(2)]
    assert names == ["a.png", "a-2.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-2.png", "a.png"]
    assert load_image(tmp_path / "a.png").shape == (3, 2, 2)


def test_new_files_have_ordinary_rights(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = save_png(torch.zeros(3, 2, 2), tmp_path / "a.png")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_indexed_png(tmp_path: Path) -> None:
    palette = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0.5, 1]])
    indices = torch.tensor([[0, 1, 2], [2, 1, 0]])
    path = save_indexed_png(indices, palette, tmp_path / "a.png", {"seed": "1"})
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), indices.numpy())
    expected = torch.floor(palette[indices].permute(2, 0, 1) * 255 + 0.5) / 255
    assert torch.equal(load_image(path), expected)
    assert read_metadata(path) == {"seed": "1"}
    for wrong in (torch.tensor([[3]]), torch.tensor([[-1]]), torch.zeros(0, 2)):
        with pytest.raises(ImageError):
            save_indexed_png(wrong, palette, tmp_path / "b.png")


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    for shape in ((2, 2), (1, 2, 2), (3, 0, 2)):
        with pytest.raises(ImageError, match="shape"):
            save_png(torch.zeros(shape), tmp_path / "a.png")


# Pictures from the web


class _Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kind, status, data = "image/png", 200, as_bytes(Image.new("RGB", (4, 4), "blue"))
        if self.path.startswith("/gone"):
            status, kind, data = 404, "text/html", b"<html>gone</html>"
        elif self.path.startswith("/page"):
            kind, data = "text/html", b"<html>welcome</html>"
        elif self.path.startswith("/liar"):
            data = b"<html>not a picture</html>"
        elif self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.png")
            self.end_headers()
            return
        elif self.path.startswith("/there"):
            self.send_response(302)
            self.send_header("Location", "/picture.png")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) + 50 * self.path.startswith("/cut")))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("CLIPIG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    _Handler.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_picture_from_the_web_is_fetched_once(web: str) -> None:
    for _ in range(2):
        assert load_image(f"{web}/picture.png")[:, 0, 0].tolist() == [0, 0, 1]
    assert _Handler.asked == ["/picture.png"]


def test_a_damaged_cache_entry_is_fetched_again(web: str) -> None:
    load_image(f"{web}/picture.png")
    fetch.cached_path(f"{web}/picture.png").write_bytes(b"rubbish")
    load_image(f"{web}/picture.png")
    assert len(_Handler.asked) == 2


def test_addresses_with_other_letters(web: str) -> None:
    load_image(f"{web}/süß/画 1.png?größe=ä&b=%20")
    assert _Handler.asked == ["/s%C3%BC%C3%9F/%E7%94%BB%201.png?gr%C3%B6%C3%9Fe=%C3%A4&b=%20"]
    assert (
        fetch.to_ascii_url("HTTPS://Bücher.example/ü#x") == "https://xn--bcher-kva.example/%C3%BC"
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone.png", "404"),
        ("/page.png", "text/html"),
        ("/liar.png", "not a picture"),
        ("/cut.png", "cut"),
        ("/away.png", "no web address"),
    ],
)
def test_web_faults_are_errors_and_never_cached(web: str, path: str, message: str) -> None:
    for _ in range(2):
        with pytest.raises(ImageError, match=message) as caught:
            load_image(web + path)
        assert path in str(caught.value)
    assert len(_Handler.asked) == 2
    assert not fetch.cached_path(web + path).exists()


def test_redirections_within_the_web_are_followed(web: str) -> None:
    assert load_image(f"{web}/there.png").shape == (3, 4, 4)


def test_size_limit(web: str) -> None:
    with pytest.raises(ImageError, match="limit"):
        fetch.fetch_picture(f"{web}/picture.png", limit=10)


@pytest.mark.parametrize("url", ["ftp://x/a.png", "file:///etc/hosts", "http:///a.png"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ImageError):
        load_image(url)


def test_refused_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPIG_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ImageError, match="refused"):
        load_image("http://127.0.0.1:9/a.png")


# Contact sheets


def test_contact_sheet_layout() -> None:
    pictures = [torch.full((3, 20, 20), i / 4) for i in range(5)]
    sheet = contact_sheet(pictures, [f"number {i}" for i in range(5)], columns=3, gap=4)
    assert sheet.width == 4 + 3 * 24
    assert sheet.getpixel((4, 4)) == (0, 0, 0)
    assert sheet.getpixel((28 + 10, 4 + 10)) == (64, 64, 64)
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    plain = contact_sheet(pictures, columns=5, gap=4)
    assert plain.size == (4 + 5 * 24, 28)


def test_labels_are_drawn_wrapped_and_cut() -> None:
    text = "an elephant made of a very long list of things and more of them"
    lines = wrap_label(text, 100)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert wrap_label("", 100) == []
    assert wrap_label("short", 100) == ["short"]
    assert "".join(wrap_label("x" * 30, 100, lines=9)) == "x" * 30
    assert wrap_label("word", 1, lines=1)[0].endswith("…")
    ink = np.asarray(contact_sheet([torch.ones(3, 100, 100)], [text]))[108:]
    assert (ink < 100).sum() > 100


def test_labels_in_any_script_are_drawn() -> None:
    for text in ("piñata façade", "пингвин", "ペンギン", "🐧 penguin", "e\u0301", "a\x00b\ud800"):
        contact_sheet([torch.ones(3, 60, 60)], [text])


def test_contact_sheet_takes_mixed_pictures_and_refuses_nonsense() -> None:
    mixed = [torch.zeros(4, 10, 20), Image.new("RGB", (7, 30)), torch.ones(3, 3, 3)]
    assert contact_sheet(mixed, columns=10, cell=16, gap=0).size == (48, 16)
    with pytest.raises(ImageError):
        contact_sheet([])
    with pytest.raises(ImageError):
        contact_sheet(mixed, ["one"])


def test_float_values_mean_0_to_1_whatever_the_largest_is(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5], [1.0, 4.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "f.tiff")
    with pytest.warns(UserWarning, match="beyond 0..1 are clipped"):
        image = load_image(tmp_path / "f.tiff")
    assert image[0].tolist() == [[0.0, 0.5], [1.0, 1.0]]


def test_the_clear_value_of_a_16_bit_grey_png_is_transparent(tmp_path: Path) -> None:
    values = np.array([[0, 30000], [65535, 30000]], np.uint16)
    Image.fromarray(values).save(tmp_path / "g.png", transparency=30000)
    image = load_rgba(tmp_path / "g.png")
    assert image[3].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert load_image(tmp_path / "g.png")[0].tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_large_pictures_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipig.images.LARGE", 10)
    save_png(torch.zeros(3, 8, 8), tmp_path / "a.png")
    inside, most, plain = 0, 0, Image.Image.convert

    def counted(*args: object, **more: object) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        return plain(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "convert", counted)
    threads = [threading.Thread(target=load_image, args=(tmp_path / "a.png",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
