"""The Hugging Face hub: downloads from a local server, the cache afterwards, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from safetensors.torch import save_file

from clipig.encoders import load, resolve
from clipig.encoders.hub import find_snapshot, hub_cache, split_revision
from clipig.errors import EncoderError
from tests.support.hub_server import COMMIT, hub_server
from tests.support.tiny_checkpoints import ROOT, State, own_cache, state

pytest.importorskip("huggingface_hub", reason="the extra clipig[hf] is not installed")
__all__ = ["own_cache", "state"]

CONFIG = {
    "model_cfg": {
        "embed_dim": 32, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 128, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1,
                     "layers": 2},
    },
    "preprocess_cfg": {},
}


@pytest.fixture
def published(tmp_path: Path, state: State) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    save_file(
        {k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"not asked for")
    (folder / "README.md").write_text("not asked for")
    return folder


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads the environment when it is imported."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "HF_HUB_DISABLE_XET": "1", **environment},
        check=False,
    )


LOAD = """
    from clipig.encoders import load, resolve
    from clipig.errors import EncoderError
    seen = []
    try:
        info = resolve("hf-hub:org/name", progress=lambda *at: seen.append(at))
        encoder = load(info)
        print(info.revision, info.activation, info.size, encoder.encode_text(["a cat"]).shape[1])
        print(seen[-1][0] == seen[-1][1], all(a[0] <= b[0] for a, b in zip(seen, seen[1:])))
    except EncoderError as fault:
        print("fault:", fault)
"""


def test_a_repository_is_downloaded_and_pinned_and_found_offline_afterwards(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_server(published) as (address, server):
        done = run(LOAD, HF_ENDPOINT=address)
        assert done.stdout.split() == [COMMIT, "quick_gelu", "32", "32", "True", "True"], done
        assert done.stderr == ""
        fetched = {line.rsplit("/", 1)[-1] for line in server.asked if "/resolve/" in line}
    assert fetched == {"open_clip_config.json", "open_clip_model.safetensors"}
    snapshot = find_snapshot("org/name")
    assert snapshot is not None and snapshot.revision == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    info = resolve("org/name")  # the server is gone
    assert load(info).info.revision == COMMIT
    assert resolve(f"hf-hub:org/name@{COMMIT}").checksum == info.checksum


def test_a_cut_connection_is_resumed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_server(published) as (address, server):
        server.cut = 1
        done = run(LOAD, HF_ENDPOINT=address)
        assert done.stdout.startswith(COMMIT), done


def test_bytes_that_do_not_fit_the_checksum_are_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_server(published) as (address, server):
        server.damage = True
        done = run(LOAD, HF_ENDPOINT=address)
        assert "damaged: its sha256 is" in done.stdout
        assert done.stdout.count("\n") == 1
        server.damage = False
        assert run(LOAD, HF_ENDPOINT=address).stdout.startswith(COMMIT)


def test_a_download_that_was_interrupted_is_completed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_server(published) as (address, _):
        assert run(LOAD, HF_ENDPOINT=address).stdout.startswith(COMMIT)
        snapshot = find_snapshot("org/name")
        assert snapshot is not None
        (snapshot.folder / "open_clip_model.safetensors").unlink()
        with pytest.raises(EncoderError, match="not complete"):
            resolve("org/name")
        assert run(LOAD, HF_ENDPOINT=address).stdout.startswith(COMMIT)


def test_offline_a_repository_that_is_not_here_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for variable in ("HF_HUB_OFFLINE", "CLIPIG_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        with pytest.raises(EncoderError, match=r"not in .*hub, and downloads are switched off"):
            resolve("hf-hub:org/name")
        monkeypatch.delenv(variable)
    with pytest.raises(EncoderError, match=r"unknown model 'org/name'.*hf-hub:org/name"):
        resolve("org/name")


def test_without_the_package_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderError, match=r"pip install clipig\[hf\]"):
        resolve("hf-hub:org/name")


def test_names_that_are_no_repository_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hf-hub:", "hf-hub:org", "hf-hub:../..", "hf-hub:org/../x", "hf-hub:a/b/c",
                 "hf-hub:org/name@../../etc"):
        with pytest.raises(EncoderError, match="expected hf-hub:ORG/NAME"):
            split_revision(name)
    assert split_revision("hf-hub:org/na.me@v1.0") == ("org/na.me", "v1.0")
    monkeypatch.setenv("HF_HOME", "/x")
    assert hub_cache() == Path("/x/hub")
