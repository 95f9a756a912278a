"""Files from elsewhere: pictures, states of runs, weights. Small ones, in order or damaged."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import clipig.session
from clipig.encoders.architecture import Architecture
from clipig.encoders.clip_package import import_clip_model
from clipig.errors import OutputError
from tests.fuzz import command_lines
from tests.fuzz.guard import Untrue
from tests.fuzz.texts import damaged, nasty_texts, scalars
from tests.fuzz.trees import configs, written

# -- pictures -------------------------------------------------------------------------------------

FORMATS = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK"], "WEBP": ["RGB", "RGBA"], "GIF": ["L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB"], "PPM": ["1", "L", "RGB", "I;16"], "ICO": ["RGBA"],
    "TIFF": ["1", "L", "LA", "RGB", "RGBA", "CMYK", "LAB", "F", "I;16"],
    "TGA": ["L", "RGB", "RGBA"], "PCX": ["L", "RGB"], "DDS": ["RGB", "RGBA"],
}
KEYS = ["config", "seed", "model", "model checksum", "similarity", "epochs", "version"]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A small picture of any kind, with texts in it, perhaps damaged."""
    kind = draw(st.sampled_from(["PNG", "PNG", "PNG", *sorted(FORMATS)]))
    mode = draw(st.sampled_from(FORMATS[kind]))
    size = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    options: dict[str, Any] = {}
    if kind == "PNG":
        options["pnginfo"] = _texts(draw)
    if kind in ("JPEG", "WEBP") and draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        options["exif"] = exif
    if mode in ("L", "P", "RGB", "I;16") and kind == "PNG" and draw(st.booleans()):
        options["transparency"] = (1, 2, 3) if mode == "RGB" else 1
    file = io.BytesIO()
    _noise(mode, size, draw(st.integers(0, 3))).save(file, kind, **options)
    whole = file.getvalue()
    return draw(damaged(whole)) if draw(st.booleans()) else whole


def _noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=rng, dtype=torch.uint8).numpy()
    whole = Image.fromarray(pixels)
    if mode == "F" and seed:
        return Image.fromarray(pixels[..., 0].astype("float32") / 255 * seed)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype("uint16") * (seed + 1))
    if mode == "LA":
        return whole.convert("RGBA").convert(mode)
    if mode == "LAB":
        return Image.merge("LAB", whole.split())
    return whole.convert(mode)


def _texts(draw: st.DrawFn) -> PngImagePlugin.PngInfo:
    """Texts as clipig writes them, and others."""
    info = PngImagePlugin.PngInfo()
    config = st.one_of(st.just(command_lines.CONFIG), configs().map(written), nasty_texts)
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4, unique=True)):
        text = draw(config if key == "config" else st.one_of(nasty_texts, st.just("embedded")))
        text = text.encode("utf-8", "replace").decode()
        add = draw(st.sampled_from([info.add_itxt, info.add_text]))
        add(f"clipig {key}", text, zip=draw(st.booleans()))
    return info


# -- states of runs -------------------------------------------------------------------------------

RUN = {
    "epochs": 6, "resolution": 8, "model": "embedded", "device": "cpu", "seed": 1, "runs": 2,
    "ema": 0.5, "snapshot_interval": 0,
    "targets": [{"features": [{"text": "a cat"}], "transforms": [{"noise": 0.1}]}],
}


def interrupted(folder: Path) -> Path:
    """A run that Ctrl-C ended after three steps; its checkpoint."""
    (folder / "a.yaml").write_text(json.dumps(RUN))
    real = clipig.session.optimize

    def three(*arguments: Any) -> Any:
        for number, event in enumerate(real(*arguments)):
            yield event
            if number == 3:
                raise KeyboardInterrupt

    line = ["run", "a.yaml", "-o", "out/", "-q"]
    with mock.patch("clipig.session.optimize", three):
        command_lines.call(line, folder, steps=True, codes=(130,))
    (found,) = (folder / "out").glob("*.checkpoint")
    return found


@cache
def _state() -> tuple[dict[str, str], dict[str, Tensor]]:
    """Texts and tensors of the checkpoint of an interrupted run."""
    import tempfile

    with tempfile.TemporaryDirectory() as name, \
            safe_open(interrupted(Path(name)), framework="pt") as file:
        return dict(file.metadata()), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118


dtypes = st.sampled_from(["float32", "float16", "bfloat16", "float64", "int64", "uint8", "bool"])
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 8, 16, 77]), max_size=4)
fills = st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e38])
others = st.one_of(
    st.none(), st.fixed_dictionaries({"shape": shapes, "dtype": dtypes, "fill": fills})
)


@st.composite
def states(draw: st.DrawFn) -> str:
    """What to change in the checkpoint of an interrupted run, as JSON."""
    about, tensors = _state()
    texts = st.one_of(st.none(), nasty_texts, scalars.map(json.dumps), st.sampled_from([
        "[]", "[0]", "[0, 0]", "[5]", "[-1]", "[1, 0]", "[0.0]", "{}", "[null]", "[true, false]",
        "-1", "0", "6", "7", "1e9", "[8]", "[8, 8, 8]", "[16, 16]", "[-8, 8]", "[8.5, 8]",
    ])).map(lambda x: x if x is None else x.encode("utf-8", "replace").decode())
    return json.dumps({
        "about": draw(st.dictionaries(
            st.one_of(st.sampled_from(sorted(about)), st.just("x")), texts, max_size=2)),
        "tensors": draw(st.dictionaries(
            st.one_of(st.sampled_from(sorted(tensors)), st.sampled_from([
                "canvas/x", "optimizer/x/y", "optimizer//", "canvas/", "x", "fair/9/9"])),
            others, max_size=2)),
        "files": draw(st.dictionaries(
            st.sampled_from(["a.trace.jsonl", "a.yaml"]),
            st.one_of(st.none(), st.text(max_size=20), st.just("\x00"), st.just("epochs: 6\n")),
            max_size=1)) if draw(st.integers(0, 3)) == 0 else {},
    })


def resume(case: str, folder: Path) -> None:
    """Go on with an interrupted run whose files were changed."""
    changes = json.loads(case)
    path = interrupted(folder)
    about, tensors = _state()
    with safe_open(path, framework="pt") as file:
        about = {**about, **file.metadata()}  # the hash of this run's config
    about = {k: v for k, v in {**about, **changes["about"]}.items() if v is not None}
    new = dict(tensors)
    for name, other in changes["tensors"].items():
        new.pop(name, None)
        if other is not None:
            new[name] = filled(other)
    save_file(new, path, about)
    for name, text in changes["files"].items():
        if text is None:
            (path.parent / name).unlink(missing_ok=True)
        else:
            (path.parent / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    line = ["run", "a.yaml", "--resume", "-o", "out/"]
    code, text = command_lines.call(line, folder, steps=True)
    if code == 2:
        raise OutputError(text)
    if wrong := _unsound(changes):
        raise Untrue(f"a state is taken whose {wrong} cannot be right: {case}")


def _unsound(changes: dict[str, Any]) -> str | None:
    """What of a changed state cannot be that of the run, if anything."""
    _, tensors = _state()
    for name, other in changes["tensors"].items():
        if name in tensors:
            same = other is not None and other["shape"] == list(tensors[name].shape)
            wanted = "bool" if name == "alive" else "float"
            if not same or wanted not in other["dtype"] or not math.isfinite(other["fill"]):
                return name
    for name, text in changes["about"].items():
        if name in _RANGES and not _is_right(name, text):
            return name
    return None


def _is_right(name: str, text: str | None) -> bool:
    try:
        return text is not None and _RANGES[name](text)
    except ValueError:
        return False


def _row_numbers(text: str) -> bool:
    rows = json.loads(text)
    return isinstance(rows, list) and all(type(r) is int and r in (0, 1) for r in rows)


_RANGES: dict[str, Callable[[str], bool]] = {
    "step": lambda text: int(text) in range(7), "size": lambda text: json.loads(text) == [8, 8],
    "rows": _row_numbers, "done": _row_numbers, "seconds": lambda text: float(text) >= 0,
}
"""Whether a text of a checkpoint can be right; raises ValueError, or is false, if it cannot."""


def filled(other: dict[str, Any]) -> Tensor:
    """A tensor of a shape, type and value."""
    dtype = getattr(torch, other["dtype"])
    fill = other["fill"]
    if not dtype.is_floating_point and not abs(fill) < 1e9:
        fill = 0.0
    return torch.full(other["shape"], fill, dtype=torch.float64).to(dtype)


# -- weights --------------------------------------------------------------------------------------

_TINY = Architecture(
    embed=16, size=16, vision_layers=1, vision_width=64, patch=8, context=77, vocabulary=49408,
    text_width=64, text_layers=1,
)
_EXTENTS = [0, 1, 2, 3, 64, 77, 100_000, 2**31, 2**40]


@cache
def _weights() -> dict[str, Tensor]:
    """A tiny CLIP whose large tensors share one number each."""
    model = import_clip_model().CLIP(
        _TINY.embed, _TINY.size, _TINY.vision_layers, _TINY.vision_width, _TINY.patch,
        _TINY.context, _TINY.vocabulary, _TINY.text_width, _TINY.text_heads, _TINY.text_layers,
    )
    return {
        k: v.detach().flatten()[:1].clone().expand(v.shape) if v.numel() > 10_000 else v.detach()
        for k, v in model.state_dict().items()
    }


@cache
def _pickles() -> dict[str, bytes]:
    """The pickles of a `torch.save` file and of a TorchScript archive of the tiny CLIP."""
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(_Plain()), script)  # type: ignore[no-untyped-call]
    return {"torch": _saved(_weights()), "torchscript": script.getvalue()}


class _Plain(torch.nn.Module):
    """Some of the names that a CLIP has."""

    def __init__(self) -> None:
        super().__init__()
        self.text_projection = torch.nn.Parameter(torch.zeros(4, 4))
        self.positional_embedding = torch.nn.Parameter(torch.zeros(7, 4))
        self.inner = torch.nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.text_projection


def _saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@st.composite
def weights(draw: st.DrawFn) -> str:
    """A file of weights, as JSON: which kind, which tensors are others, another pickle."""
    kind = draw(st.sampled_from(["safetensors", "torch", "torch", "torchscript"]))
    case: dict[str, Any] = {"kind": kind}
    if kind != "torchscript":
        some = _EXTENTS[:6] if kind == "safetensors" else _EXTENTS
        other = st.one_of(st.none(), st.lists(st.sampled_from(some), max_size=4).filter(
            lambda shape: math.prod(shape) < 2**60))
        case["tensors"] = draw(st.dictionaries(
            st.one_of(st.sampled_from(sorted(_weights())), st.just("x")), other, max_size=3))
    if kind == "torchscript" or (kind == "torch" and draw(st.booleans())):
        archive = _pickles()[kind]
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            name = next(n for n in file.namelist() if n.endswith("data.pkl"))
            case["pickle"] = draw(damaged(file.read(name))).decode("latin-1")
    return json.dumps(case)


def write_weights(case: str, folder: Path) -> Path:
    """The file that a case stands for."""
    asked = json.loads(case)
    kind, state = asked["kind"], dict(_weights())
    for name, shape in asked.get("tensors", {}).items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(()).expand(shape)
    if kind == "safetensors":
        path = folder / "weights.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        return path
    path = folder / "weights.pt"
    whole = _pickles()["torchscript"] if kind == "torchscript" else _saved(state)
    if "pickle" not in asked:
        path.write_bytes(whole)
        return path
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            other = name.endswith("data.pkl")
            new.writestr(name, asked["pickle"].encode("latin-1") if other else old.read(name))
    return path
