"""The two calls that most Python callers need."""

from __future__ import annotations

from pathlib import Path

from clipig.config.load import load
from clipig.config.schema import Experiment
from clipig.errors import UsageError
from clipig.files import make_folder, user_path
from clipig.images import save_png
from clipig.outputs.metadata import PREFIX, metadata
from clipig.session import Result, Session


def run(
    experiment: Experiment | str | Path, model: str | None = None, device: str | None = None,
) -> Result:
    """Make all pictures of an experiment, without files or output.

    Ctrl-C ends it with the pictures so far (`result.interrupted`).

    Args:
        experiment: From `load` or `load_text`, or what `load` takes: a file, or the name of a
            shipped config. Its `runs` says how many pictures.
        model: Encoder to use instead of the experiment's, such as `"ViT-B/32"`.
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"` or `"auto"` instead of the experiment's.

    Returns:
        Pictures, similarities and seeds, in the order of the runs.

    Raises:
        ConfigError: The experiment cannot be carried out as it is (all faults at once).
        EncoderError: The model is unknown, missing or damaged.
        DeviceError: The device is not there, or one run does not fit into its memory.
        ImageError: A picture that the experiment names cannot be read.
        UsageError: An argument is of another kind.
    """
    if isinstance(experiment, str | Path):
        experiment = load(experiment)
    if not isinstance(experiment, Experiment):
        raise UsageError(f"run: found {experiment!r}, expected an experiment, a name or a file")
    for key, value in (("model", model), ("device", device)):
        if not isinstance(value, str | None):
            raise UsageError(
                f"run: {key}: found {type(value).__name__}, expected a name; "
                "encoders of your own go into clipig.optimize"
            )
    return Session(model, device).run(experiment)


def save(result: Result, folder: str | Path, stem: str = "picture") -> list[Path]:
    """Write the pictures of a result as PNG, with all that makes them again inside.

    Files are never overwritten: a number is added.

    Args:
        result: From `run` or `Session.run`.
        folder: Where to write; made if it does not exist.
        stem: Beginning of the file names, `STEM-SEED.png`.

    Returns:
        The paths, in the order of the runs.

    Raises:
        OutputError: The folder cannot be made.
        ImageError: A file cannot be written.
    """
    folder = make_folder(user_path(folder))
    paths = []
    for i, (image, seed) in enumerate(zip(result.pil(), result.seeds, strict=True)):
        texts = {f"{PREFIX}seed": str(seed), f"{PREFIX}similarity": f"{result.similarities[i]:.3f}"}
        if result.experiments:  # not in a result that the caller put together
            texts = metadata(
                result.experiments[i], result.encoders[i], result.similarities[i], result.epochs[i]
            )
        paths.append(save_png(image, folder / f"{stem}-{seed}.png", texts))
    return paths
