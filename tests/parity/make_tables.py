"""Makes the tables of this folder from the formulas beside it.

    python -m tests.parity.make_tables

Each table is JSON: rows of what stands in a config and what has to come out. Neither clipig
nor torch is imported, so a table can only change where somebody changes a formula.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import formulas as f

TABLES = Path(__file__).parent / "tables"
Row = dict[str, Any]


def picture(height: int = 7, width: int = 9, seed: int = 0) -> f.Array:
    """Random colours from .1 to .9, with four digits."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.1, 0.9, (3, height, width)).round(4))


def flat(red: float, green: float, blue: float) -> f.Array:
    """A picture of one colour."""
    return np.broadcast_to(f.per_channel([red, green, blue]), (3, 7, 9)).copy()


def short(value: Any) -> Any:
    """Arrays as lists of numbers of seven digits."""
    if isinstance(value, np.ndarray):
        return short(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, list | tuple):
        return [short(v) for v in value]
    if isinstance(value, Mapping):
        return {k: short(v) for k, v in value.items()}
    return value


def write(name: str, about: str, **content: Any) -> None:
    """One table; a row to a line, so that a change is a line in the history."""
    lines = [f'  "about": {json.dumps(about)}']
    for key, value in content.items():
        body = json.dumps(short(value))
        if isinstance(value, list):
            body = "[\n" + ",\n".join(f"    {json.dumps(short(row))}" for row in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {body}")
    (TABLES / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


# -- transforms -----------------------------------------------------------------------------------

CHANGES: list[tuple[Row, Callable[[f.Array], f.Array]]] = [
    ({"add": [0.1, 0, -0.2]}, lambda x: x + f.per_channel([0.1, 0, -0.2])),
    ({"add": 0.3}, lambda x: x + 0.3),
    ({"mul": "1/2"}, lambda x: x / 2),
    ({"mul": [0.5, 1, 2]}, lambda x: x * f.per_channel([0.5, 1, 2])),
    ({"mean": 0.5}, lambda x: f.mean(x, 0.5)),
    ({"mean": [0.2, 0.5, 0.7]}, lambda x: f.mean(x, [0.2, 0.5, 0.7])),
    ({"clamp": "0.3 0.6"}, lambda x: np.clip(x, 0.3, 0.6)),
    ({"quantize": 0.25}, lambda x: f.quantize(x, 0.25)),
    ({"quantize": [0.1, 0.3, 0.7]}, lambda x: f.quantize(x, [0.1, 0.3, 0.7])),
    *[({"saturation": k}, lambda x, k=k: f.saturation(x, k)) for k in (0, 0.3, 1, 2.5)],
    *[({"contrast": k}, lambda x, k=k: f.contrast(x, k)) for k in (0, 0.3, 1, 2.5)],
    ({"blur": 3}, lambda x: f.blur(x, (3, 3))),
    ({"blur": {"kernel_size": [5, 4]}}, lambda x: f.blur(x, (5, 5))),
    ({"blur": {"kernel_size": [0, 7], "sigma": [1, 2]}}, lambda x: f.blur(x, (1, 7), (1, 2))),
    ({"blur": {"kernel_size": 3, "sigma": 0}}, lambda x: x),
    ({"edge": {"kernel_size": 5, "amount": [1, 2, 3]}}, lambda x: f.edge(x, (5, 5), [1, 2, 3])),
    ({"edge": {"kernel_size": [3, 5], "sigma": 0.8}}, lambda x: f.edge(x, (3, 5), 1, (0.8, 0.8))),
    ({"border": {}}, lambda x: f.border(x, (1, 1), 0)),
    ({"border": {"size": [2, 1], "color": [0.1, 0.5, 0.9]}},
     lambda x: f.border(x, (2, 1), [0.1, 0.5, 0.9])),
    ({"border": {"size": [0, 2], "color": 1}}, lambda x: f.border(x, (0, 2), 1)),
    ({"border": {"size": 20}}, lambda x: np.zeros_like(x)),
    *[({"rotate": k}, lambda x, k=k: f.rotate(x, k)) for k in (0, 30, -75, 90, 180)],
    ({"rotate": {"degree": 40, "center": [0.2, 0.9]}}, lambda x: f.rotate(x, 40, (0.2, 0.9))),
    ({"random_rotate": {"degree": [25, 25]}}, lambda x: f.rotate(x, 25)),
    ({"random_rotate": {"degree": [-10, -10], "center": [0.3, 0.3]}},
     lambda x: f.rotate(x, -10, (0.3, 0.3))),
    ({"random_scale": [1, 1]}, lambda x: x),
    ({"random_scale": [1.5, 1.5]}, lambda x: f.zoom(x, 1.5)),
    ({"random_translate": 0}, lambda x: x),
    *[({"shift": k}, lambda x, k=k: f.shift(x, k))
      for k in ([1, 0], [0.5, 0.25], [-3, 2], [-0.99, 40], [1.7, -2.9])],
    ({"random_shift": [0.25, 0.25]}, lambda x: f.shift(x, (0.25, 0.25))),
    ({"random_shift": [1, 1, -2, -2]}, lambda x: f.shift(x, (1, -2))),
    ({"random_crop": [9, 7]}, lambda x: x),
    ({"crop": [0.25, 0.25, 0.5, 0.5]}, lambda x: f.crop(x, (0.25, 0.25, 0.5, 0.5))),
    ({"crop": [0, 0, 1, 1]}, lambda x: f.crop(x, (0, 0, 1, 1))),
    ({"crop": [-2, 3, 6, 9]}, lambda x: f.crop(x, (-2, 3, 6, 9))),
    ({"center_crop": [4, 5]}, lambda x: f.center_crop(x, (4, 5))),
    ({"center_crop": [12, 3]}, lambda x: f.center_crop(x, (12, 3))),
    ({"repeat": [2, 3]}, lambda x: f.repeat(x, (2, 3))),
    ({"pad": {"size": [2, 3], "color": [0.1, 0.5, 0.9]}},
     lambda x: f.pad(x, (2, 3), "fill", [0.1, 0.5, 0.9])),
    ({"pad": 1}, lambda x: f.pad(x, (1, 1))),
    ({"pad": {"size": [3, 2], "mode": "edge"}}, lambda x: f.pad(x, (3, 2), "edge")),
    ({"pad": {"size": [3, 2], "mode": "wrap"}}, lambda x: f.pad(x, (3, 2), "wrap")),
    *[({"resize": k}, lambda x, k=k: f.resize(x, k))
      for k in ([9, 7], [20, 15], [4, 3], [13, 5], [1, 1])],
]


def transforms() -> None:
    source = picture()
    rows = [{"entry": entry, "output": change(source)} for entry, change in CHANGES]
    write("transforms", "one transform of `input` [3, H, W]", input=source, rows=rows)


def noises() -> None:
    """What noise adds to a black picture: deviation by channel, and how alike the channels are."""
    size = (24, 18)  # width, height
    count = size[0] * size[1]
    small = f.enlarged_deviation((6, 5), size)
    rows: list[Row] = [
        {"entry": {"noise": [0.1, 0.2, 0.4]}, "deviation": [0.1, 0.2, 0.4], "alike": 0},
        {"entry": {"bwnoise": 0.1}, "deviation": [0.1] * 3, "alike": 1},
        {"entry": {"rnoise": {"std": [0.1, 0.2, 0.3], "resolution": [6, 5]}},
         "deviation": [0.1 * small, 0.2 * small, 0.3 * small], "alike": 0},
        {"entry": {"fnoise": 0.5}, "deviation": [0.5 * f.spectral_deviation(count)] * 3,
         "alike": 0},
    ]
    write("noises", "noise added to black views of `size` [w, h]: std, channels' correlation",
          size=list(size), rows=rows)


def places() -> None:
    """Where the pixel in the middle of a 41 x 31 picture is taken from, relative to it."""
    width, height = 41, 31

    def evenly(low: float, high: float) -> list[float]:
        return [low, high, (low + high) / 2, (high - low) / np.sqrt(12)]

    def rolled(low: float, high: float, extent: int) -> list[float]:
        moved = np.array([-f.pixels(v, extent) for v in np.linspace(low, high, 10_001)[:-1]])
        return [float(n) for n in (moved.min(), moved.max(), moved.mean(), moved.std())]

    rows: list[Row] = [
        {"entry": {"random_translate": [0.25, 0.1]}, "size": [width, height],
         "x": evenly(-0.25 * width, 0.25 * width), "y": evenly(-0.1 * height, 0.1 * height)},
        {"entry": {"random_shift": [2, 9]}, "size": [width, height],
         "x": rolled(2, 9, width), "y": rolled(2, 9, height)},
        {"entry": {"random_shift": [0.1, 0.3, -6, -2]}, "size": [width, height],
         "x": rolled(0.1, 0.3, width), "y": rolled(-6, -2, height)},
        # a crop of 21 x 21 begins at 0..20 and 0..10; its middle shows 10..30 and 10..20
        {"entry": {"random_crop": [21, 21]}, "size": [21, 21],
         "x": evenly(-10, 10), "y": evenly(-5, 5)},
    ]
    write("places", "source of the middle pixel relative to the middle of the input, in pixels: "
          "least, greatest, mean, deviation", input=[width, height], rows=rows)


# -- constraints ----------------------------------------------------------------------------------


def constraints() -> None:
    source = picture(5, 6, seed=1)
    cases: list[tuple[str, Row, Callable[[f.Array], float]]] = []
    for name, (factor, measure) in f.MEASURED.items():
        for limits in ({"above": 0.9}, {"below": 0.01}, {"above": [0.3, 0.5, 0.7], "below": 0.4}):
            for loss in ("l2", "l1"):
                def cost(
                    x: f.Array, factor: float = factor, measure: Any = measure,
                    limits: Any = limits, loss: str = loss,
                ) -> float:
                    above, below = limits.get("above"), limits.get("below")
                    return factor * f.bounds(measure(x), above, below, loss)

                cases.append((name, {**limits, "loss": loss}, cost))
    for loss in ("l2", "mse", "l1", "mae"):
        cases += [
            ("blur", {"loss": loss},
             lambda x, loss=loss: 100 * f.distance(x - f.blur(x, (3, 3)), loss)),
            ("border", {"size": [2, 1], "color": 0.7, "loss": loss},
             lambda x, loss=loss: 100 * f.distance(x - f.border(x, (2, 1), 0.7), loss)),
            ("normalize", {"min": 0.1, "max": 0.8, "loss": loss},
             lambda x, loss=loss: 10 * f.distance(x - f.normalized(x, 0.1, 0.8), loss)),
        ]
    cases.append(("blur", {"kernel_size": [5, 0], "sigma": 2},
                  lambda x: 100 * f.distance(x - f.blur(x, (5, 1), (2, 2)), "l2")))
    cases.append(("border", {"size": 0}, lambda x: 0.0))
    rows = [
        {"name": name, "options": options, "cost": cost(source), "slope": f.slope(cost, source)}
        for name, options, cost in cases
    ]
    level = [
        {"name": name, "options": {"above": 0.5}, "color": color,
         "cost": factor * f.bounds(measure(flat(*color)), 0.5, None)}
        for name, (factor, measure) in f.MEASURED.items()
        for color in ([0.4, 0.4, 0.4], [0.7, 0.7, 0.7], [0.2, 0.5, 0.9])
    ]
    write("constraints", "K * D and its gradient for `input` [3, H, W]; `flat`: for pictures of "
          "one colour", input=source, rows=rows, flat=level)


# -- features -------------------------------------------------------------------------------------

MATRIX = np.array([[1.0, 0.2, -0.3, 0.5], [-0.4, 1.0, 0.6, 0.1], [0.3, -0.5, 1.0, 0.8]])
"""The encoder of the tables: the mean colour of a view times this, to unit length."""
FEATURES = ["1 0 0 0", "0 1 0.5 0", "-0.2 0.1 1 0.3"]
"""Its texts are their embeddings, which it brings to unit length."""

SCORED: list[Row] = [
    *[{"features": [{"text": FEATURES[0], "loss": kind}]}
      for kind in ("cosine", "l1", "mae", "l2", "mse")],
    {"features": [{"text": t} for t in FEATURES]},
    {"features": [{"text": FEATURES[0], "weight": 2}, {"text": FEATURES[1], "weight": -0.5}]},
    {"features": [{"text": FEATURES[0], "loss": "l2"}, {"text": FEATURES[1], "weight": 3}],
     "weight": 0.25},
    *[{"features": [{"text": t, "weight": w} for t, w in zip(FEATURES, (1, 2, 3), strict=True)],
       "select": select} for select in ("best", "worst", "mix")],
    {"features": [{"text": FEATURES[0], "scale": 0.1}, {"text": FEATURES[1]}], "select": "best"},
    {"features": [{"text": FEATURES[0], "loss": "l1", "weight": -1}, {"text": FEATURES[1]}],
     "select": "mix"},
    {"features": [{"text": t} for t in FEATURES], "feature_scale": "fair"},
    {"features": [{"text": t, "scale": k} for t, k in zip(FEATURES, (1, 1.1, 0.9), strict=True)],
     "select": "best", "feature_scale": "fair"},
    {"features": [{"text": FEATURES[0]}], "batch_size": 5},
    {"features": [{"text": FEATURES[0]}], "batch_size": 3, "weight": 2,
     "constraints": [{"mean": {"above": 0.9, "weight": 0.1}}]},
]


def scored(target: Row, color: f.Array, start: f.Array) -> tuple[float, list[float]]:
    """Loss of a target and similarities of its features for a picture of one colour."""
    view = f.unit(color @ MATRIX)
    vectors = [f.unit(np.array([float(n) for n in d["text"].split()])) for d in target["features"]]
    weights = [d.get("weight", 1.0) for d in target["features"]]
    kinds = [d.get("loss", "cosine") for d in target["features"]]
    scale = np.array([d.get("scale", 1.0) for d in target["features"]])
    if target.get("feature_scale") == "fair":
        needed = np.array([1 / float(f.unit(start @ MATRIX) @ v) for v in vectors])
        scale = scale * needed / needed.max()
    sims = np.array([100 * float(view @ v) for v in vectors]) * scale
    losses = [w * f.feature_loss(view, v, k)
              for w, v, k in zip(weights, vectors, kinds, strict=True)]
    select = target.get("select", "all")
    if select == "mix":
        mixed = sum((w * v for w, v in zip(weights, vectors, strict=True)), np.zeros(4))
        mixed = mixed / sum(map(abs, weights))
        loss = (1 - float(view @ f.unit(mixed)) if kinds[0] == "cosine"
                else f.feature_loss(view, mixed, kinds[0]))
    elif select == "all":
        loss = sum(losses)
    else:
        loss = losses[int(sims.argmax() if select == "best" else sims.argmin())]
    for constraint in target.get("constraints", []):
        options = constraint["mean"]
        loss += options["weight"] * 100 * f.bounds(color, options["above"], None)
    return target.get("batch_size", 1) * target.get("weight", 1.0) * loss, sims.tolist()


def losses() -> None:
    color = np.array([0.6, 0.3, 0.45])
    rows = []
    for target in SCORED:
        loss, similarities = scored(target, color, color)
        steep = f.slope(lambda c, t=target: scored(t, c, color)[0], color)
        rows.append({"target": target, "loss": loss, "similarity": similarities, "slope": steep})
    write("losses", "loss, similarities and d loss / d colour of a target for a picture of "
          "`color`; embeddings are mean colour @ `matrix` and the numbers in the texts, to unit "
          "length",
          color=color, matrix=MATRIX, rows=rows)


# -- whole runs -----------------------------------------------------------------------------------

EPOCHS = 10
SIDE = 8
GOAL = (0.9, 0.6, 0.2)
Rates = Callable[[float], float]


class Run:
    """Pictures of one colour under `mean: {above: goal}`: a number per channel and step."""

    def __init__(
        self, rule: Any, rate: Rates = lambda t: 1.0, weight: Rates = lambda t: 1.0,
        on: Callable[[int], bool] = lambda epoch: True, loss: str = "l2",
        edit: Callable[[int, f.Array], f.Array] = lambda epoch, color: color,
        side: Callable[[float], int] = lambda t: SIDE, start: float = 0.4,
    ):
        self.rule, self.rate, self.weight, self.on = rule, rate, weight, on
        self.loss, self.edit, self.side, self.start = loss, edit, side, start

    def colors(self) -> list[list[float]]:
        """The colour after each step."""
        color, before, out = np.full(3, self.start), None, []
        rule = self.rule()
        for epoch in range(EPOCHS):
            t = f.moment(epoch, EPOCHS)
            side = self.side(t)
            if before not in (None, side):
                rule = self.rule()  # another size: moments begin anew
            before = side
            away = np.clip(np.array(GOAL) - color, 0, None)
            steep = 2 * away if self.loss == "l2" else np.sign(away)
            slope = -self.weight(t) * 100 / 3 * steep / side**2
            if self.on(epoch) and np.any(slope != 0):
                color = np.clip(color + rule.step(slope, rule.base * self.rate(t)), 0, 1)
            color = self.edit(epoch, color)
            out.append(color.tolist())
        return out


def target(**changes: Any) -> Row:
    """The target of the runs; `of_constraint` goes below its constraint."""
    inner = {"above": list(GOAL), **changes.pop("of_constraint", {})}
    return {"constraints": [{"mean": inner}], **changes}


def active(start: int | float, end: int | float) -> Callable[[int], bool]:
    return lambda epoch: f.is_active(epoch, EPOCHS, start, end)


def runs() -> None:
    def edited(epoch: int, color: f.Array) -> f.Array:
        return np.clip(color + 0.01, 0, 1) if epoch <= 3 else color

    adam, sgd = f.Adam, f.SGD
    slow: Row = {"optimizer": "sgd", "learnrate": 0.05}
    little: Rates = lambda t: 0.05  # noqa: E731
    plain = lambda: f.RMSprop(0.99, 0.0, False)  # noqa: E731
    window_cases: list[tuple[Row, Callable[[int], bool]]] = [
        ({"end": 4}, active(0.0, 4)), ({"end": 1.0}, active(0.0, 1.0)),
        ({"start": "1/2"}, active(0.5, 1.0)), ({"start": 3, "end": "50 %"}, active(3, 0.5)),
    ]
    cases: list[tuple[str, Row, Run]] = [
        ("adam", {"optimizer": "adam"}, Run(adam)),
        ("sgd", slow, Run(sgd, little)),
        ("adadelta", {"optimizer": "adadelta"}, Run(f.Adadelta)),
        ("rmsprob", {"optimizer": "rmsprob"}, Run(f.RMSprop)),
        ("rmsprop without momentum",
         {"optimizer": {"rmsprop": {"momentum": 0, "centered": False}}}, Run(plain)),
        ("l1", {"targets": [target(of_constraint={"loss": "l1"})]}, Run(adam, loss="l1")),
        ("a rate that falls", {"learnrate": "2*(1-t)"}, Run(adam, lambda t: 2 * (1 - t))),
        ("a rate that falls, rmsprob", {"learnrate": "1-t", "optimizer": "rmsprob"},
         Run(f.RMSprop, lambda t: 1 - t)),
        ("two factors", {"learnrate": 0.2, "learnrate_scale": "ti2", "optimizer": "sgd"},
         Run(sgd, lambda t: 0.2 * (1 - t) ** 2)),
        ("a ramp", {"learnrate": "ts(.2, .8)"}, Run(adam, lambda t: f.time_step(t, 0.2, 0.8))),
        ("weights", {**slow, "targets": [target(weight=0.5, of_constraint={"weight": "1+t"})]},
         Run(sgd, little, lambda t: 0.5 * (1 + t))),
        ("views are summed", {**slow, "targets": [target(batch_size=3)]},
         Run(sgd, little, lambda t: 3)),
        ("targets are summed", {**slow, "targets": [target(), target(weight=0.5)]},
         Run(sgd, little, lambda t: 1.5)),
        ("lr is the final rate", {**slow, "targets": [target(weight="lr")]},
         Run(sgd, little, lambda t: 0.5)),
        ("an edit after each step", {"postproc": [{"add": 0.01, "end": 3}]},
         Run(adam, edit=edited)),
        ("an edit, rmsprob", {"postproc": [{"add": 0.01, "end": 3}], "optimizer": "rmsprob"},
         Run(f.RMSprop, edit=edited)),
        ("another size begins anew", {"optimizer": "rmsprob", "resolution": "[4 if t<.5 else 8]"},
         Run(f.RMSprop, side=lambda t: 4 if t < 0.5 else 8)),
        ("colours end at 0 and 1", {"optimizer": "sgd", "learnrate": 40},
         Run(sgd, lambda t: 40.0)),
        *[(f"target {window}", {**slow, "targets": [target(**window)]},
           Run(sgd, little, on=on)) for window, on in window_cases],
        *[(f"constraint {window}", {"targets": [target(of_constraint=window)]}, Run(adam, on=on))
          for window, on in window_cases],
    ]
    rows = []
    for name, changes, run in cases:
        config = {"epochs": EPOCHS, "resolution": SIDE, "init": {"mean": run.start, "std": 0},
                  "targets": [target()], **changes}
        rows.append({"name": name, "config": config, "colors": run.colors()})
    write("runs", "the colour of a picture of one colour after each step", rows=rows)


# -- time -----------------------------------------------------------------------------------------

SCHEDULES: list[tuple[Any, Rates]] = [
    ("constant", lambda t: 1),
    ("linear", lambda t: 1 - t),
    ({"linear": {"peak": 2, "floor": 0.5}}, lambda t: f.between(2, 0.5, t)),
    ({"constant": {"peak": 0.5, "warmup": "25%"}}, lambda t: min(1, 4 * t) / 2),
    ("cosine", lambda t: f.annealed(1, 0, t)),
    ({"cosine": {"peak": 1, "warmup": 0.25, "floor": 0.1}},
     lambda t: f.between(0.1, 1, 4 * t) if t < 0.25 else f.annealed(1, 0.1, (t - 0.25) / 0.75)),
    ({"exponential": {"peak": 2, "floor": 0.02}}, lambda t: 2 * 0.01**t),
    ({"one_cycle": {"peak": 2}},
     lambda t: f.annealed(2 / 25, 2, t / 0.3) if t < 0.3 else f.annealed(2, 0, (t - 0.3) / 0.7)),
]


def times() -> None:
    epochs = 11
    formulas: dict[str, Callable[[int, float], float]] = {
        "t": lambda e, t: t, "time": lambda e, t: t, "epoch": lambda e, t: e,
        **{f"t{n}": lambda e, t, n=n: t**n for n in (2, 3, 4, 5)},
        "ti": lambda e, t: 1 - t,
        **{f"ti{n}": lambda e, t, n=n: (1 - t) ** n for n in (2, 3, 4, 5)},
        "ts(.2, .7)": lambda e, t: f.time_step(t, 0.2, 0.7),
        "time_step(.7, .2)": lambda e, t: f.time_step(t, 0.7, 0.2),
        "ts(.5, .5)": lambda e, t: f.time_step(t, 0.5, 0.5),
        "1/5*ti": lambda e, t: (1 - t) / 5,
        "8 if t < .4 else 16": lambda e, t: 8 if t < 0.4 else 16,
        "max(8, min(224, int(t*448/8)*8))":
            lambda e, t: max(8, min(224, int(t * 448 / 8) * 8)),
        "sin(pi*t)**2": lambda e, t: float(np.sin(np.pi * t) ** 2),
    }
    rows = [
        {"formula": text, "values": [float(value(e, f.moment(e, epochs))) for e in range(epochs)]}
        for text, value in formulas.items()
    ]
    moments: list[tuple[Any, Any, int | float, int | float]] = [
        (0.0, 1.0, 0.0, 1.0), (0, 1, 0, 1), (3, 1.0, 3, 1.0), ("30%", "70 %", 0.3, 0.7),
        ("1/2", "300", 0.5, 300), (0.25, 7, 0.25, 7), (5, 5, 5, 5), (0.55, 0.56, 0.55, 0.56),
        ("10%", 0.1, 0.1, 0.1),
    ]
    windows = [
        {"start": start, "end": end,
         "active": [e for e in range(epochs) if f.is_active(e, epochs, low, high)]}
        for start, end, low, high in moments
    ]
    rates = [
        {"learnrate": written, "values": [float(rate(f.moment(e, epochs))) for e in range(epochs)]}
        for written, rate in SCHEDULES
    ]
    write("times", "values of formulas and schedules, and active epochs of windows",
          epochs=epochs, rows=rows, windows=windows, rates=rates)


def main() -> None:
    TABLES.mkdir(exist_ok=True)
    for make in (transforms, noises, places, constraints, losses, runs, times):
        make()


if __name__ == "__main__":
    main()
