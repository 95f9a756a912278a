"""A server in a thread that answers as the Hugging Face hub does, for one repository."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Serves the files of `folder` as the repository `org/name`."""

    folder: ClassVar[Path]
    asked: ClassVar[list[str]] = []
    damage: ClassVar[bool] = False
    """whether the bytes differ from the checksums"""
    cut: ClassVar[int] = 0
    """how many answers end half-way"""

    def _checksum(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _about(self) -> bytes:
        files = sorted(p for p in self.folder.iterdir() if p.is_file())
        siblings = [
            {"rfilename": p.name, "size": p.stat().st_size,
             "lfs": {"sha256": self._checksum(p), "size": p.stat().st_size, "pointerSize": 1}}
            for p in files
        ]
        return json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode()

    def _answer(self, body: bool) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/org/name"):
            data = self._about()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        path = self.folder / self.path.rsplit("/", 1)[-1]
        if not self.path.startswith(f"/org/name/resolve/{COMMIT}/") or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, etag = path.read_bytes(), self._checksum(path)
        if self.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if not body:
            return
        rest = data[first:]
        if self.cut and path.suffix == ".safetensors":
            type(self).cut -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_server(folder: Path) -> Iterator[tuple[str, type[HubHandler]]]:
    """Serve a folder; gives the address and the handler's class, whose fields can be set."""
    HubHandler.folder, HubHandler.asked = folder, []
    HubHandler.damage, HubHandler.cut = False, 0
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", HubHandler
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
