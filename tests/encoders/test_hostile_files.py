"""Damaged, partial, mixed and hostile files: one clear error each, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from clipig.encoders import load, resolve
from clipig.errors import EncoderError
from tests.encoders.test_encoders import script_archive
from tests.support.tiny_checkpoints import State, own_cache, state

__all__ = ["own_cache", "state"]
pytestmark = pytest.mark.timeout(60)


def refused(name: str | Path, message: str) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        load(resolve(str(name), activation="quick_gelu"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def huge(*shape: int) -> torch.Tensor:
    """A tensor of any size whose file has a few bytes."""
    return torch.zeros(1).expand(shape)


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "texts as long as a book": ({"positional_embedding": huge(10**7, 64)}, "larger than its bytes"),
    "few tokens": ({"token_embedding.weight": torch.zeros(9, 64)}, "9 tokens, expected the 49408"),
    "text width": ({"positional_embedding": torch.zeros(77, 32)}, r"shape \[77, 32\], expected"),
    "one text position": ({"positional_embedding": torch.zeros(1, 64)}, "1 positions, expected 3"),
    "many patches": ({"visual.positional_embedding": huge(10**8 + 1, 128)}, "larger than its"),
    "no patches": ({"visual.positional_embedding": torch.zeros(1, 128)}, "no square grid"),
    "another width of the patches": ({"visual.conv1.weight": torch.zeros(64, 3, 8, 8)}, "shape"),
    "sparse": ({"visual.proj": torch.eye(128, 32).to_sparse()}, "sparse"),
    "whole numbers": ({"visual.proj": torch.ones(128, 32, dtype=torch.int64)}, "expected floats"),
    "eight bits": ({"visual.proj": torch.ones(128, 32).to(torch.float8_e4m3fn)}, "8 bits"),
    "no values": ({"visual.proj": torch.empty(128, 32, device="meta")}, "no values|larger|damaged"),
    "many layers": (
        {f"transformer.resblocks.{i}.ln_1.weight": torch.zeros(1) for i in range(300)},
        "302 layers, expected at most 256|300 layers",
    ),
    "two layouts": ({"vision_model.post_layernorm.weight": torch.zeros(3)}, "mixed"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_do_not_make_a_model(kind: str, tmp_path: Path, state: State) -> None:
    changed, message = TENSORS[kind]
    torch.save({**state, **changed}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", message)


def test_more_tensors_than_any_model_has(tmp_path: Path) -> None:
    save_file({f"a.{i}": torch.zeros(1) for i in range(20_001)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "20001 tensors, expected at most 20000")


def test_headers_of_safetensors(tmp_path: Path) -> None:
    def write(header: Any) -> None:
        data = json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)

    for header in (
        {"text_projection": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}},
        {"text_projection": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 50]}},
        [], {"a": 3}, {"text_projection": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
    ):
        write(header)
        refused(tmp_path / "a.safetensors", "damaged, or no safetensors")
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    refused(tmp_path / "a.safetensors", "damaged, or no safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "bin"])
def test_special_files_are_not_opened(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"fifo.{suffix}")
    refused(tmp_path / f"fifo.{suffix}", "found a .*, expected a file")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    refused(tmp_path / f"zero.{suffix}", "found a .*, expected a file")


# TorchScript archives


def archive(path: Path, tree: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/constants.pkl", b"")
        file.writestr("a/data.pkl", tree)
        for name, data in entries.items():
            file.writestr(f"a/{name}", data)
    return path


def node(state: bytes) -> bytes:
    """Opcodes that build a module of the archive with a state."""
    return b"c__torch__\nM\n)\x81" + state + b"b"


def test_shared_children_are_not_walked_for_ever(tmp_path: Path) -> None:
    """Sixty modules that each hold the one before twice: 2^60 paths in 1.6 KB."""
    data = io.BytesIO()
    data.write(b"\x80\x02" + node(b"}"))
    for i in range(60):
        put = b"r" + struct.pack("<I", i)
        get = b"j" + struct.pack("<I", i)
        data.write(put + b"0" + node(b"}(X\x01\x00\x00\x00a" + get + b"X\x01\x00\x00\x00b" + get
                                     + b"u"))
    data.write(b".")
    assert len(data.getvalue()) < 4000
    refused(archive(tmp_path / "a.pt", data.getvalue()), "too many or nested too deep")


def test_a_memo_index_reserves_no_memory(tmp_path: Path) -> None:
    data = b"\x80\x02" + node(b"}") + b"r" + struct.pack("<I", 2**31) + b"."
    refused(archive(tmp_path / "a.pt", data), "memo index is too large")
    refused(archive(tmp_path / "b.pt", b"\x80\x02}p99999999999\n."), "memo index is too large")


def nested() -> bytes:
    data: Any = []
    for _ in range(50_000):
        data = [data]
    out = b"\x80\x02" + b"(" * 50_000 + b"l" * 50_000 + b"."
    del data
    return out


ARCHIVES: dict[str, Callable[[Path, Path], Any]] = {
    "nested lists": lambda path, _: archive(path, nested()),
    "no pickle": lambda path, _: archive(path, b"nothing"),
    "huge number": lambda path, _: archive(path, b"\x80\x02\x8b\xff\xff\xff\x7f."),
    "a set of the tree": lambda path, _: archive(path, pickle.dumps({1, 2})),
    "encrypted": lambda path, source: path.write_bytes(flag(source, 0x1)),
    "compressed by an unknown method": lambda path, source: path.write_bytes(method(source, 99)),
    "compressed, but not really": lambda path, source: path.write_bytes(method(source, 8)),
    "of an unknown version": lambda path, source: path.write_bytes(version(source)),
}


def _central(data: bytearray) -> list[int]:
    found, start = [], 0
    while (at := data.find(b"PK\x01\x02", start)) >= 0:
        found.append(at)
        start = at + 4
    return found


def flag(source: Path, bits: int) -> bytes:
    data = bytearray(source.read_bytes())
    for at in _central(data):
        data[at + 8] |= bits
    return bytes(data)


def method(source: Path, number: int) -> bytes:
    data = bytearray(source.read_bytes())
    for at in _central(data):
        struct.pack_into("<H", data, at + 10, number)
    return bytes(data)


def version(source: Path) -> bytes:
    data = bytearray(source.read_bytes())
    for at in _central(data):
        struct.pack_into("<H", data, at + 6, 255)
    return bytes(data)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_that_are_no_archives(kind: str, tmp_path: Path) -> None:
    source = script_archive(tmp_path / "whole.pt")
    ARCHIVES[kind](tmp_path / "a.pt", source)
    refused(tmp_path / "a.pt", "damaged|no OpenAI-style|no tensors")


# Folders


def folder(path: Path, config: Any, name: str = "config.json") -> Path:
    path.mkdir(exist_ok=True)
    (path / name).write_text(config if isinstance(config, str) else json.dumps(config))
    return path


CONFIGS: dict[str, tuple[Any, str]] = {
    "no mapping": ([1], "a list, expected a mapping"),
    "damaged": ("{", "no JSON"),
    "nested": ("[" * 100_000, "no JSON"),
    "another model": ({"model_type": "llama"}, "model_type 'llama', expected one of clip"),
    "one tower": ({"model_type": "clip_vision_model"}, "only one tower"),
    "heads": (
        {"model_type": "clip", "vision_config": {"num_attention_heads": "x"}}, "heads is 'x'"),
    "a million heads": (
        {"model_type": "clip", "text_config": {"num_attention_heads": 10**6}}, "heads is 1000000"),
    "odd heads": ({"model_type": "clip", "vision_config": {"num_attention_heads": 7}}, "7 heads"),
    "activation": (
        {"model_type": "clip", "vision_config": {"hidden_act": "relu"}}, "hidden_act .*relu"),
    "two activations": (
        {"model_type": "clip", "text_config": {"hidden_act": "gelu"}}, "gelu, quick_gelu"),
    "epsilon": ({"model_type": "clip", "vision_config": {"layer_norm_eps": "a"},
                 "text_config": {"layer_norm_eps": "a"}}, "layer_norm_eps"),
    "lists for towers": ({"model_type": "clip", "vision_config": [1]}, "heads cannot share"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_that_describe_no_model(kind: str, tmp_path: Path, state: State) -> None:
    config, message = CONFIGS[kind]
    path = folder(tmp_path / "model", config)
    save_file({k: v.contiguous() for k, v in state.items()}, path / "model.safetensors")
    refused(path, message)


def test_folders_that_are_not_complete(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", {"model_type": "clip"})
    refused(path, "not complete")
    (path / "model.safetensors").symlink_to(path / "blobs" / "missing")
    refused(path, "a link to a file that does not exist")
    (path / "model.safetensors").unlink()
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.sf"}}))
    refused(path, "2 of 2 shards are missing: model-1.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    refused(path, "no files of this folder")
    index.write_text(json.dumps({"weight_map": []}))
    refused(path, "no weight_map")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "a folder without config.json")


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", {"model_type": "clip"})
    names = ["model-1.safetensors", "model-2.safetensors"]
    for name in names:
        save_file({"a": torch.zeros(1)}, path / name)
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(path, "a is in another shard, too")


def test_a_damaged_blob_in_the_cache_of_the_hub(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--org--name"
    (home / "blobs").mkdir(parents=True)
    snapshot = folder(home / "snapshots" / "x", {"model_cfg": {}}, "open_clip_config.json") if (
        (home / "snapshots").mkdir() is None
    ) else home
    blob = home / "blobs" / ("0" * 64)
    save_file({k: v.contiguous() for k, v in state.items()}, blob)
    (snapshot / "open_clip_model.safetensors").symlink_to(blob)
    (snapshot / "open_clip_config.json").unlink()
    folder(snapshot, {"model_type": "clip"})
    (snapshot / "open_clip_model.safetensors").rename(snapshot / "model.safetensors")
    refused("hf-hub:org/name", "damaged: its sha256 is|heads cannot share")


# Two towers


def tower(path: Path, **tensors: torch.Tensor) -> Path:
    save_file({k.replace("__", "."): v for k, v in tensors.items()}, path)
    return path


def test_pairs_that_are_no_pair(tmp_path: Path) -> None:
    image = tower(
        tmp_path / "image.safetensors", visual_projection__weight=torch.zeros(4, 8),
        vision_model__embeddings__patch_embedding__weight=torch.zeros(8, 3, 4, 4),
    )
    words = {"text_model__embeddings__token_embedding__weight": torch.zeros(9, 8)}
    bare = tower(tmp_path / "clip_l.safetensors", **words)
    text = tower(tmp_path / "t.safetensors", **words, text_projection__weight=torch.zeros(5, 8))
    siglip = tower(
        tmp_path / "sigclip.safetensors", vision_model__head__probe=torch.zeros(1, 1, 8)
    )
    refused(f"{image}+{bare}", r"clip_l.*no text_projection.weight: this text encoder was made")
    refused(f"{image}+{text}", "4 dimensions, t.safetensors in 5: they are towers of different")
    refused(f"{text}+{image}", "found a text tower, expected the image tower")
    refused(f"{siglip}+{text}", "image tower of a SigLIP")
    refused(f"{image}+missing.safetensors", "no such file: missing.safetensors.*COMFYUI_PATH")


def test_the_nearest_tower_in_comfyui_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_ = tmp_path / "models" / "clip_vision"
    folder_.mkdir(parents=True)
    tower(folder_ / "clip_vision_h.safetensors", a=torch.zeros(1))
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    refused("clip_vision_g.safetensors+x.safetensors", r"mean clip_vision_h.safetensors\?")
