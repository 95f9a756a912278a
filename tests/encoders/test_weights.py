"""The download of weights, from a server in a thread."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clipig import web
from clipig.encoders import load, resolve, weights
from clipig.errors import EncoderError, ImageError
from tests.support.tiny_checkpoints import ROOT, State, own_cache, publish, state

__all__ = ["own_cache", "state"]


class _Handler(http.server.BaseHTTPRequestHandler):
    content: ClassVar[bytes] = b""
    mode: ClassVar[str] = "good"
    asked: ClassVar[list[str | None]] = []
    over: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        content, first = self.content, 0
        if self.mode == "missing":
            self.send_error(404)
            return
        if self.mode == "busy" and len(self.asked) < 3:
            self.send_error(503)
            return
        if self.mode == "slow headers":
            for letter in b"HTTP/1.0 200 OK":
                if self.over.wait(0.05):
                    return
                with contextlib.suppress(OSError):
                    self.wfile.write(bytes([letter]))
            return
        if self.mode in ("endless", "drip"):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.over.is_set():
                    self.wfile.write(bytes(1 << 16 if self.mode == "endless" else 1))
                    self.over.wait(0.01 if self.mode == "drip" else 0)
            return
        if asked and self.mode != "no ranges":
            first = int(asked.removeprefix("bytes=").split("-")[0])
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        else:
            self.send_response(200)
        content = content[first:]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.mode in ("cut", "no ranges") and len(self.asked) < 3:
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Handler]]:
    _Handler.mode, _Handler.asked, _Handler.content = "good", [], bytes(range(256)) * 4096
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("CLIPIG_MODEL_URL", f"http://127.0.0.1:{running.server_port}/models/")
    _Handler.over.clear()
    yield _Handler
    _Handler.over.set()
    running.shutdown()
    running.server_close()
    thread.join()


def fetch(target: Path, content: bytes, **options: Any) -> Path:
    url = weights.model_url("RN50")
    return web.download(url, target, hashlib.sha256(content).hexdigest(), backoff=0, **options)


def test_download_reports_progress_and_leaves_only_the_file(
    server: type[_Handler], tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "deep" / "model.pt"
    path = fetch(target, server.content, progress=lambda *at: seen.append(at))
    assert path == target
    assert path.read_bytes() == server.content
    assert seen[-1] == (len(server.content), len(server.content))
    assert {p.name for p in target.parent.iterdir()} == {"model.pt", "model.pt.lock"}
    fetch(target, server.content)
    assert len(server.asked) == 1


def test_a_cut_connection_is_resumed(server: type[_Handler], tmp_path: Path) -> None:
    server.mode = "cut"
    path = fetch(tmp_path / "m.pt", server.content)
    assert path.read_bytes() == server.content
    half = len(server.content) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_part_of_an_earlier_process_is_resumed(server: type[_Handler], tmp_path: Path) -> None:
    (tmp_path / "m.pt.part").write_bytes(server.content[:1000])
    assert fetch(tmp_path / "m.pt", server.content).read_bytes() == server.content
    assert server.asked == ["bytes=1000-"]
    (tmp_path / "n.pt.part").write_bytes(server.content)  # complete, but never renamed
    assert fetch(tmp_path / "n.pt", server.content).read_bytes() == server.content


@pytest.mark.parametrize("size", [1000, 1 << 20, 3 << 20])
def test_a_part_of_something_else_is_thrown_away(
    server: type[_Handler], tmp_path: Path, size: int
) -> None:
    (tmp_path / "m.pt.part").write_bytes(b"x" * size)
    assert fetch(tmp_path / "m.pt", server.content).read_bytes() == server.content


def test_a_server_without_ranges_starts_again(server: type[_Handler], tmp_path: Path) -> None:
    server.mode = "no ranges"
    assert fetch(tmp_path / "m.pt", server.content).read_bytes() == server.content


def test_a_wrong_checksum_leaves_nothing(server: type[_Handler], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="checksum"):
        fetch(tmp_path / "m.pt", b"something else")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.pt.lock"]


def test_faults_of_the_server(server: type[_Handler], tmp_path: Path) -> None:
    server.mode = "missing"
    with pytest.raises(EncoderError, match="404"):
        fetch(tmp_path / "m.pt", server.content)
    assert len(server.asked) == 1  # asking again would not help
    server.mode, server.asked = "busy", []
    assert fetch(tmp_path / "m.pt", server.content).exists()
    assert len(server.asked) == 3


def test_refused_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPIG_MODEL_URL", "http://127.0.0.1:9")
    with pytest.raises(EncoderError, match=r"refused.*4 attempts.*--model embedded"):
        weights.fetch_weights("RN50", backoff=0)
    monkeypatch.setenv("CLIPIG_MODEL_URL", "file:///etc")
    with pytest.raises(EncoderError, match="only http"):
        weights.fetch_weights("RN50", backoff=0)


def test_disk_full_and_unwritable(
    server: type[_Handler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EncoderError, match="cannot be written"):
        fetch(tmp_path / "file" / "m.pt", server.content)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(web.os, "fsync", full)
    with pytest.raises(EncoderError, match="disk is full"):
        fetch(tmp_path / "m.pt", server.content)
    assert not (tmp_path / "m.pt").exists()


def test_two_downloads_at_once_make_one(server: type[_Handler], tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=fetch, args=(tmp_path / "m.pt", server.content)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "m.pt").read_bytes() == server.content
    assert len(server.asked) == 1


def test_a_holder_of_the_lock_that_dies_lets_go(server: type[_Handler], tmp_path: Path) -> None:
    code = f"""if True:
        import filelock
        with filelock.FileLock({str(tmp_path / "m.pt.lock")!r}):
            print("mine", flush=True)
            input()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"mine"
        thread = threading.Thread(target=fetch, args=(tmp_path / "m.pt", server.content))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not server.asked
        other.kill()
        thread.join()
    assert (tmp_path / "m.pt").read_bytes() == server.content


def test_an_endless_transfer_stops_at_the_limit(server: type[_Handler], tmp_path: Path) -> None:
    server.mode = "endless"
    with pytest.raises(EncoderError, match=r"expected at most 3 MB"):
        fetch(tmp_path / "m.pt", server.content, limit=3 << 20)
    assert (tmp_path / "m.pt.part").stat().st_size <= 3 << 20
    server.mode = "good"
    with pytest.raises(EncoderError, match="expected at most 0 MB"):
        fetch(tmp_path / "n.pt", server.content, limit=1000)
    assert not (tmp_path / "n.pt.part").exists()


def test_a_transfer_that_is_too_slow_is_given_up(
    server: type[_Handler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "DEADLINE", 0.05)
    monkeypatch.setattr(web, "MIN_RATE", 1 << 40)
    server.mode = "drip"
    with pytest.raises(EncoderError, match=r"slower than .* \(after 2 attempts\)"):
        fetch(tmp_path / "m.pt", server.content, attempts=2)


def test_slow_headers_are_given_up(
    server: type[_Handler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "DEADLINE", 0.2)
    server.mode = "slow headers"
    with pytest.raises(EncoderError, match="not complete after"):
        fetch(tmp_path / "m.pt", server.content, attempts=1)
    with pytest.raises(ImageError, match="not complete after"):
        web.fetch_picture(weights.model_url("RN50"), deadline=0.2)


def test_from_name_to_encoder_through_the_download(
    server: type[_Handler], tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = publish(tmp_path / "published.pt", state, monkeypatch)
    info = resolve("auto")
    assert (info.name, "can be downloaded" in info.reason) == ("ViT-B/32", True)
    seen: list[int] = []
    encoder = load(info, progress=lambda done, _: seen.append(done))
    assert encoder.info.reason == info.reason
    assert seen[-1] == len(server.content)
    assert (tmp_path / "cache" / "models" / "ViT-B-32.pt").exists()
    assert "weights are in" in resolve("auto").reason
