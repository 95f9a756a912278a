"""Which recipe makes the better pictures? Judged by a model that did not guide them.

    python benchmarks/quality.py --out quality/ [--subjects 36] [--seeds 2] [--budget 800]
        [--recipes pyramid layers ...] [--ablations] [--judge embedded-judge] [--report]

Every recipe gets the same number of view evaluations per picture; two guides
(`--second MODEL`, for the recipe `ensemble`) share it. Pictures that
are already in the folder are not made again, so a stopped run goes on where it
was, and a larger one adds to a smaller one. `--report` only measures and
writes. Results: `results.json`, `table.md` and contact sheets.

Intervals are bootstraps over the subjects (means over seeds first): they say how
far the table holds for other prompts of this kind, not for other models.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.quality_recipes import ABLATIONS, ENSEMBLES, RECIPES, SUBJECTS, Subject
from clipig.config.grid import load_grid
from clipig.config.schema import Experiment
from clipig.encoders import resolve
from clipig.images import load_image, save_png
from clipig.jobs.quality import QualityRow, interval, score
from clipig.outputs.contact_sheet import contact_sheet
from clipig.session import Session, collect

NUMBERS = ("reciprocal", "similarity", "slope", "variation", "saturation", "sharpness")


def place(out: Path, recipe: str, subject: Subject, seed: int) -> Path:
    """Where a picture lies."""
    name = subject.text.replace(" ", "_")
    return out / recipe.replace(" ", "_") / f"{name}-{seed}.png"


def missing(
    out: Path, recipe: str, subjects: Sequence[Subject], seeds: int
) -> list[tuple[Subject, int]]:
    """Pictures of a recipe that are still to be made; those with a thing first, then without."""
    cells = [(s, k) for k in range(seeds) for s in subjects]
    return [c for c in cells if not place(out, recipe, *c).exists()]


def batches(
    cells: Sequence[tuple[Subject, int]], size: int
) -> Iterator[list[tuple[Subject, int]]]:
    """Groups of at most `size` whose configs have the same structure."""
    for with_thing in (True, False):
        kind = [c for c in cells if bool(c[0].thing) is with_thing]
        for i in range(0, len(kind), size):
            yield kind[i : i + size]


def make(
    out: Path, recipe: str, cells: Sequence[tuple[Subject, int]], budget: int, session: Session,
    models: Sequence[str], size: int,
) -> None:
    """Make and save pictures, and note the time that they took."""
    build = (RECIPES | ABLATIONS)[recipe]
    for batch in batches(cells, size):
        guides = [{"name": m, "weight": f"1/{len(models)}"} for m in models]
        configs = [
            {**build(s, budget // len(models)), "seed": k, "model": guides,
             "device": session.device or "auto"}
            for s, k in batch
        ]
        begun = time.perf_counter()
        experiments = [Experiment.model_validate(c) for c in configs]
        result = collect(session.render(experiments), len(experiments))
        seconds = (time.perf_counter() - begun) / len(batch)
        if result.interrupted:
            raise KeyboardInterrupt
        for cell, picture in zip(batch, result.images, strict=True):
            path = place(out, recipe, *cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            note = {"seconds": f"{seconds:.2f}", "budget": str(budget), "text": cell[0].text}
            save_png(picture, path, note, overwrite=True)
        print(f"{recipe}: {len(batch)} pictures, {seconds:.1f} s each", flush=True)
        with (out / "times.jsonl").open("a") as file:
            line = {"recipe": recipe, "seconds": seconds, "pictures": len(batch), "budget": budget}
            file.write(json.dumps(line) + "\n")


def measured(
    out: Path, recipes: Sequence[str], subjects: Sequence[Subject], seeds: int,
    session: Session, judge: str, candidates: Sequence[str],
) -> dict[str, list[tuple[Subject, int, QualityRow]]]:
    """The measures of all pictures that are there, by recipe."""
    encoder = session.encoder(resolve(judge), torch.device(session.device or "cpu"), "fp32")
    found: dict[str, list[tuple[Subject, int, QualityRow]]] = {}
    for recipe in recipes:
        cells = [(s, k) for s in subjects for k in range(seeds)
                 if place(out, recipe, s, k).exists()]
        if not cells:
            continue
        pictures = [load_image(place(out, recipe, *c)) for c in cells]
        rows = score(pictures, [s.text for s, _ in cells], encoder, candidates)
        found[recipe] = [(s, k, row) for (s, k), row in zip(cells, rows, strict=True)]
    return found


def by_subject(
    rows: Sequence[tuple[Subject, int, QualityRow]], number: str
) -> dict[Subject, float]:
    """Mean over the seeds of a number, for each subject."""
    values: dict[Subject, list[float]] = {}
    for subject, _, row in rows:
        values.setdefault(subject, []).append(float(getattr(row, number)))
    return {s: sum(v) / len(v) for s, v in values.items()}


def summary(
    found: Mapping[str, list[tuple[Subject, int, QualityRow]]], against: str
) -> dict[str, dict[str, object]]:
    """Per recipe: means with intervals, and the paired difference of 1/rank to `against`."""
    table: dict[str, dict[str, object]] = {}
    reference = by_subject(found[against], "reciprocal") if against in found else {}
    for recipe, rows in found.items():
        entry: dict[str, object] = {"pictures": len(rows)}
        for number in NUMBERS:
            entry[number] = interval(list(by_subject(rows, number).values()))
        entry["first"] = sum(row.rank == 1 for *_, row in rows) / len(rows)
        entry["first five"] = sum(row.rank <= 5 for *_, row in rows) / len(rows)
        for kind, wanted in (("pairs", True), ("alone", False)):
            own = by_subject([r for r in rows if bool(r[0].thing) is wanted], "reciprocal")
            entry[kind] = interval(list(own.values()))
        own = by_subject(rows, "reciprocal")
        both = [s for s in own if s in reference]
        entry["gain"] = interval([own[s] - reference[s] for s in both])
        table[recipe] = entry
    return table


def seconds_per_picture(out: Path) -> dict[str, float]:
    """Mean time of a picture by recipe, from what was noted."""
    total: dict[str, list[float]] = {}
    path = out / "times.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        both = total.setdefault(entry["recipe"], [0.0, 0.0])
        both[0] += entry["seconds"] * entry["pictures"]
        both[1] += entry["pictures"]
    return {recipe: a / b for recipe, (a, b) in total.items()}


def markdown(
    table: Mapping[str, Mapping[str, object]], times: Mapping[str, float], against: str
) -> str:
    """The table for the documentation."""

    def cell(value: object, digits: int = 2) -> str:
        mean, low, high = value  # type: ignore[misc]
        if math.isnan(mean):
            return "–"
        return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    head = (
        "| recipe | pictures | 1/rank | pairs | alone | first | first 5 | "
        f"gain over {against} | similarity | slope | variation | saturation | s |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for recipe, e in sorted(table.items(), key=lambda r: -r[1]["reciprocal"][0]):  # type: ignore[index]
        plain = [f"{e[n][0]:.{d}f}" for n, d in (  # type: ignore[index]
            ("similarity", 1), ("slope", 2), ("variation", 3), ("saturation", 3))]
        lines.append("| " + " | ".join([
            recipe, str(e["pictures"]), cell(e["reciprocal"]), cell(e["pairs"]),
            cell(e["alone"]), f"{e['first']:.0%}", f"{e['first five']:.0%}", cell(e["gain"]),
            *plain, f"{times[recipe]:.1f}" if recipe in times else "–",
        ]) + " |")
    return "\n".join(lines) + "\n"


def sheets(
    out: Path, found: Mapping[str, list[tuple[Subject, int, QualityRow]]],
    subjects: Sequence[Subject],
) -> None:
    """One sheet per recipe, and one of all recipes (columns) by subject (rows), seed 0."""
    for recipe, rows in found.items():
        pictures: list[Tensor] = [load_image(place(out, recipe, s, k)) for s, k, _ in rows]
        labels = [f"{s.text} · {row.rank}" for s, _, row in rows]
        sheet = contact_sheet(pictures, labels, columns=8, cell=128)
        save_png(sheet, out / f"sheet-{recipe.replace(' ', '_')}.png", overwrite=True)
    side_by_side(out / "sheet.png", out, found, subjects)
    side_by_side(out / "compared.png", out, found, subjects[::3])


def side_by_side(
    path: Path, out: Path, found: Mapping[str, list[tuple[Subject, int, QualityRow]]],
    subjects: Sequence[Subject],
) -> None:
    """All recipes (columns) by subject (rows), seed 0, with the place of the true caption."""
    cells, labels = [], []
    for subject in subjects:
        line = [
            (r, row) for r, rows in found.items() for s, k, row in rows if s == subject and k == 0
        ]
        if len(line) < len(found):
            continue
        cells += [load_image(place(out, r, subject, 0)) for r, _ in line]
        labels += [f"{r}: {subject.text} · {row.rank}" for r, row in line]
    if cells:
        sheet = contact_sheet(cells, labels, columns=len(found), cell=128, font_size=11)
        sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path)  # a third of the bytes


def main() -> None:
    """Make what is missing, measure everything, write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="*", choices=[*(RECIPES | ABLATIONS)])
    parser.add_argument("--ablations", action="store_true", help="the pyramid's, not the canvases")
    parser.add_argument("--subjects", type=int, default=len(SUBJECTS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=int, default=800, help="view evaluations per picture")
    parser.add_argument("--batch", type=int, default=6, help="pictures made at once")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--second", help="a further guide, for the ensemble")
    parser.add_argument("--judge", default="embedded-judge")
    parser.add_argument("--against", default="method 2")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", action="store_true", help="make no pictures")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if chosen.judge in (chosen.model, chosen.second):
        print("the judge guided the pictures itself: its ranks mean nothing", file=sys.stderr)
    recipes = chosen.recipes or [*(ABLATIONS if chosen.ablations else RECIPES)]
    if not chosen.second:
        recipes = [r for r in recipes if r not in ENSEMBLES]
    count = max(1, min(chosen.subjects, len(SUBJECTS)))
    # evenly spread, so that few subjects are of both kinds
    subjects = [SUBJECTS[i * len(SUBJECTS) // count] for i in range(count)]
    session = Session(device=chosen.device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if not chosen.report:
        for recipe in recipes:
            cells = missing(chosen.out, recipe, subjects, chosen.seeds)
            models = [chosen.model, *([chosen.second] if recipe in ENSEMBLES else [])]
            make(chosen.out, recipe, cells, chosen.budget, session, models, chosen.batch)
    axes = load_grid("grid_article").grid.axes
    animals, things = ([entry.name for entry in axes[name]] for name in ("animal", "thing"))
    candidates = list(dict.fromkeys([
        *(Subject(a, t).text for a in animals for t in things), *(s.text for s in SUBJECTS),
        *(Subject(name).alone for name in (*animals, *things)),
    ]))
    found = measured(
        chosen.out, recipes, subjects, chosen.seeds, session, chosen.judge, candidates
    )
    table = summary(found, chosen.against)
    text = markdown(table, seconds_per_picture(chosen.out), chosen.against)
    (chosen.out / "table.md").write_text(text)
    (chosen.out / "results.json").write_text(json.dumps({
        "judge": Path(chosen.judge).stem, "model": chosen.model, "budget": chosen.budget,
        "second": chosen.second, "candidates": len(candidates), "table": table,
        "pictures": [
            {"recipe": r, "seed": k, **row.as_dict()}
            for r, rows in found.items() for _, k, row in rows
        ],
    }, indent=1))
    sheets(chosen.out, found, subjects)
    print(text)


if __name__ == "__main__":
    main()
