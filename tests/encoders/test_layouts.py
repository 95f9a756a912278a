"""Every layout that CLIPs are published in, written by its own library, read by ours."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from clipig.encoders import load, resolve
from clipig.encoders.architecture import MEAN, STD, to_activation
from clipig.encoders.clip_package import import_clip
from clipig.encoders.protocol import Encoder
from tests.support.tiny_checkpoints import own_cache, random_checkpoint

transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")

__all__ = ["own_cache"]
TEXTS = ["a red circle", "Two Penguins, made of piano!", "🐧"]
HALF = (0.5, 0.5, 0.5)
VISION = {"image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 3,
          "num_attention_heads": 2, "intermediate_size": 160}
TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128}


@dataclass(frozen=True)
class Case:
    """A model on the disk and the functions of its own library.

    name    what `--model` takes
    image   `[B, 3, s, s]` in 0..1 to unit rows
    text    texts to unit rows
    """

    name: str
    image: Callable[[Tensor], Tensor]
    text: Callable[[list[str]], Tensor]
    activation: str = ""
    revision: str = ""


def enliven(model: Any, seed: int = 1) -> Any:
    """Give every tensor values that matter: initialisers leave many at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 0 or "logit" in name:
                continue
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:  # biases and the weights of norms, which begin at zero and one
                p.add_(0.1 * noise)
            elif "trunk" not in name:  # timm's own scales fit its deep towers
                p.copy_(0.15 * noise)
    return model.eval().requires_grad_(False)


def unit(x: Any) -> Tensor:
    x = getattr(x, "pooler_output", x)
    return F.normalize(x.float(), dim=-1)


def normalised(views: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    return (views - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def tokens(texts: list[str]) -> Tensor:
    found: Tensor = import_clip().tokenize(texts)
    return found.long()


# transformers


def hf_clip(act: str = "quick_gelu", eos: int = 49407, heads: int = 2, layers: int = 3,
            text_heads: int = 4) -> Any:
    torch.manual_seed(2)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "hidden_act": act, "eos_token_id": eos,
                     "num_attention_heads": text_heads},
        vision_config={**VISION, "hidden_act": act, "num_attention_heads": heads,
                       "num_hidden_layers": layers},
        projection_dim=48,
    )
    return enliven(transformers.CLIPModel(config))


def hf_case(name: str | Path, model: Any, **known: str) -> Case:
    model = model.float()
    act = model.config.vision_config.hidden_act.replace("gelu_pytorch_tanh", "gelu_tanh")
    return Case(
        str(name),
        lambda views: unit(model.get_image_features(pixel_values=normalised(views))),
        lambda texts: unit(model.get_text_features(input_ids=tokens(texts))),
        act, **known,
    )


def hf_folder(folder: Path, act: str = "quick_gelu", **options: Any) -> Case:
    model = hf_clip(act, **options)
    model.save_pretrained(folder)
    return hf_case(folder, model)


def hf_shards(folder: Path) -> Case:
    model = hf_clip("gelu")
    model.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return hf_case(folder, model)


def hf_bin(folder: Path) -> Case:
    model = hf_clip("gelu", eos=2)  # as old configs have it, wrongly
    model.config.save_pretrained(folder)
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save({**model.state_dict(), **positions}, folder / "pytorch_model.bin")
    return hf_case(folder, model)


def hf_stored(dtype: torch.dtype, folder: Path) -> Case:
    model = hf_clip().to(dtype)
    model.save_pretrained(folder)
    return hf_case(folder, model)


def hf_file(folder: Path) -> Case:
    hf_folder(folder, "gelu")
    return hf_case(folder / "model.safetensors", hf_clip("gelu"))


def hf_full_file(folder: Path) -> Case:
    """One file without a config, as zer0int publishes whole models for ComfyUI."""
    model = hf_clip("gelu", heads=1, text_heads=1)
    path = folder / "ViT-tiny-full.safetensors"
    save_file({f"clip.{k}": v.contiguous() for k, v in model.state_dict().items()}, path)
    return hf_case(path, model)


def hf_pixels(folder: Path) -> Case:
    model = hf_clip()
    model.save_pretrained(folder)
    about = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return Case(
        str(folder),
        lambda views: unit(model.get_image_features(
            pixel_values=normalised(views, about["image_mean"], about["image_std"]))),
        lambda texts: unit(model.get_text_features(input_ids=tokens(texts))), "quick_gelu",
    )


def hub(folder: Path, links: bool, variable: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    base = folder / "hub" if variable == "HF_HOME" else folder
    monkeypatch.setenv(variable, str(folder))
    home, commit = base / "models--some-org--tiny.clip", "0123456789abcdef0123456789abcdef01234567"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    model = hf_clip("gelu")
    model.save_pretrained(snapshot)
    if links:
        (home / "blobs").mkdir()
        for i, file in enumerate(sorted(snapshot.iterdir())):
            blob = home / "blobs" / f"{i:040x}"
            shutil.move(file, blob)
            file.symlink_to(os.path.relpath(blob, snapshot))
    return hf_case("some-org/tiny.clip", model, revision=commit)


def comfyui(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Two towers in ComfyUI's folders, found by the names of their files."""
    model = hf_clip("gelu", heads=1, text_heads=1)
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    for place, name, roots in (
        ("clip_vision", "vision.safetensors", ("vision_model.", "visual_projection.")),
        ("text_encoders/large", "text.safetensors", ("text_model.", "text_projection.")),
    ):
        (folder / "models" / place).mkdir(parents=True)
        part = {k: v for k, v in state.items() if k.startswith(roots)}
        save_file(part, folder / "models" / place / name)
    return hf_case("vision.safetensors+text.safetensors", model)


def tokenizer_file(folder: Path, pad: str) -> Any:
    """A tokenizer of words, as `tokenizers` writes it, with the marks of SigLIP's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "two", "penguins", "made", "of",
             "piano"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))
    return tokenizer


def siglip(version: str, folder: Path) -> Case:
    names = {"1": ("SiglipConfig", "SiglipModel"), "2": ("SiglipConfig", "SiglipModel")}[version]
    config = getattr(transformers, names[0])(
        text_config={**TEXT, "vocab_size": 64, "max_position_embeddings": 16,
                     "projection_size": 64},
        vision_config={**VISION, "num_attention_heads": 4},
    )
    model = enliven(getattr(transformers, names[1])(config))
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-12.9)
    model.save_pretrained(folder)
    pad = "</s>" if version == "1" else "<pad>"
    if version == "2":
        said = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**said, "model_type": "siglip2"}))
    tokenizer = tokenizer_file(folder, pad)
    clean = {"a red circle": "a red circle", "🐧": "🐧", TEXTS[1]:
             "two penguins made of piano" if version == "1" else "two penguins, made of piano!"}

    def text(texts: list[str]) -> Tensor:
        rows = [tokenizer.encode(clean[t]).ids for t in texts]
        filled = [r + [tokenizer.token_to_id(pad)] * (16 - len(r)) for r in rows]
        return unit(model.get_text_features(input_ids=torch.tensor(filled)))

    return Case(
        str(folder),
        lambda views: unit(model.get_image_features(pixel_values=normalised(views, HALF, HALF))),
        text, "gelu_tanh",
    )


# open_clip

PLAIN = {
    "embed_dim": 48, "quick_gelu": False,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def with_timm(name: str, size: int = 32, **more: Any) -> dict[str, Any]:
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_proj": "linear",
              "timm_pool": "", "image_size": size, **more}
    text = {**PLAIN["text_cfg"], "width": 48}  # type: ignore[dict-item]
    return {"embed_dim": 48, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def open_clip_model(config: dict[str, Any], name: str, folder: Path) -> Any:
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(3)
    return enliven(open_clip.create_model(name, pretrained=None))


def open_clip_case(name: str | Path, model: Any, mean: Any, std: Any, act: str) -> Case:
    return Case(
        str(name),
        lambda views: unit(model.encode_image(normalised(views, mean, std))),
        lambda texts: unit(model.encode_text(tokens(texts))), act,
    )


def open_clip_folder(
    config: dict[str, Any], folder: Path, mean: Any = MEAN, std: Any = STD, act: str = "gelu",
    binary: bool = False, name: str = "",
) -> Case:
    """As `open_clip.push_to_hf_hub.save_for_hf` writes it."""
    key = f"clipig-test-{abs(hash(json.dumps(config, sort_keys=True)))}"
    model = open_clip_model(config, key, folder.parent)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    if binary:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    about = {"model_cfg": config, "preprocess_cfg": {"mean": list(mean), "std": list(std)}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    return open_clip_case(f"{name}{folder}", model, mean, std, act)


def training_checkpoint(folder: Path) -> Case:
    model = open_clip_model(PLAIN | {"quick_gelu": True}, "clipig-test-epoch", folder)
    prefixed = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": prefixed}, folder / "epoch_3.pt")
    name = f"open_clip:clipig-test-epoch/{folder / 'epoch_3.pt'}"
    return open_clip_case(name, model, MEAN, STD, "quick_gelu")


def torchscript(folder: Path) -> Case:
    model = random_checkpoint.build_random_model("tiny-ViT").requires_grad_(False)
    example = (torch.rand(1, 3, 32, 32), torch.randint(0, 49000, (1, 77)))
    torch.jit.save(torch.jit.trace(model, example), folder / "tiny.pt")
    return open_clip_case(folder / "tiny.pt", model, MEAN, STD, "quick_gelu")


SIGLIP_TEXT = {
    "context_length": 16, "vocab_size": 64, "width": 64, "heads": 4, "layers": 2,
    "hf_tokenizer_name": "here", "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}


def open_clip_siglip(folder: Path) -> Case:
    """A SigLIP in open_clip's layout: a tower of timm, a tokenizer of transformers."""
    config = {
        "embed_dim": 96, "init_logit_bias": -10, "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit3",
                       "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": SIGLIP_TEXT,
    }
    built = {**config, "text_cfg": {**SIGLIP_TEXT, "hf_tokenizer_name": str(folder)}}
    case = open_clip_folder(config, folder, HALF, HALF)
    tokenizer = tokenizer_file(folder, "<pad>")
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>",
             "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    model = open_clip_model(built, "clipig-test-siglip", folder.parent)
    clean = {TEXTS[0]: TEXTS[0], TEXTS[1]: "two penguins made of piano", TEXTS[2]: TEXTS[2]}

    def text(texts: list[str]) -> Tensor:
        rows = [tokenizer.encode(clean[t]).ids for t in texts]
        return unit(model.encode_text(torch.tensor([r + [0] * (16 - len(r)) for r in rows])))

    return Case(case.name, case.image, text, "gelu")


CASES: dict[str, Callable[..., Case]] = {
    "transformers, fp32, QuickGELU": hf_folder,
    "transformers, GELU": lambda f: hf_folder(f, "gelu"),
    "transformers, tanh GELU": lambda f: hf_folder(f, "gelu_pytorch_tanh"),
    "transformers, wide heads (ViT-H)": lambda f: hf_folder(f, "gelu", heads=1),
    "transformers, one layer": lambda f: hf_folder(f, layers=1),
    "transformers, shards": hf_shards,
    "transformers, pytorch_model.bin, eos 2": hf_bin,
    "transformers, fp16": functools.partial(hf_stored, torch.float16),
    "transformers, bf16": functools.partial(hf_stored, torch.bfloat16),
    "transformers, own mean and std": hf_pixels,
    "a file beside its config": hf_file,
    "SigLIP, transformers": functools.partial(siglip, "1"),
    "SigLIP 2, transformers": functools.partial(siglip, "2"),
    "open_clip, GELU": functools.partial(open_clip_folder, PLAIN),
    "open_clip, QuickGELU, .bin (FARE)": lambda f: open_clip_folder(
        {**PLAIN, "quick_gelu": True}, f, act="quick_gelu", binary=True),
    "open_clip, own text tower": lambda f: open_clip_folder({**PLAIN, "custom_text": True}, f),
    "open_clip, local-dir, own mean": lambda f: open_clip_folder(
        PLAIN, f, HALF, HALF, name="local-dir:"),
    "open_clip, SigLIP": open_clip_siglip,
    "open_clip, checkpoint of a training": training_checkpoint,
    "OpenAI, TorchScript": torchscript,
    "timm ViT (PE-Core, SigLIP)": functools.partial(
        open_clip_folder, with_timm("test_vit3", 160, timm_pool="map"), mean=HALF, std=HALF),
    "timm EVA02": functools.partial(
        open_clip_folder, with_timm("eva02_tiny_patch14_224", 224, timm_pool="token")),
    "timm FastViT (MobileCLIP2)": functools.partial(
        open_clip_folder, with_timm("fastvit_t8", 64, timm_pool="avg"),
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}


def gradient(encode: Callable[[Tensor], Tensor], views: Tensor, target: Tensor) -> Tensor:
    views = views.clone().requires_grad_()
    return torch.autograd.grad((encode(views) * target).sum(), views)[0]


def compare(case: Case, said: str | None = None) -> Encoder:
    """The differences that are allowed: 1e-5 in embeddings, 1e-4 relative in gradients."""
    info = resolve(case.name, activation=to_activation(said or ""))
    encoder = load(info)
    size = encoder.info.size
    assert (info.size, info.width) == (size, encoder.info.width)
    assert info.revision == case.revision
    generator = torch.Generator().manual_seed(5)
    views = torch.rand(2, 3, size, size, generator=generator) * 1.2 - 0.1
    expected = case.image(views)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # otherwise nothing is compared
    assert float((encoder.encode_image(views) - expected).abs().max()) < 1e-5
    assert float((encoder.encode_text(TEXTS) - case.text(TEXTS)).abs().max()) < 1e-5
    target = torch.randn(2, encoder.info.width, generator=generator)
    slope, own = (gradient(e, views, target) for e in (case.image, encoder.encode_image))
    assert float((own - slope).norm() / slope.norm()) < 1e-4
    assert encoder.info.activation == case.activation
    for found in encoder.features(views):
        assert found.ndim == 4 and found.dtype == torch.float32
    return encoder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CASES)
def test_embeddings_and_gradients_are_those_of_the_library(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    compare(CASES[kind](folder))


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies (Windows)"])
@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_repository_in_the_cache_of_the_hub(
    links: bool, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = hub(tmp_path / "hf", links, variable, monkeypatch)
    compare(case)
    assert resolve(f"hf-hub:{case.name}").checksum == resolve(case.name).checksum


@pytest.mark.parametrize("kind", ["pair", "whole file"])
def test_towers_as_comfyui_keeps_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = comfyui(tmp_path, monkeypatch) if kind == "pair" else hf_full_file(tmp_path)
    compare(case, "gelu")
