"""What a stranger's config would open: the metadata of an image name files and addresses."""

from __future__ import annotations

from collections.abc import Collection

from clipig.config.load import load_text
from clipig.config.schema import Experiment
from clipig.errors import ConfigError, Problem
from clipig.ops.constraints.style import Style

MAX_FOREIGN = 1 << 18
"""Bytes of a config in the metadata of an image."""


def load_foreign(text: str, name: str) -> Experiment:
    """Read a config from the metadata of an image.

    Args:
        text: The YAML.
        name: The image's file, for messages.

    Returns:
        The experiment. It opens nothing; ask `foreign` before something does.

    Raises:
        ConfigError: It is too large, or something is wrong with it.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_FOREIGN:
        message = f"found a config of {size:,} bytes, at most {MAX_FOREIGN:,} are read"
        raise ConfigError([Problem(name, 0, 0, "", message)])
    return load_text(text, name)


def foreign(experiment: Experiment, known_models: Collection[str] = ()) -> list[str]:
    """Everything that an experiment names outside itself.

    Args:
        experiment: From a stranger.
        known_models: Names of models that may be loaded without a question, beside
            `auto` and `embedded`.

    Returns:
        Paths and addresses of images, and the models that are not known: nothing of this
        list is opened before the user has agreed. In order, each once.
    """
    names: list[str | None] = [experiment.init.image, experiment.mask]
    for target in experiment.targets:
        # an image beside a text is not opened, but the text may be edited
        names += [feature.image for feature in target.features]
        names += [c.image for c in target.constraints if isinstance(c, Style)]
    models = [model.name for model in experiment.model]
    names += [m for m in models if m not in {"auto", "embedded", *known_models}]
    return list(dict.fromkeys(name for name in names if name))
