"""Names, checkpoint files, OpenAI's architecture, open_clip; without the network."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from clipig.encoders import load, resolve, weights
from clipig.encoders.architecture import MEAN, STD, expected_shapes, infer_architecture
from clipig.encoders.blank import blank
from clipig.encoders.clip_package import import_clip, parse_version
from clipig.encoders.names import OPENAI, model_names
from clipig.encoders.openai import OpenAIEncoder
from clipig.encoders.precision import pick_precision, to_dtype
from clipig.encoders.protocol import Encoder, EncoderInfo
from clipig.errors import EncoderError
from tests.support.tiny_checkpoints import ROOT, State, own_cache, publish, random_checkpoint, state
from tests.support.tiny_encoder import TinyEncoder

__all__ = ["own_cache", "state"]
NO_OPEN_CLIP = "the extra clipig[open_clip] is not installed"
TINY = ("tiny-ViT", "tiny-RN")
INFO = EncoderInfo("test", 0, 0)


@pytest.fixture(scope="module", params=TINY)
def model(request: pytest.FixtureRequest) -> Any:
    """The `clip` package's own model, the reference for ours."""
    return random_checkpoint.build_random_model(request.param).requires_grad_(False)


def reference_embedding(model: Any, views: Tensor) -> Tensor:
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (MEAN, STD))
    return F.normalize(model.encode_image((views - mean) / std), dim=-1)


def gradient(encode: Callable[[Tensor], Tensor], views: Tensor, target: Tensor) -> Tensor:
    views = views.clone().requires_grad_()
    return torch.autograd.grad((encode(views) * target).sum(), views)[0]


# The architecture, against the `clip` package


def test_same_function_and_gradient_as_the_clip_package(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    size, width = encoder.info.size, encoder.info.width
    views = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    target = torch.randn(3, width, generator=torch.Generator().manual_seed(2))
    expected = reference_embedding(model, views)
    found = encoder.encode_image(views)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5
    assert (found.norm(dim=-1) - 1).abs().max() < 1e-5
    slope = gradient(lambda v: reference_embedding(model, v), views, target)
    ours = gradient(encoder.encode_image, views, target)
    # A ReLU near zero may fall to either side, so single pixels can differ.
    assert F.cosine_similarity(slope.flatten(), ours.flatten(), dim=0) > 0.99999


def test_texts_as_in_the_clip_package(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    texts = ["a penguin made of piano", "Ein Pinguin, gemacht aus Klavier!", "🐧", "x " * 75]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = F.normalize(model.encode_text(import_clip().tokenize(texts)), dim=-1)
    found = encoder.encode_text(texts)
    assert (found - expected).abs().max() < 1e-5
    assert not found.requires_grad
    assert torch.allclose(encoder.encode_text(texts[1:2]), found[1:2], atol=1e-5)
    assert encoder.encode_text([]).shape == (0, encoder.info.width)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(model: Any, precision: str) -> None:
    full = OpenAIEncoder(model.state_dict(), INFO)
    half = OpenAIEncoder(model.state_dict(), INFO, precision=precision)
    assert half.dtype == to_dtype(precision)
    views = torch.rand(2, 3, full.info.size, full.info.size)
    target = full.encode_text(["a penguin"]).expand(2, -1)
    found = half.encode_image(views)
    assert found.dtype == torch.float32
    assert (found - full.encode_image(views)).abs().max() < 0.01
    slopes = [gradient(e.encode_image, views, target).flatten() for e in (full, half)]
    assert F.cosine_similarity(slopes[0], slopes[1], dim=0) > 0.97
    assert torch.equal(half.encode_text(["a cat"]), full.encode_text(["a cat"]))


def test_fp16_gradients_do_not_vanish(state: State) -> None:
    encoders = [OpenAIEncoder(state, INFO, precision=p) for p in ("fp32", "fp16")]
    views = torch.rand(2, 3, 32, 32)
    tiny = torch.full((2, 32), 1e-9) * torch.linspace(-1, 1, 32)
    full, half = (gradient(e.encode_image, views, tiny).flatten() for e in encoders)
    assert F.cosine_similarity(full * 1e9, half * 1e9, dim=0) > 0.99


def test_a_row_does_not_depend_on_its_neighbours(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    views = torch.rand(4, 3, encoder.info.size, encoder.info.size)
    alone = torch.cat([encoder.encode_image(v[None]) for v in views])
    assert torch.allclose(encoder.encode_image(views), alone, atol=1e-5)


def test_weights_are_frozen_and_nothing_trains(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    for module in (encoder._tower, encoder._text):
        assert not any(p.requires_grad for p in module.parameters())
        assert not any(m.training for m in module.modules())
    views = torch.rand(1, 3, encoder.info.size, encoder.info.size, requires_grad=True)
    encoder.encode_image(views).sum().backward()
    assert views.grad is not None
    assert all(p.grad is None for p in encoder._tower.parameters())
    assert not encoder.encode_image(views.detach()).requires_grad


def test_features_are_maps_with_gradient(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    size = encoder.info.size
    views = torch.rand(2, 3, size, size, requires_grad=True)
    found = encoder.features(views)
    if encoder.architecture == "ViT":
        assert [tuple(f.shape) for f in found] == [(2, 128, size // 8, size // 8)] * 4
        mean, std = (torch.tensor(c).view(3, 1, 1) for c in (MEAN, STD))
        expected = model.visual.conv1((views - mean) / std)
        assert torch.allclose(found[0], expected, atol=1e-5)
    else:
        shapes = [(2, 8, 24, 24), (2, 32, 24, 24), (2, 64, 12, 12)]
        assert [tuple(f.shape) for f in found] == shapes
    assert torch.autograd.grad(sum(f.square().mean() for f in found), views)[0].abs().sum() > 0


def pull_of_maps(encoder: Any, views: Tensor, joint: bool = False, factor: float = 1) -> Tensor:
    """Gradient of all early maps (and of the embedding, if `joint`) to the views."""
    views = views.clone().requires_grad_(True)
    embedded, maps = encoder.encode_with_features(views) if joint else (None, None)
    loss = sum(f.square().mean() for f in (maps or encoder.features(views)))
    loss = loss if embedded is None else loss + embedded[:, 0].sum()
    (found,) = torch.autograd.grad(factor * loss, views)
    return found


def test_both_in_one_pass(model: Any) -> None:
    encoder = OpenAIEncoder(model.state_dict(), INFO)
    size = encoder.info.size
    views = torch.rand(2, 3, size, size)
    embedded, maps = encoder.encode_with_features(views)
    torch.testing.assert_close(embedded, encoder.encode_image(views), atol=1e-6, rtol=1e-5)
    assert [m.shape for m in maps] == [m.shape for m in encoder.features(views)]
    for ours, alone in zip(maps, encoder.features(views), strict=True):
        torch.testing.assert_close(ours, alone, atol=1e-5, rtol=1e-5)
    target = torch.eye(encoder.info.width)[:1].expand(2, -1)
    apart = gradient(encoder.encode_image, views, target) + pull_of_maps(encoder, views)
    joint = pull_of_maps(encoder, views, joint=True)
    assert F.cosine_similarity(joint.flatten(), apart.flatten(), dim=0) > 0.9999


@pytest.mark.parametrize("joint", [False, True])
def test_fp16_gradients_of_maps_do_not_vanish(model: Any, joint: bool) -> None:
    full, half = (OpenAIEncoder(model.state_dict(), INFO, precision=p) for p in ("fp32", "fp16"))
    views = torch.rand(2, 3, full.info.size, full.info.size)
    slopes = [pull_of_maps(e, views, joint, 1e-9).flatten() for e in (full, half)]
    assert slopes[1].dtype == torch.float32
    assert F.cosine_similarity(1e9 * slopes[0], 1e9 * slopes[1], dim=0) > 0.97


def test_a_wrong_size_is_refused(state: State) -> None:
    encoder = OpenAIEncoder(state, INFO)
    for shape in ((1, 3, 31, 32), (3, 32, 32), (1, 4, 32, 32)):
        with pytest.raises(EncoderError, match="takes images"):
            encoder.encode_image(torch.rand(shape))


def test_bad_texts(state: State) -> None:
    encoder = OpenAIEncoder(state, INFO)
    for text in ("", "  \n"):
        with pytest.raises(EncoderError, match="empty"):
            encoder.encode_text([text])
    long = "penguin " * 80
    assert encoder.count_tokens(long) == 82
    with pytest.raises(EncoderError, match=r"82 tokens, 5 more than the 77 .* truncate: true"):
        encoder.encode_text(["fine", long])
    cut = encoder.encode_text([long], truncate=True)
    assert torch.allclose(cut, encoder.encode_text(["penguin " * 75]), atol=1e-6)


@pytest.mark.parametrize("name", sorted(OPENAI))
def test_the_table_fits_the_architectures(name: str) -> None:
    """Shapes only (meta tensors), of the real architectures of all nine models."""
    wanted = random_checkpoint.ARCHITECTURES[name]
    with blank():
        model = random_checkpoint.clip_model(wanted)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert infer_architecture(shapes) == wanted
    own = expected_shapes(wanted, shapes)
    assert own.items() <= shapes.items()
    assert wanted.patch is None or set(shapes) - set(own) == {"logit_scale"}
    info = resolve(name)
    assert (info.size, info.width, info.context) == (wanted.size, wanted.embed, wanted.context)
    assert OPENAI[name].sha256 in import_clip()._MODELS[name]
    assert import_clip()._MODELS[name].endswith("/" + OPENAI[name].file)


@pytest.mark.slow
def test_a_full_vit_b_32_file(tmp_path: Path) -> None:
    path = random_checkpoint.write_random_checkpoint("ViT-B/32", tmp_path / "b32.pt", half=True)
    encoder = load(resolve(str(path), activation="quick_gelu"))
    assert (encoder.info.size, encoder.info.width) == (224, 512)
    views = torch.rand(1, 3, 224, 224)
    slope = gradient(encoder.encode_image, views, torch.randn(1, 512))
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0


# Names


def test_info_of_the_nine_needs_no_weights() -> None:
    info = resolve("RN50x4")
    assert (info.size, info.width, info.context) == (288, 640, 77)
    assert info.checksum == f"sha256:{OPENAI['RN50x4'].sha256}"


def test_unknown_names_get_the_nearest() -> None:
    for wrong, right in (("vit-b/23", "ViT-B/32"), ("embeded", "embedded"), ("RN50x5", "RN50x4")):
        with pytest.raises(EncoderError, match="unknown model") as caught:
            resolve(wrong)
        assert f"{right}" in str(caught.value).split("Allowed")[0]
    assert len(model_names()) == 12


def test_resolving_does_not_import_torch_to_begin_with() -> None:
    code = "import sys, clipig.encoders; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_embedded() -> None:
    info = resolve("embedded")
    assert info.name == "embedded"
    encoder = load(info, "cpu", "fp32")
    assert isinstance(encoder, Encoder)
    found = encoder.encode_image(torch.rand(2, 3, info.size, info.size))
    assert found.shape == (2, info.width)


def test_auto_takes_the_weights_that_are_here(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "home" / ".cache" / "clip" / "ViT-B-32.pt", state, monkeypatch)
    info = resolve("auto")
    assert info.name == "ViT-B/32"
    assert "weights are in" in info.reason
    assert load(info).encode_text(["a cat"]).shape == (1, 32)


def test_auto_ignores_a_file_with_a_wrong_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPIG_MODEL_URL", "http://127.0.0.1:9")
    folder = tmp_path / "cache" / "models"
    folder.mkdir(parents=True)
    (folder / "ViT-B-32.pt").write_bytes(b"half of it")
    assert resolve("auto").name == "embedded"


def test_auto_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not allowed" in resolve("auto", allow_download=False).reason
    monkeypatch.setenv("CLIPIG_MODEL_URL", "http://127.0.0.1:9")
    info = resolve("auto")
    assert info.name == "embedded"
    assert "refused" in info.reason
    asked: list[str] = []
    monkeypatch.setattr(weights, "_probe", lambda url, _: asked.append(url))
    assert resolve("auto").name == "embedded"
    assert asked == []  # the answer is remembered


def test_auto_waits_only_shortly_for_a_silent_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_probe", lambda *_: threading.Event().wait(30))
    assert "no answer" in (weights.why_unreachable("RN50", timeout=-0.9) or "")


# Checkpoint files


def script_archive(path: Path) -> Path:
    model = random_checkpoint.build_random_model("tiny-ViT").requires_grad_(False)
    example = (torch.rand(1, 3, 32, 32), torch.randint(0, 49000, (1, 77)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, example), path)
    return path


def write_layouts(folder: Path, state: State) -> dict[str, Path]:
    prefixed = {f"module.{k}": v for k, v in state.items()}
    compiled = {f"module._orig_mod.{k}": v for k, v in state.items()}
    nested = {f"model.{k}": v for k, v in state.items()} | {"head.weight": torch.zeros(2)}
    extra = state | {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    torch.save(state, folder / "plain.pt")
    torch.save(extra, folder / "openai_state.pt")
    training = {"epoch": 3, "name": "run", "state_dict": prefixed, "optimizer": {"state": {}}}
    torch.save(training, folder / "epoch_3.pt")
    torch.save({"model": compiled}, folder / "compiled.ckpt")
    torch.save(nested, folder / "nested.bin")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "a.safetensors")
    names = ("plain.pt", "openai_state.pt", "epoch_3.pt", "compiled.ckpt", "nested.bin")
    found = {n: folder / n for n in (*names, "legacy.pth", "a.safetensors")}
    return found | {"script.pt": script_archive(folder / "script.pt")}


def test_every_layout_of_a_file_gives_the_same_encoder(tmp_path: Path, state: State) -> None:
    views = torch.rand(1, 3, 32, 32)
    expected = OpenAIEncoder(state, INFO).encode_image(views)
    for path in write_layouts(tmp_path, state).values():
        info = resolve(str(path), activation="quick_gelu")
        assert (info.size, info.width, info.context) == (32, 32, 77), path
        assert info.checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        encoder = load(info)
        assert torch.allclose(encoder.encode_image(views), expected, atol=1e-5), path
        assert encoder.info == info


def test_half_weights_become_float32(tmp_path: Path, state: State) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file({k: v.contiguous() for k, v in halves.items()}, tmp_path / "h.safetensors")
    encoder = load(resolve(str(tmp_path / "h.safetensors"), activation="quick_gelu"))
    assert encoder.dtype == torch.float32
    views = torch.rand(1, 3, 32, 32)
    expected = OpenAIEncoder(state, INFO).encode_image(views)
    assert torch.allclose(encoder.encode_image(views), expected, atol=5e-3)


class _Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class _Command:
    """Unpickling it would run a command that leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


def _changed(state: State, **changes: Tensor | None) -> State:
    found = dict(state)
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del found[name]
        else:
            found[name] = value
    return found


def test_hostile_and_broken_files(tmp_path: Path, state: State) -> None:
    whole = script_archive(tmp_path / "script.pt").read_bytes()
    torch.save(state, tmp_path / "whole.pt")
    saved = (tmp_path / "whole.pt").read_bytes()
    marker = tmp_path / "executed"
    nan = torch.full_like(state["visual.proj"], float("nan"))

    def put(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    def save(name: str, content: object) -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    (tmp_path / "folder.pt").mkdir()
    cases = [
        (tmp_path / "missing.pt", "no such"),
        (tmp_path / "folder.pt", "folder"),
        (put("empty.pt", b""), "empty"),
        (put("garbage.pt", bytes(range(256)) * 9), "damaged"),
        (put("page.pt", b"<!DOCTYPE html><html></html>"), "web page"),
        (put("lfs.pt", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (put("garbage.safetensors", b"\xff" * 99), "damaged"),
        (put("cut_script.pt", whole[: len(whole) // 2]), "damaged"),
        (put("cut.pt", saved[: len(saved) // 2]), "damaged"),
        (put("trap.pkl.pt", pickle.dumps({"a": _Trap(marker)})), "refused|damaged"),
        (save("trap.pt", {"state_dict": state, "x": _Trap(marker)}), r"\) and is refused"),
        (save("system.pt", {"a": _Command(marker)}), r"more than tensors \(\w+\.system\)"),
        (save("list.pt", [1, 2]), "list"),
        (save("nothing.pt", {"a": 1}), "no tensors"),
        (save("other.pt", {"weight": torch.zeros(3)}), "text_projection is missing"),
        (save("missing_key.pt", _changed(state, visual__ln_post__bias=None)), "missing: visual"),
        (save("shape.pt", _changed(state, ln_final__bias=torch.zeros(3))), r"\[3\], expected"),
        (save("grid.pt", _changed(state, visual__positional_embedding=torch.zeros(9, 128))), "squ"),
        (save("nan.pt", _changed(state, visual__proj=nan)), "NaN"),
        (save("extra.pt", _changed(state, visual__foo=torch.zeros(3))), "too many: visual.foo"),
        (
            save("heads.pt", _changed(state, visual__conv1__weight=torch.zeros(100, 3, 8, 8))),
            "open_clip:",
        ),
    ]
    for path, message in cases:
        with pytest.raises(EncoderError, match=message) as caught:
            load(resolve(str(path), activation="quick_gelu"))
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    assert not marker.exists()


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_a_script_archive_with_a_trap_is_refused(tmp_path: Path) -> None:
    source, marker = script_archive(tmp_path / "script.pt"), tmp_path / "executed"
    trap = pickle.dumps(_Trap(marker), protocol=2)
    tree = rewrite(
        source, tmp_path / "trap.pt", lambda n, d: trap if n.endswith("/data.pkl") else d
    )
    with pytest.raises(EncoderError, match="not allowed"):
        resolve(str(tree))
    assert not marker.exists()
    # The code in the archive is never looked at.
    code = rewrite(source, tmp_path / "code.pt", lambda n, d: b"!" if "/code/" in n else d)
    assert load(str(code)).info.size == 32
    short = rewrite(source, tmp_path / "short.pt", lambda n, d: d[:-4] if "/data/" in n else d)
    with pytest.raises(EncoderError, match="wrong size"):
        load(str(short))


def test_a_file_that_changes_between_looking_and_loading(tmp_path: Path, state: State) -> None:
    path = tmp_path / "a.pt"
    torch.save(state, path)
    info = resolve(str(path), activation="quick_gelu")
    torch.save(state | {"ln_final.bias": state["ln_final.bias"] + 1}, path)
    with pytest.raises(EncoderError, match="changed"):
        load(info)


# open_clip


def test_open_clip_names() -> None:
    pytest.importorskip("open_clip", reason=NO_OPEN_CLIP)
    info = resolve("open_clip:ViT-B/32/laion2b_s34b_b79k")
    assert (info.size, info.width, info.context) == (224, 512, 77)
    assert resolve("open_clip:ViT-SO400M-14-SigLIP-384/webli").size == 384
    for name, message in (
        ("open_clip:ViT-B-33/openai", "nearest are ViT-B-32"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79", "has laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "say which weights"),
        ("open_clip:", "no architecture"),
    ):
        with pytest.raises(EncoderError, match=message):
            resolve(name)


def test_open_clip_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(EncoderError, match=r"pip install clipig\[open_clip\]"):
        resolve("open_clip:ViT-B-32/openai")


def test_open_clip_with_a_file(tmp_path: Path, state: State) -> None:
    open_clip = pytest.importorskip("open_clip", reason=NO_OPEN_CLIP)
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    vision = {"image_size": 32, "layers": 3, "width": 128, "patch_size": 8}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "clipig-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "clipig-tiny.json")
    torch.save(state, tmp_path / "epoch_1.pt")
    info = resolve(f"open_clip:clipig-tiny/{tmp_path / 'epoch_1.pt'}")
    assert (info.size, info.width) == (32, 32)
    assert info.checksum.startswith("sha256:")
    encoder, ours = load(info), OpenAIEncoder(state, INFO)
    assert isinstance(encoder, Encoder)
    views = torch.rand(2, 3, 32, 32)
    assert torch.allclose(encoder.encode_image(views), ours.encode_image(views), atol=1e-5)
    texts = ["a penguin", "made of piano"]
    assert torch.allclose(encoder.encode_text(texts), ours.encode_text(texts), atol=1e-5)
    target = torch.randn(2, 32)
    slopes = [gradient(e.encode_image, views, target) for e in (encoder, ours)]
    assert torch.allclose(slopes[0], slopes[1], atol=1e-5)
    assert all(f.shape[:2] == (2, 128) and f.ndim == 4 for f in encoder.features(views))
    with pytest.raises(EncoderError, match="empty"):
        encoder.encode_text([" "])
    with pytest.raises(EncoderError, match="82 tokens, 5 more"):
        encoder.encode_text(["penguin " * 80])
    for precision in ("bf16", "fp16"):
        half = load(info, precision=precision)
        assert (half.encode_image(views) - encoder.encode_image(views)).abs().max() < 0.01
        assert gradient(half.encode_image, views, target).isfinite().all()
    torch.save({"a": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load(f"open_clip:clipig-tiny/{tmp_path / 'bad.pt'}")


TOWERS: dict[str, dict[str, Any]] = {
    "ViT": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "ResNet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
    "timm ViT": {
        "timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False,
        "timm_pool": "map", "timm_proj": "none", "image_size": 224,
    },
    "timm ConvNet": {
        "timm_model_name": "convnext_atto", "timm_model_pretrained": False,
        "timm_pool": "", "timm_proj": "linear", "image_size": 64,
    },
}


@pytest.mark.parametrize("kind", TOWERS)
def test_early_layers_of_open_clip(kind: str, tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason=NO_OPEN_CLIP)
    vision, name = TOWERS[kind], f"clipig-{kind.replace(' ', '-').lower()}"
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    width = 192 if kind == "timm ViT" else 32
    config = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(1)
    torch.save(open_clip.create_model(name).state_dict(), tmp_path / "weights.pt")
    size = vision["image_size"]
    views = torch.rand(3, 3, size, size)
    info = resolve(f"open_clip:{name}/{tmp_path / 'weights.pt'}")
    slopes = []
    for precision in ("fp32", "fp16"):
        encoder = load(info, precision=precision)
        maps = encoder.features(views)
        assert len(maps) >= 3
        assert all(m.ndim == 4 and len(m) == 3 and m.dtype == torch.float32 for m in maps)
        alone = encoder.features(views[1:2])
        if precision == "fp32":
            for one, many in zip(alone, maps, strict=True):
                torch.testing.assert_close(one[0], many[1], atol=1e-4, rtol=1e-4)
        slopes.append(pull_of_maps(encoder, views, factor=1e-7).flatten() * 1e7)
    assert float(slopes[0].norm()) > 0
    assert F.cosine_similarity(*slopes, dim=0) > 0.97


# Precision, the `clip` package


def test_precision() -> None:
    assert pick_precision("cpu") in ("fp32", "bf16")
    assert pick_precision("meta") == "fp32"
    with pytest.raises(EncoderError, match="fp32, bf16, fp16"):
        to_dtype("fp8")


def test_the_clip_package_without_pkg_resources() -> None:
    code = """if True:
        import sys
        sys.modules["pkg_resources"] = None
        from clipig.encoders.clip_package import import_clip
        assert import_clip().tokenize("a cat").shape == (1, 77)
        assert sys.modules.get("pkg_resources") is None
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=ROOT)
    assert parse_version("2.15.0+cpu") == (2, 15, 0) > parse_version("1.7.1")


# The encoder of other tests


def test_tiny_encoder() -> None:
    tiny, twin, other = TinyEncoder(3), TinyEncoder(3), TinyEncoder(4)
    assert isinstance(tiny, Encoder)
    views = torch.rand(5, 3, 16, 16)
    assert torch.equal(tiny.encode_image(views), twin.encode_image(views))
    assert not torch.equal(tiny.encode_image(views), other.encode_image(views))
    alone = torch.cat([tiny.encode_image(v[None]) for v in views])
    assert torch.allclose(tiny.encode_image(views), alone, atol=1e-6)
    assert gradient(tiny.encode_image, views, torch.randn(5, 8)).abs().sum() > 0
    texts = tiny.encode_text(["a", "b", "a"])
    assert torch.equal(texts[0], texts[2])
    assert texts.shape == (3, 8)
    assert [f.ndim for f in tiny.features(views)] == [4, 4]
