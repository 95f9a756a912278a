"""Prompts with blanks: `let: {animal: penguin, thing: piano}` and `a {animal} made of {thing}`.

A recipe that looks at a picture in several ways (the whole, the silhouette, the
texture) needs the words of its prompt apart; with `let` they stand in one place.
"""

from __future__ import annotations

import re

from clipig.config.parts import Feature, Target
from clipig.config.schema import Experiment
from clipig.config.words import fix_articles
from clipig.errors import ConfigError, InputError, Problem
from clipig.values.faults import found, nearest
from clipig.values.text import valid_text

BLANK = re.compile(r"\{(\w+)\}")
MADE_OF = re.compile(
    r"^(?:an?\s+|the\s+)?(.+?)\s+made\s+(?:out\s+)?of\s+(?:an?\s+)?(.+?)\.?$", re.I
)


def fill(experiment: Experiment) -> Experiment:
    """The experiment with the blanks of its texts filled from `let`.

    Features whose words are empty are left out, and targets that lose all their
    features so. Raises `ConfigError` for a blank that `let` does not name.
    Experiments without `let` stay as they are: braces mean nothing in them.
    """
    if not experiment.let:
        return experiment
    problems: list[Problem] = []
    targets = [
        _target(t, f"targets[{i}]", experiment.let, problems)
        for i, t in enumerate(experiment.targets)
    ]
    if problems:
        raise ConfigError(problems)
    kept = [t for t, old in zip(targets, experiment.targets, strict=True)
            if t.features or not old.features]
    return experiment.model_copy(update={"targets": kept, "let": {}})


def unknown_blanks(experiment: Experiment) -> list[str]:
    """Blanks such as `{thing}` that stand in prompts although nothing fills them, in order.

    They are part of the prompt as in the original; the user should hear of them.
    """
    texts = [
        text for t in experiment.targets for f in t.features
        for text in ([f.text] if f.text else f.texts or [])
    ]
    found_in = [] if experiment.let else [m[0] for text in texts for m in BLANK.finditer(text)]
    return list(dict.fromkeys(found_in))


def _target(
    target: Target, key: str, words: dict[str, str], problems: list[Problem]
) -> Target:
    features = []
    for i, feature in enumerate(target.features):
        place = f"{key}.features[{i}]"
        filled = _feature(feature, place, words, problems)
        if filled is not None:
            features.append(filled)
    return target.model_copy(update={"features": features})


def _feature(
    feature: Feature, key: str, words: dict[str, str], problems: list[Problem]
) -> Feature | None:
    texts = [feature.text] if feature.text else list(feature.texts or [])
    if not texts:
        return feature
    filled = []
    for text in texts:
        blanks = BLANK.findall(text)
        for name in blanks:
            if name not in words:
                known = ", ".join(words)
                message = f"unknown blank {{{name}}}{nearest(name, words)} (`let` has {known})"
                problems.append(Problem("", 0, 0, f"{key}.text", message))
        if all(words.get(name, "x").strip() for name in blanks):
            filled.append(fix_articles(BLANK.sub(lambda m: words.get(m[1], m[0]), text)))
    if not filled:
        return None
    if feature.text:
        return feature.model_copy(update={"text": filled[0]})
    return feature.model_copy(update={"texts": filled})


def set_text(experiment: Experiment, text: str) -> Experiment:
    """The experiment for another prompt.

    Without `let` every text feature gets the new text. With it the words are
    changed: "a cat made of pizza" sets the first to `cat` and the second to
    `pizza`, any other text sets the first and leaves the others empty. Raises
    `ConfigError` if there is no text to replace.
    """
    try:
        text = valid_text(text)
    except InputError as e:
        message = str(e).removeprefix("the text: ")
        raise ConfigError([Problem("--text", 0, 0, "", message)]) from None
    if not text.strip():
        message = f"found {found(text)}, expected a prompt"
        raise ConfigError([Problem("--text", 0, 0, "", message)])
    if not experiment.let:
        return _replace_all(experiment, text)
    names = list(experiment.let)
    match = MADE_OF.match(text.strip()) if len(names) > 1 else None
    values = list(match.groups()) if match else [re.sub(r"^(an?|the)\s+", "", text.strip())]
    values += [""] * (len(names) - len(values))
    return experiment.model_copy(update={"let": dict(zip(names, values, strict=True))})


def _replace_all(experiment: Experiment, text: str) -> Experiment:
    """The experiment with the text of all its text features replaced."""
    done, targets = False, []
    for target in experiment.targets:
        features = []
        for feature in target.features:
            if feature.image is None:
                feature = feature.model_copy(update={"text": text, "texts": None})
                done = True
            features.append(feature)
        targets.append(target.model_copy(update={"features": features}))
    if not done:
        message = "found no text feature in the config, expected one"
        raise ConfigError([Problem("--text", 0, 0, "", message)])
    return experiment.model_copy(update={"targets": targets})


def first_prompt(experiment: Experiment) -> str:
    """The first prompt of a recipe: what the whole picture should show."""
    for target in experiment.targets:
        for feature in target.features:
            if feature.text or feature.texts:
                return feature.text or ", ".join(feature.texts or [])
    return ""
