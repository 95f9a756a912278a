"""Writes the report of a ranking: a table, a contact sheet and a page."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from clipig.config.dump import dump
from clipig.errors import ClipigError
from clipig.files import atomic_write, csv_cell, shell
from clipig.images import load_image, save_png
from clipig.jobs.folder import RunRecord
from clipig.jobs.pace import duration
from clipig.jobs.ranking import Ranked
from clipig.jobs.stages import Ranking, score_of
from clipig.outputs.contact_sheet import contact_sheet
from clipig.outputs.pages.model import Candidate, Correlation, RankingPage, Recipe
from clipig.outputs.pages.ranking import write_ranking

LOOKS = ("brightness", "contrast", "saturation", "detail")
COLUMNS = (
    "run", "seed", "short", "final", "short_held_out", "final_held_out", "short_last",
    "final_last", "short_steps", "place", *LOOKS, *(f"final_{k}" for k in LOOKS),
    "picture", "final_picture", "seconds", "error",
)
LEVEL, DRAWS = 0.95, 2000
WIDE = 8


@dataclass(frozen=True)
class Agreement:
    """Rank and linear correlation of two scores over `runs` runs.

    `low` and `high` are the limits of the rank correlation (bootstrap, 95 %).
    """

    name: str
    runs: int
    spearman: float
    low: float
    high: float
    pearson: float


def agreement(name: str, x: Sequence[float], y: Sequence[float]) -> Agreement | None:
    """Correlate two lists of scores; None for fewer than 5 scores or constant ones."""
    if len(x) < 5 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    a, b = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    pick = torch.randint(len(x), (DRAWS, len(x)), generator=rng)
    drawn = _correlation(_ranks(a[pick]), _ranks(b[pick]))
    drawn = drawn[torch.isfinite(drawn)]
    tail = (1 - LEVEL) / 2
    low, high = (float(torch.quantile(drawn, q)) for q in (tail, 1 - tail))
    return Agreement(
        name, len(x), float(_correlation(_ranks(a[None]), _ranks(b[None]))), low, high,
        float(_correlation(a[None], b[None])),
    )


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks along the rows of `[B, n]`; equal values share the mean of their ranks."""
    below = (values[:, :, None] > values[:, None, :]).sum(-1)
    equal = (values[:, :, None] == values[:, None, :]).sum(-1)
    return below + (equal - 1) / 2.0


def _correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double() - a.double().mean(-1, True), b.double() - b.double().mean(-1, True)
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def agreements(ranked: Ranked) -> list[Agreement]:
    """Correlations of every short score with every final score."""
    found = []
    for x_name, x in (("fresh", "fresh"), ("held_out", "held_out")):
        for y_name, y in (("fresh", "fresh"), ("held_out", "held_out")):
            pairs = [
                (a, b) for name, row in ranked.final.items()
                if (a := getattr(ranked.short[name], x)) is not None
                and (b := getattr(row, y)) is not None
            ]
            label = f"short {_words(x_name)} and final {_words(y_name)}"
            one = agreement(label, [p[0] for p in pairs], [p[1] for p in pairs])
            if one is not None:
                found.append(one)
    return found


def _words(score: str) -> str:
    return {"fresh": "similarity", "held_out": "held-out score"}[score]


def table(ranking: Ranking, ranked: Ranked) -> str:
    """The article's table as text."""
    lines = []
    for title, names in (("best", ranked.best), ("worst", ranked.worst)):
        if names:
            lines.append(f"{title} of {len(ranked.short)}")
        for name in names:
            a, b = ranked.short[name], ranked.final.get(name)
            line = f"  #{int(name):<5} sim: {_show(score_of(ranking, a))} -> "
            line += _show(score_of(ranking, b) if b else None)
            if ranking.settings.judge and ranking.settings.by == "fresh":
                line += f"   held-out: {_show(a.held_out)} -> {_show(b.held_out if b else None)}"
            if b is not None and b.error:
                line += f"   {b.error}"
            lines.append(line)
    for one in agreements(ranked):
        lines.append(
            f"{one.name}: rank correlation {one.spearman:+.2f} "
            f"({one.low:+.2f} to {one.high:+.2f}, {one.runs} runs)"
        )
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "  -  " if value is None else f"{value:5.2f}"


def write_csv(ranking: Ranking, ranked: Ranked) -> None:
    """Write `ranking.csv`, best candidate first. Raises `OutputError`."""
    order = sorted(
        ranked.short.values(),
        key=lambda r: (-ranked.steps[r.name], -(score_of(ranking, r) or -math.inf), r.name),
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, row in enumerate(order, 1):
        final = ranked.final.get(row.name)
        looks = [_cell(getattr(r.look, k, None) if r else None) for r in (row, final)
                 for k in LOOKS]
        writer.writerow([
            int(row.name), row.seed, _cell(row.fresh), _cell(final and final.fresh),
            _cell(row.held_out), _cell(final and final.held_out), _cell(row.last),
            _cell(final and final.last), ranked.steps[row.name], place, *looks,
            row.picture, final.picture if final else "",
            f"{row.seconds + (final.seconds if final else 0):.2f}",
            csv_cell("; ".join(r.error for r in (row, final) if r and r.error)),
        ])
    atomic_write(ranking.folder.root / "ranking.csv", out.getvalue())


def _cell(value: object) -> str:
    return f"{value:.5f}" if isinstance(value, float) else ""


def command_of(ranking: Ranking, row: RunRecord, final: bool) -> str:
    """Command line that reproduces one image."""
    root = ranking.folder.root
    recipe = root / ("final.yaml" if final else "short.yaml")
    words = ["clipig", "run", str(recipe), "--seed", str(row.seed)]
    if final and not ranking.settings.restart:
        picture = (root / "short" / f"{row.name}.png").as_posix()
        for key, value in (("image", picture), ("mean", "0"), ("std", "1")):
            words += ["--set", f"init.{key}={value}"]
    return shell(*words)


def write_report(ranking: Ranking, ranked: Ranked, command: str) -> None:
    """Write CSV, contact sheet and page. Raises `OutputError` or `ImageError`."""
    write_csv(ranking, ranked)
    write_contact_sheet(ranking, ranked)
    settings = ranking.settings
    judge = settings.judge or ""
    guide = ", ".join(m.name for m in ranking.short.model)
    page = RankingPage(
        title=settings.name, prompt=settings.prompt,
        candidates=tuple(_candidate(ranking, ranked, row) for row in ranked.short.values()),
        best=tuple(map(int, ranked.best)), worst=tuple(map(int, ranked.worst)),
        recipes=(Recipe("short runs", dump(ranking.short)), Recipe("finals", dump(ranking.final))),
        correlations=tuple(
            Correlation(a.name, a.spearman, a.low, a.high, a.runs) for a in agreements(ranked)
        ),
        command=command, csv="ranking.csv", guide=guide, judge=judge,
        facts=_facts(ranking, ranked, guide, judge),
    )
    write_ranking(ranking.folder.root, page)


def _facts(
    ranking: Ranking, ranked: Ranked, guide: str, judge: str
) -> tuple[tuple[str, str], ...]:
    settings = ranking.settings
    seconds = sum(r.seconds for r in (*ranked.short.values(), *ranked.final.values()))
    facts = [("guide", guide)]
    if judge:
        facts.append(("judge", judge))
    how = "successive halving" if settings.halving else f"{settings.short_epochs} epochs"
    last = "the whole recipe, same seed" if settings.restart else "from the candidate's picture"
    facts += [
        ("search", f"{len(ranked.short)} runs, {how}"),
        ("finals", f"{settings.final_epochs} epochs, {last}"),
        ("ranked by", "held-out score" if settings.by == "held-out" else "fresh views"),
        ("views", str(settings.views)), ("seed", str(settings.seed)),
        ("computing time", duration(seconds)),
    ]
    return tuple(facts)


def _candidate(ranking: Ranking, ranked: Ranked, row: RunRecord) -> Candidate:
    final = ranked.final.get(row.name)
    return Candidate(
        int(row.name), row.seed, row.fresh, final.fresh if final else None,
        row.held_out, final.held_out if final else None, row.picture, row.thumb,
        final.picture if final else "", final.thumb if final else "",
        command_of(ranking, row, False), command_of(ranking, row, True) if final else "",
        "; ".join(r.error for r in (row, final) if r and r.error),
    )


def write_contact_sheet(ranking: Ranking, ranked: Ranked) -> None:
    """Write a PNG that shows the finals below their candidates."""
    names = (*ranked.best, *ranked.worst)
    root = ranking.folder.root
    finals = [ranked.final[n] for n in names if n in ranked.final and ranked.final[n].picture]
    if not finals:
        return
    pictures, labels = [], []
    for i in range(0, len(finals), WIDE):
        part = finals[i : i + WIDE]
        shorts = [ranked.short[row.name] for row in part]
        for rows, title in ((shorts, "short"), (part, "final")):
            for row in rows:
                pictures.append(_picture(root / row.picture))
                score = _show(score_of(ranking, row)).strip()
                labels.append(f"#{int(row.name)} {title} {score}")
            if i:  # fill the last line, which may be shorter than the first
                pictures += [_picture(None)] * (WIDE - len(part))
                labels += [""] * (WIDE - len(part))
    sheet = contact_sheet(pictures, labels, columns=min(len(finals), WIDE), cell=192)
    save_png(sheet, root / "contact_sheet.png", overwrite=True)


def _picture(path: Path | None) -> torch.Tensor:
    """Load an image; white if there is none or it cannot be read."""
    if path is not None:
        with contextlib.suppress(ClipigError):
            return load_image(path)
    return torch.ones(3, 8, 8)
