"""What is fuzzed: where cases come from, and what must hold for each.

A case is text or bytes, so that a finding can be kept as a file. In every call a
`ClipigError` is fine; what else is raised, and what `Untrue` says, is a finding.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from hypothesis import strategies as st

import clipig
from clipig.config.grid import load_grid, make_cell
from clipig.config.load import Text, load
from clipig.config.yaml_text import parse as parse_yaml
from clipig.engine.memory import footprint
from clipig.errors import ClipigError, ImageError, UsageError
from clipig.images import load_image, load_rgba, read_metadata
from clipig.session import Session, starts
from clipig.values.expressions import parse as parse_formula
from clipig.values.expressions import tensors
from tests.fuzz import command_lines, stored
from tests.fuzz.formula_texts import formulas
from tests.fuzz.guard import Untrue
from tests.fuzz.texts import damaged
from tests.fuzz.trees import configs, grids, overrides, written
from tests.support.formulas import EVERY, context_at
from tests.support.tiny_encoder import TinyEncoder

Case = str | bytes
MOST_BYTES = 48 << 20
MOST_PIXELS = 128 * 128
"""Plans that need more, or whose pictures are larger, are compiled, but take no step here."""
MOST_STEPS = 8


@dataclass(frozen=True)
class Target:
    """One kind of input.

    share    how many of a thousand cases are of this kind
    suffix   of a case's file in the corpus
    """

    name: str
    share: int
    suffix: str
    cases: st.SearchStrategy[Any]
    check: Callable[[Any, Path], None]

    @property
    def binary(self) -> bool:
        """Whether a case is bytes, not text."""
        return self.name in ("yaml", "picture")


def check_yaml(case: bytes, folder: Path) -> None:
    """Any bytes are a tree, or have a problem with a place."""
    tree, problems = parse_yaml(case, "a.yaml")
    if tree is None and not problems:
        raise Untrue("neither a tree nor a problem")
    for problem in problems:
        str(problem).encode("utf-8")
    if tree is not None:
        list(tree.walk())


def check_formula(case: str, folder: Path) -> None:
    """A formula is refused, or gives numbers, and tensors of them."""
    expression = parse_formula(case, EVERY)
    for t in (0.0, 0.25, 1.0):
        try:
            found: Any = expression.evaluate(context_at(t), lambda: 0.375)
        except ClipigError:
            continue
        numbers = found if isinstance(found, list | tuple) else [found]
        if not all(isinstance(n, int | float) for n in numbers):
            raise Untrue(f"a value that is no number: {found!r} at t={t}")
    context: dict[str, Any] = {
        k: v if isinstance(v, list) else torch.tensor(v, dtype=torch.float64)
        for k, v in context_at(0.25).items()
    }
    unit = torch.tensor(0.375, dtype=torch.float64)
    tensors.compute(expression, context, lambda: unit)


def check_config(case: str, folder: Path) -> None:
    """A config is refused, or comes back from its dump and takes steps."""
    experiment = clipig.load_text(case)
    for full in (False, True):
        _comes_back(experiment, full)
    session = Session()
    runs = session.settle(experiment)[:3]
    encoders = [TinyEncoder(i) for i in range(len(experiment.model))]
    plan = clipig.compile([runs[0]], [e.info for e in encoders])
    if footprint(plan, encoders).run < MOST_BYTES and _largest(plan) <= MOST_PIXELS:
        _takes_steps(plan, encoders)


def _largest(plan: Any) -> int:
    """Pixels of the largest picture that a plan makes on the way."""
    start = plan.init.fixed.get("resolution") or (1, 1)
    most = int(start[0] * start[1])
    for phase in plan.phases:
        most = max(most, phase.size[0] * phase.size[1])
        for chain in [t.ops for t in phase.targets] + [p.ops for p in phase.postproc]:
            size = phase.size
            for op in chain:
                fixed = SimpleNamespace(**op.fixed)
                size = op.node.out_size(size, fixed)
                other = getattr(fixed, "resolution", (1, 1))  # of noise that is enlarged
                most = max(most, size[0] * size[1], other[0] * other[1])
    return most


def _comes_back(experiment: Any, full: bool) -> None:
    text = "nothing"
    try:
        text = clipig.dump(experiment, full=full)
        again = clipig.load_text(text)
    except ClipigError as fault:
        raise Untrue(f"its dump does not load: {fault}\n{text}") from fault
    kinds = {type(e.snapshot_interval) for e in (experiment, again)}
    if again != experiment or len(kinds) > 1:
        raise Untrue(f"its dump means something else:\n{text}")


def _takes_steps(plan: Any, encoders: list[TinyEncoder]) -> None:
    experiment = plan.experiment
    prompts = clipig.encode_prompts(plan, encoders, clipig.PromptCache(_painting))
    start = None
    if experiment.init.image_tensor is not None:
        start = starts(plan)
    elif experiment.init.image is not None:
        start = _painting(experiment.init.image, 12)[None]
    mask = torch.linspace(0, 1, 12).expand(1, 1, 9, 12) if experiment.mask else None
    steps = 0
    for event in clipig.optimize(plan, encoders, prompts, start, mask=mask):
        if not isinstance(event, clipig.Step):
            continue
        steps += 1
        picture = event.picture().rgb
        if tuple(picture.shape) != (plan.runs, 3, *event.size):
            raise Untrue(f"a picture of {list(picture.shape)} after step {steps}")
        if not torch.isfinite(picture).all():
            raise Untrue(f"a pixel is not finite after step {steps}")
        told = torch.stack([event.loss, event.similarity])
        if bool(event.alive.all()) and not torch.isfinite(told).all():
            raise Untrue(f"loss or similarity is not finite after step {steps}, but none diverged")
        if steps == MOST_STEPS or (steps == 2 and plan.steps > MOST_STEPS):
            return


def _painting(name: str, side: int) -> torch.Tensor:
    """A picture that depends on the length of its name."""
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(len(name)))


def check_grid(case: str, folder: Path) -> None:
    """A grid is refused, or has names for its cells and makes them."""
    path = folder / "g.yaml"
    path.write_text(case, encoding="utf-8")
    loaded = load_grid(path)
    places = loaded.coordinates()
    names = loaded.cell_names()
    if len({name.lower() for name in names.values()}) < len(places):
        raise Untrue("two cells have one name")
    for place in [*places[:2], *places[-1:]]:
        cell = make_cell(loaded, place, 7)
        if not cell.name or "/" in cell.name:
            raise Untrue(f"a cell is called {cell.name!r}")
        _comes_back(cell.experiment, False)


def check_command(case: str, folder: Path) -> None:
    """A command line, a word per line after the encoding of the terminal, ends with 0 or 2."""
    encoding, *line = case.split("\n")
    command_lines.prepare(folder)
    code, text = command_lines.call([_argument(word) for word in line], folder, encoding)
    if code == 2:
        raise UsageError(text)


def _argument(word: str) -> str:
    """A word as the system would hand it over: bytes that are no text as `surrogateescape`."""
    try:
        return word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return word.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def check_picture(case: bytes, folder: Path) -> None:
    """Any bytes are refused, or are a picture of numbers in 0..1."""
    path = folder / "a.png"
    path.write_bytes(case)
    for line in (["info", "a.png"], ["info", "--json", "a.png"], ["reproduce", "a.png"]):
        command_lines.call(line, folder, "ascii")
    for load_it, channels in ((load_image, 3), (load_rgba, 4)):
        for size in (None, (5, 8)):
            pixels = load_it(path, size=size)
            if pixels.ndim != 3 or len(pixels) != channels:
                raise Untrue(f"a picture of {list(pixels.shape)}")
            if not (pixels.min() >= 0 and pixels.max() <= 1):
                raise Untrue(f"pixels from {pixels.min()} to {pixels.max()}")
    with contextlib.suppress(ImageError):  # not a PNG
        read_metadata(path)


def check_state(case: str, folder: Path) -> None:
    """A checkpoint that somebody changed is refused, or goes on."""
    stored.resume(case, folder)


def check_weights(case: str, folder: Path) -> None:
    """A file of weights is refused, or embeds texts and pictures."""
    path = stored.write_weights(case, folder)
    info = clipig.resolve_encoder(str(path))
    encoder = clipig.load_encoder(info)
    text = encoder.encode_text(["a cat"])
    picture = encoder.encode_image(torch.zeros(1, 3, info.size, info.size))
    if not math.prod(text.shape) == math.prod(picture.shape) == info.width:
        raise Untrue(f"embeddings of {list(text.shape)} and {list(picture.shape)}")


def check_override(case: str, folder: Path) -> None:
    """`--set KEY=VALUE` is refused, or leaves a config that comes back from its dump."""
    config, _, override = case.rpartition("\n")
    _comes_back(load(Text(config), overrides=[override]), False)


_yaml_texts = st.one_of(
    configs().map(written).map(str.encode),
    configs().map(lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace")),
    configs().map(lambda tree: yaml.safe_dump(tree).encode("utf-16")),
)
_encodings = st.sampled_from(["utf-8", "cp1252", "ascii"])
_lines = st.tuples(_encodings, command_lines.command_lines()).map(
    lambda x: "\n".join([x[0], *(word.replace("\n", " ") for word in x[1])])
)

TARGETS = {t.name: t for t in (
    Target("yaml", 170, ".yaml", st.one_of(_yaml_texts.flatmap(damaged), st.binary()), check_yaml),
    Target("formula", 280, ".txt", formulas, check_formula),
    Target("config", 280, ".yaml", configs().map(written), check_config),
    Target("override", 70, ".txt", overrides(), check_override),
    Target("grid", 70, ".yaml", grids().map(written), check_grid),
    Target("command", 50, ".txt", _lines, check_command),
    Target("picture", 50, ".bin", stored.pictures(), check_picture),
    Target("state", 15, ".json", stored.states(), check_state),
    Target("weights", 15, ".json", stored.weights(), check_weights),
)}


def run(target: Target, case: Case, folder: Path) -> None:
    """Check a case in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target.check(case, folder)
