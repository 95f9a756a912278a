"""What is found on a disk, and what `auto` makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipig.encoders import load, resolve, weights
from clipig.encoders.discovery import discover
from clipig.encoders.known import FAMILIES, family_of
from tests.encoders.test_hub import CONFIG
from tests.support.tiny_checkpoints import State, own_cache, publish, state

__all__ = ["own_cache", "state"]
COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def empty_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_CACHE", "XDG_CACHE_HOME", "COMFYUI_PATH", "HF_HUB_OFFLINE",
                     "CLIPIG_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(weights, "_probe", lambda *_: "connection refused")


def repository(tmp_path: Path, name: str, state: State) -> Path:
    """A repository of open_clip's layout in the cache of the hub."""
    home = tmp_path / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    folder = home / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    tensors = {k: v.contiguous() for k, v in state.items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    return folder


def towers(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole model among ComfyUI's text encoders."""
    folder = tmp_path / "ComfyUI" / "models" / "text_encoders"
    folder.mkdir(parents=True)
    torch.save(state, folder / "ViT-B-32-whole.pt")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "ComfyUI"))


def test_nothing_here_and_no_network_is_the_embedded_model() -> None:
    info = resolve("auto")
    assert info.name == "embedded"
    assert "no other model was found" in info.reason and "refused" in info.reason
    assert discover() == []


def test_nothing_here_but_a_network_is_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_probe", lambda *_: None)
    info = resolve("auto")
    assert (info.name, "can be downloaded" in info.reason) == ("ViT-B/32", True)


def test_offline_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_probe", lambda *_: pytest.fail("the network was asked"))
    for variable in ("CLIPIG_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        assert "switched off" in resolve("auto").reason
        monkeypatch.delenv(variable)


def test_the_cache_of_clip(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "home" / ".cache" / "clip" / "ViT-B-32.pt", state, monkeypatch)
    info = resolve("auto")
    assert info.name == "ViT-B/32" and ".cache/clip" in info.reason


def test_the_cache_of_hugging_face(tmp_path: Path, state: State) -> None:
    repository(tmp_path, "chs20/fare2-clip", state)
    info = resolve("auto")
    assert info.name == "chs20/fare2-clip" and info.revision == COMMIT
    assert "gradients to pixels follow shapes" in info.reason
    assert load(info).encode_text(["a cat"]).shape == (1, 32)


def test_the_folders_of_comfyui(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers(tmp_path, state, monkeypatch)
    with pytest.warns(UserWarning, match="nothing says its activation"):
        info = resolve("auto")
    assert info.name.endswith("text_encoders/ViT-B-32-whole.pt")
    assert info.reason.startswith("auto: ") and "was taken" in info.reason


def test_of_two_caches_the_model_that_draws_better(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "home" / ".cache" / "clip" / "ViT-B-32.pt", state, monkeypatch)
    repository(tmp_path, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", state)
    assert resolve("auto").name == "ViT-B/32"
    repository(tmp_path, "chs20/tecoa2-clip", state)
    info = resolve("auto")
    assert info.name == "chs20/tecoa2-clip" and "best of 3 models" in info.reason


def test_a_model_of_unknown_origin_comes_after_the_download_and_before_embedded(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, "somebody/finetune", state)
    assert resolve("auto").name == "somebody/finetune"
    monkeypatch.setattr(weights, "_probes", {})
    monkeypatch.setattr(weights, "_probe", lambda *_: None)
    assert resolve("auto").name == "ViT-B/32"


def test_a_download_that_is_not_complete_is_listed_with_its_fault_and_not_chosen(
    tmp_path: Path, state: State
) -> None:
    folder = repository(tmp_path, "chs20/fare4-clip", state)
    (folder / "open_clip_model.safetensors").unlink()
    (found,) = discover()
    assert "not complete" in found.fault and "not complete" in found.summary()
    assert resolve("auto").name == "embedded"


def test_other_repositories_and_single_towers_are_left_out(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path, "meta/llama", state)
    (folder / "open_clip_config.json").rename(folder / "config.json")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    towers(tmp_path, {"text_projection.weight": torch.zeros(2, 2)}, monkeypatch)
    assert discover() == []
    shutil.rmtree(tmp_path / "hf")
    assert discover() == []


@pytest.mark.parametrize(("name", "title"), [
    ("chs20/fare2-clip", "FARE"), ("LEAF-CLIP/OpenCLIP-ViT-H-FARE2", "FARE"),
    ("chs20/tecoa4-clip", "FARE"), ("openai/clip-vit-base-patch16", "OpenAI CLIP ViT-B/16"),
    ("openai/clip-vit-base-patch32", "OpenAI CLIP ViT-B/32"),
    ("openai/clip-vit-large-patch14-336", "OpenAI CLIP ViT-L/14"),
    ("RN50x4", "OpenAI CLIP ResNet"), ("ViT-L/14@336px", "OpenAI CLIP ViT-L/14"),
    ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "LAION"), ("apple/DFN2B-CLIP-ViT-B-16", "DFN"),
    ("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "DataComp"),
    ("facebook/metaclip-b32-400m", "MetaCLIP"), ("google/siglip2-base-patch16-224", "SigLIP 2"),
    ("timm/ViT-B-16-SigLIP", "SigLIP"), ("apple/MobileCLIP2-S0", "MobileCLIP"),
    ("timm/PE-Core-B-16", "PE-Core"),
])
def test_families_are_told_by_their_names(name: str, title: str) -> None:
    family = family_of(name)
    assert family is not None and family.title.startswith(title)


def test_every_family_has_a_reason_and_unknown_names_have_none() -> None:
    check: Callable[[str], bool] = bool
    assert all(check(family.reason) and check(family.licence) for family in FAMILIES)
    assert family_of("somebody/finetune") is None
