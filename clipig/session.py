"""Runs experiments: loads encoders once and divides runs into batches that fit into memory.

    session = Session()
    for group, event in session.render(session.settle(experiment)):
        ...

`run`, `rank`, `grid` and Python callers share it. It reads files (weights, init images,
image prompts); only sinks write files.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL.Image import Image as PilImage
from torch import Tensor
from torchvision.utils import make_grid

from clipig import encoders as models
from clipig.config.prompts import fill
from clipig.config.runs import spread
from clipig.config.schema import Experiment
from clipig.encoders.bridges import load_bridge
from clipig.encoders.protocol import Encoder, EncoderInfo
from clipig.engine.device import pick_device
from clipig.engine.events import Event, Finished, Step
from clipig.engine.execution import Execution
from clipig.engine.goals import PromptCache, Prompts, encode_prompts
from clipig.engine.loop import optimize
from clipig.engine.memory import fit, is_out_of_memory
from clipig.engine.state import State, join_states
from clipig.errors import ConfigError, DeviceError, ImageError, Problem
from clipig.images import load_image, load_rgba, to_pil
from clipig.plan.compiler import compile
from clipig.plan.grouping import run_sets
from clipig.plan.plan import Plan
from clipig.web import BytesDone


@dataclass(frozen=True)
class Group:
    """Runs that share a batch. `rows` are their indices in the list of experiments."""

    rows: tuple[int, ...]
    plan: Plan
    encoders: tuple[EncoderInfo, ...]


@dataclass(frozen=True)
class Inputs:
    """Loaded inputs of a plan.

    encoders    on one device, in the order of `plan.encoders`
    prompts     their embeddings of the plan's texts and image prompts
    start       init images `[R|1, 3, H, W]`, or None for noise
    mask        `[1, 1, h, w]`, 1 where the image may change, or None
    """

    encoders: tuple[Encoder, ...]
    prompts: Prompts
    start: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True)
class Result:
    """Images of R runs, in the order of the runs, on the CPU."""

    images: Tensor
    """`[R, 3, H, W]` float32, sRGB in 0 to 1"""
    similarities: tuple[float, ...]
    """100 * cosine of the last step, mean over the views"""
    seeds: tuple[int, ...]
    """seed of each run"""
    diverged: tuple[int, ...] = ()
    """indices of runs whose values became infinite; their image is the last finite one"""
    interrupted: bool = False
    """whether the runs were stopped early"""
    alpha: Tensor | None = None
    """`[R, 1, H, W]` in 0 to 1, for canvases that have transparency"""
    experiments: tuple[Experiment, ...] = ()
    """settled experiment of each run, sufficient to reproduce its image"""
    encoders: tuple[tuple[EncoderInfo, ...], ...] = ()
    """encoders that guided each run"""
    epochs: tuple[str, ...] = ()
    """finished epochs of each run: `200 of 200`"""

    def pil(self) -> list[PilImage]:
        """Convert the images to Pillow, RGB or RGBA, in the order of the runs."""
        if self.alpha is None:
            return [to_pil(image) for image in self.images]
        pairs = zip(self.images, self.alpha, strict=True)
        return [to_pil(torch.cat([image, alpha])) for image, alpha in pairs]

    def _repr_png_(self) -> bytes | None:
        """PNG for notebooks: the image, or all images in a grid."""
        if not len(self.images):
            return None
        out = io.BytesIO()
        columns = max(1, round(len(self.images) ** 0.5 + 0.4))
        sheet = self.images[0] if len(self.images) == 1 else make_grid(self.images, columns)
        to_pil(sheet).save(out, "PNG")
        return out.getvalue()


@dataclass
class Session:
    """Keeps loaded encoders and embedded prompts for several runs."""

    model: str | None = None
    """encoder that replaces the experiments' own"""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps` or `auto`; replaces the experiments' own"""
    precision: str | None = None
    """`fp32`, `bf16`, `fp16` or `auto`; replaces the experiments' own"""
    group: int | None = None
    """maximum number of runs per batch; None: the fastest number that fits into memory"""
    max_memory: int | None = None
    """maximum bytes that a batch may use; None: most of the free memory"""
    settings: Execution = field(default_factory=Execution)
    """settings that change time and memory only"""
    progress: BytesDone | None = None
    """called during downloads of weights with the bytes received and the total, if known"""
    prompts: PromptCache = field(default_factory=lambda: PromptCache(_square, load_bridge))
    """embeddings of texts and image prompts"""
    _infos: dict[tuple[str, str | None], EncoderInfo] = field(
        default_factory=dict, init=False, repr=False
    )
    _encoders: dict[tuple[str, str, str, str], Encoder] = field(
        default_factory=dict, init=False, repr=False
    )

    def settle(self, experiment: Experiment) -> list[Experiment]:
        """Split an experiment into one per run, each with its own seed and `row`.

        The first run has the config's seed, run k a seed derived from it, unless the config
        says `seeds: same`.

        Args:
            experiment: From `load`; a seed is chosen if it has none.

        Returns:
            `experiment.runs` experiments of one run each.

        Raises:
            ConfigError: A blank in a text has no word, or a key has no value for some run.
        """
        return spread(self.prepare(experiment))

    def prepare(self, experiment: Experiment) -> Experiment:
        """Choose a missing seed, fill blanks in texts and apply this session's overrides.

        Raises:
            ConfigError: A blank in a text has no word.
        """
        experiment = fill(experiment)
        seed = secrets.randbelow(2**32) if experiment.seed is None else experiment.seed
        update: dict[str, object] = {"seed": seed}
        if self.model is not None:
            first = experiment.model[0]
            update["model"] = [first.model_copy(update={"name": self.model, "activation": None})]
            update["targets"] = [t.model_copy(update={"models": None}) for t in experiment.targets]
        if self.device is not None:
            update["device"] = self.device
        if self.precision is not None:
            update["precision"] = self.precision
        return experiment.model_copy(update=update)

    def infos(self, experiment: Experiment) -> tuple[EncoderInfo, ...]:
        """Look up an experiment's encoders without loading weights.

        Raises:
            EncoderError: A model is unknown or its file is damaged.
        """
        for model in experiment.model:
            key = (model.name, model.activation)
            if key not in self._infos:
                self._infos[key] = models.resolve(
                    model.name, activation=model.activation, progress=self.progress
                )
        return tuple(self._infos[m.name, m.activation] for m in experiment.model)

    def encoders(self, experiment: Experiment) -> tuple[Encoder, ...]:
        """Load the encoders of an experiment, each once per session.

        Raises:
            EncoderError: A model is unknown, missing or damaged.
            DeviceError: The device does not exist.
        """
        device = pick_device(experiment.device)
        return tuple(
            self.encoder(info, device, experiment.precision) for info in self.infos(experiment)
        )

    def encoder(
        self, info: EncoderInfo, device: torch.device, precision: str = "auto"
    ) -> Encoder:
        """Load an encoder, once per device and precision. Raises `EncoderError`."""
        key = (info.name, info.activation, str(device), precision)
        if key not in self._encoders:
            self._encoders[key] = models.load(info, device, precision, self.progress)
        return self._encoders[key]

    def plan(self, experiments: Sequence[Experiment]) -> list[Group]:
        """Group settled experiments into batches that can run together, and compile each.

        Returns:
            Groups, each with the indices of its experiments and its plan.

        Raises:
            ConfigError: A value leaves its range at some step, or values contradict each other.
            EncoderError: A model is unknown.
        """
        groups = []
        for found in run_sets(experiments):
            chosen = [experiments[i] for i in found.rows]
            infos = self.infos(chosen[0])
            groups.append(Group(found.rows, compile(chosen, infos, found.timings), infos))
        return groups

    def inputs(self, plan: Plan) -> Inputs:
        """Load the inputs of a plan.

        Raises:
            ConfigError: An init image or image prompt cannot be loaded.
            EncoderError: A model cannot be loaded.
            ImageError: The mask cannot be read.
        """
        encoders = self.encoders(plan.experiment)
        prompts = encode_prompts(plan, encoders, self.prompts)
        return Inputs(encoders, prompts, starts(plan), load_mask(plan))

    def render(
        self, experiments: Sequence[Experiment], states: Sequence[State] | None = None,
        until: int | None = None,
    ) -> Iterator[tuple[Group, Event]]:
        """Run settled experiments, group by group; `run`, `rank` and `grid` all use it.

        A group that does not fit into memory is halved and restarted, which does not change
        the images.

        Args:
            experiments: One per run, from `settle`.
            states: One resume state per experiment, all after the same number of steps.
            until: Stop runs of longer plans after this many steps; their last event is
                then that `Step`, and no `Finished` follows.

        Yields:
            Each event with its group of runs.
        """
        waiting = self.plan(experiments)
        while waiting:
            group, settings = self._cut(waiting)
            needed = self.inputs(group.plan)
            state = join_states([states[row] for row in group.rows]) if states else None
            try:
                for event in optimize(
                    group.plan, needed.encoders, needed.prompts, needed.start, state,
                    needed.mask, settings,
                ):
                    yield group, event
                    if isinstance(event, Step) and until == event.step < group.plan.steps:
                        break
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e):
                    raise
                waiting[:0] = self._halves(group)

    def run(self, experiment: Experiment) -> Result:
        """Run an experiment without files or output; see `clipig.run`."""
        return collect(self.render(self.settle(experiment)), experiment.runs)

    def _cut(self, waiting: list[Group]) -> tuple[Group, Execution]:
        """Take the next group from `waiting`, divided first if it does not fit into memory."""
        group = waiting.pop(0)
        room = fit(group.plan, self.encoders(group.plan.experiment), self.max_memory)
        limit = self.group or room.group
        if len(group.rows) > limit:
            parts = [slice(i, i + limit) for i in range(0, len(group.rows), limit)]
            waiting[:0] = [self._part(group, rows) for rows in parts]
            group = waiting.pop(0)
        settings = self.settings
        if settings.chunk is None and len(group.rows) == 1:
            settings = replace(settings, chunk=room.chunk)
        return group, settings

    def _part(self, group: Group, rows: slice) -> Group:
        whole = group.plan
        plan = compile(whole.experiments[rows], group.encoders, whole.timings[rows])
        return Group(group.rows[rows], plan, group.encoders)

    def _halves(self, group: Group) -> list[Group]:
        count = len(group.rows)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if count == 1:
            self._chunk(group)
            return [group]
        self.group = max(1, count // 2)
        warnings.warn(f"out of memory with {count} runs; going on with {self.group}", stacklevel=3)
        return [self._part(group, slice(0, self.group)), self._part(group, slice(self.group, None))]

    def _chunk(self, group: Group) -> None:
        """Halve the views encoded at once. Raises `DeviceError` if it is only one already."""
        views = max(phase.views for phase in group.plan.phases)
        chunk = (self.settings.chunk or views) // 2
        if chunk < 1:
            raise DeviceError(
                "one run does not fit into the memory; "
                "a smaller resolution or batch_size, or another model, would"
            )
        self.settings = replace(self.settings, chunk=chunk)
        warnings.warn(f"out of memory with one run; encoding {chunk} views at once", stacklevel=4)


def _square(name: str, side: int) -> Tensor:
    return load_image(name, size=(side, side))


def starts(plan: Plan) -> Tensor | None:
    """Load the init images of a plan's runs, `[R|1, 3, H, W]`; None for noise.

    Raises:
        ConfigError: An image cannot be loaded, or a tensor has another shape.
    """
    first = plan.experiment.init
    if first.image_tensor is not None:
        tensors = [_tensor(e.init.image_tensor) for e in plan.experiments]
        return torch.stack([_cropped(tensor, plan.phases[0].size) for tensor in tensors])
    if first.image is None:
        return None
    size = plan.init.fixed.get("resolution") or plan.phases[0].size
    known: dict[str, Tensor] = {}
    for e in plan.experiments:
        name = e.init.image or ""
        if name not in known:
            try:
                known[name] = load_image(name, size=size)
            except ImageError as fault:
                raise ConfigError([Problem("", 0, 0, "init.image", str(fault))]) from fault
    return torch.stack([known[e.init.image or ""] for e in plan.experiments])


def load_mask(plan: Plan) -> Tensor | None:
    """Load the mask of a plan, `[1, 1, h, w]`: brightness times alpha. Raises `ImageError`."""
    name = plan.experiment.mask
    if name is None:
        return None
    picture = load_rgba(name, size=plan.phases[-1].size)
    return (picture[:3].mean(0) * picture[3])[None, None]


def _tensor(nested: object) -> Tensor:
    with contextlib.suppress(ValueError, TypeError):
        tensor = torch.tensor(nested, dtype=torch.float32)
        if tensor.ndim == 3 and tensor.shape[0] == 3 and tensor.numel():
            return tensor
    problem = Problem("", 0, 0, "init.image_tensor", "nested numbers [3][height][width] expected")
    raise ConfigError([problem])


def _cropped(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop the middle of an image `[3, h, w]` to the aspect of `size` (H, W), as for files."""
    height, width = image.shape[1:]
    high = min(height, max(1, round(width * size[0] / size[1])))
    wide = min(width, max(1, round(height * size[1] / size[0])))
    top, left = (height - high) // 2, (width - wide) // 2
    return image[:, top : top + high, left : left + wide]


def collect(events: Iterator[tuple[Group, Event]], runs: int) -> Result:
    """Collect a stream of events into a result; Ctrl-C ends it early with the images so far."""
    images: dict[int, Tensor] = {}
    alphas: dict[int, Tensor] = {}
    likeness, seeds, alive = [0.0] * runs, [0] * runs, [True] * runs
    told: dict[int, tuple[Experiment, tuple[EncoderInfo, ...], str]] = {}
    last: tuple[Group, Step | Finished] | None = None
    interrupted = False

    def keep(group: Group, event: Step | Finished) -> None:
        picture = event.picture() if isinstance(event, Step) else event.picture
        alpha = picture.layers.get("alpha")
        for i, row in enumerate(group.rows):
            images[row] = picture.rgb[i].clamp(0, 1).cpu()
            likeness[row], seeds[row] = float(event.similarity[i]), group.plan.seeds[i]
            alive[row] = bool(event.alive[i])
            done = event.epoch + 1 if isinstance(event, Step) else event.epochs
            told[row] = (
                group.plan.experiments[i], group.encoders, f"{done} of {group.plan.epochs}"
            )
            if alpha is not None:
                alphas[row] = alpha[i].cpu()

    try:
        for group, event in events:
            if isinstance(event, Finished):
                keep(group, event)
                last = None
            elif isinstance(event, Step):
                last = (group, event)
    except KeyboardInterrupt:
        interrupted = True
        if last is not None:
            keep(*last)
    rows = sorted(images)
    return Result(
        torch.stack([images[r] for r in rows]) if rows else torch.zeros(0, 3, 1, 1),
        tuple(likeness[r] for r in rows), tuple(seeds[r] for r in rows),
        tuple(r for r in rows if not alive[r]), interrupted,
        torch.stack([alphas[r] for r in rows]) if alphas else None,
        tuple(told[r][0] for r in rows), tuple(told[r][1] for r in rows),
        tuple(told[r][2] for r in rows),
    )

