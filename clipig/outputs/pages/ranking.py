"""Writes the report of a ranking: the article's table, charts, and all candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from clipig.outputs.pages.charts import draw_histogram, draw_scatter
from clipig.outputs.pages.model import Candidate, Correlation, RankingPage, Recipe
from clipig.outputs.pages.parts import build_page, link, render_code, render_facts, show, write_page

Score = Callable[[Candidate], float | None]


def write_ranking(folder: Path, data: RankingPage) -> Path:
    """Write `index.html` into `folder` and return its path."""
    slots = {
        "title": escape(data.title),
        "kind": "ranking",
        "head": render_head(data),
        "body": "\n".join(
            [
                render_table(data),
                render_charts(data),
                render_candidates(data),
                render_recipes(data.recipes, data.command),
            ]
        ),
        "foot": f"Made by {escape(data.created_by)}",
    }
    page = build_page("report.html", ("base.css", "report.css"), ("base.js", "report.js"), slots)
    return write_page(folder, "index.html", page)


def copy_button(text: str, what: str) -> str:
    return (
        f'<button type="button" data-copy="{escape(text)}" data-what="{escape(what)}">Copy '
        f"{escape(what.lower())}</button>"
    )


def render_recipes(recipes: Sequence[Recipe], command: str) -> str:
    parts = ['<section id="recipe"><h2>Make it again</h2>']
    if command:
        parts.append(render_code("Command", command))
    for recipe in recipes:
        parts.append(f"<details><summary>Recipe: {escape(recipe.name)}</summary>")
        parts.append(render_code("Recipe", recipe.yaml) + "</details>")
    return "\n".join(parts) + "</section>" if len(parts) > 1 else ""


def render_head(data: RankingPage) -> str:
    table = f' · <a href="{link(data.csv)}">ranking.csv</a>' if data.csv else ""
    failed = sum(1 for c in data.candidates if c.error)
    faults = f" · {failed} failed" if failed else ""
    return (
        f'<p class="prompt">{escape(data.prompt)}</p>'
        f'<p class="dim">{len(data.candidates):,} runs, {len(data.best)} best and '
        f"{len(data.worst)} worst carried on{faults}{table}</p>{render_facts(data.facts)}"
    )


def render_table(data: RankingPage) -> str:
    """The article's table: best and worst runs, with short and final image."""
    by_run = {candidate.run: candidate for candidate in data.candidates}
    total = len(data.candidates)
    parts = []
    for kind, runs in (("best", data.best), ("worst", data.worst)):
        if not runs:
            continue
        cards = "\n".join(render_card(by_run[run], data) for run in runs)
        heading = f"{kind} of {total}"
        parts.append(f'<section class="{kind}"><h2>{heading}</h2><div class="cards">')
        parts.append(f"{cards}</div></section>")
    return "\n".join(parts)


def picture(path: str, thumb: str, alt: str, css: str) -> str:
    if not path:
        return f'<span class="{css} none">no picture</span>'
    return (
        f'<a class="{css}" href="{link(path)}"><img loading="lazy" decoding="async" '
        f'src="{link(thumb or path)}" alt="{escape(alt)}"></a>'
    )


def render_card(candidate: Candidate, data: RankingPage) -> str:
    name = f"run {candidate.run}"
    final = picture(
        candidate.final_picture, candidate.final_picture, f"{data.prompt}, {name}, final", "big"
    )
    short = picture(candidate.picture, candidate.thumb, f"{name} after the short run", "small")
    judge = ""
    if candidate.short_judge is not None or candidate.final_judge is not None:
        judge = (
            f'<span class="dim">held-out {show(candidate.short_judge)} → '
            f"{show(candidate.final_judge)}</span>"
        )
    command = candidate.final_command or candidate.command
    button = copy_button(command, "Command") if command else ""
    error = f'<span class="bad">{escape(candidate.error)}</span>' if candidate.error else ""
    return (
        f'<figure class="card">{final}{short}<figcaption><span class="sim">'
        f"<b>#{candidate.run}</b> sim: {show(candidate.short)} → <b>{show(candidate.final)}</b>"
        f"</span>{judge}{error}{button}</figcaption></figure>"
    )


def render_charts(data: RankingPage) -> str:
    parts = ['<section id="charts"><h2>Did the short score predict the final one?</h2>']
    parts.append(render_correlations(data.correlations))
    parts.append('<div class="charts">')
    guide = data.guide or "guiding model"
    judge = data.judge or "held-out model"
    for score, name in (
        (lambda c: c.short, f"short similarity, {guide}"),
        (lambda c: c.short_judge, f"short held-out, {judge}"),
    ):
        parts.append(chart_of_all(data, score, name))
    pairs: tuple[tuple[Score, Score, str, str], ...] = (
        (lambda c: c.short, lambda c: c.final, f"short, {guide}", f"final, {guide}"),
        (lambda c: c.short, lambda c: c.final_judge, f"short, {guide}", f"final, {judge}"),
        (lambda c: c.short_judge, lambda c: c.final_judge, f"short, {judge}", f"final, {judge}"),
    )
    for x, y, x_name, y_name in pairs:
        parts.append(chart_of_finals(data, x, y, x_name, y_name))
    return "\n".join(parts) + "</div></section>"


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def render_correlations(correlations: Sequence[Correlation]) -> str:
    if not correlations:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(c.name)}</th><td>{signed(c.rho)}</td>'
        f"<td>{signed(c.low)} to {signed(c.high)}</td><td>{c.runs}</td></tr>"
        for c in correlations
    )
    level = round(correlations[0].level * 100)
    return (
        '<table class="plain"><thead><tr><th scope="col">rank correlation</th>'
        f'<th scope="col">ρ</th><th scope="col">{level} % interval</th>'
        f'<th scope="col">runs</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def chart_of_all(data: RankingPage, score: Score, name: str) -> str:
    values = {c.run: value for c in data.candidates if (value := score(c)) is not None}
    if len(values) < 2:
        return ""
    best = [values[run] for run in data.best if run in values]
    worst = [values[run] for run in data.worst if run in values]
    chart = draw_histogram(list(values.values()), name, best, worst)
    return (
        f"<figure>{chart}<figcaption>All short runs; best and worst marked.</figcaption></figure>"
    )


def chart_of_finals(data: RankingPage, x: Score, y: Score, x_name: str, y_name: str) -> str:
    points = []
    for candidate in data.candidates:
        short, final = x(candidate), y(candidate)
        if short is None or final is None:
            continue
        kind = "worst" if candidate.run in data.worst else "best"
        points.append((short, final, f"#{candidate.run} {short:.2f} → {final:.2f}", kind))
    if len(points) < 2:
        return ""
    chart = draw_scatter(points, x_name, y_name)
    return f"<figure>{chart}<figcaption>Circles: best. Diamonds: worst.</figcaption></figure>"


def render_candidates(data: RankingPage) -> str:
    """Thumbnails of all runs, which the page's script sorts and enlarges."""
    orders = [("short", "similarity"), ("judge", "held-out"), ("final", "final"), ("run", "run")]
    held_out = any(c.short_judge is not None for c in data.candidates)
    options = "".join(
        f'<option value="{key}">{name}</option>'
        for key, name in orders
        if key != "judge" or held_out
    )
    ordered = sorted(data.candidates, key=lambda c: (c.short is None, -(c.short or 0.0), c.run))
    thumbs = "\n".join(render_thumb(candidate, data) for candidate in ordered)
    return (
        f'<section id="all"><div class="row"><h2>All {len(data.candidates):,} candidates</h2>'
        f'<label class="dim">Order <select id="order">{options}</select></label></div>'
        f'<div class="thumbs" id="thumbs">{thumbs}</div></section>'
    )


def render_thumb(candidate: Candidate, data: RankingPage) -> str:
    kind = "best" if candidate.run in data.best else "worst" if candidate.run in data.worst else ""
    scores = {
        "run": str(candidate.run),
        "short": show(candidate.short) if candidate.short is not None else "",
        "judge": show(candidate.short_judge) if candidate.short_judge is not None else "",
        "final": show(candidate.final) if candidate.final is not None else "",
        "seed": str(candidate.seed),
        "command": candidate.command,
        "picture": candidate.picture,
        "error": candidate.error,
    }
    attributes = " ".join(f'data-{key}="{escape(value)}"' for key, value in scores.items())
    image = '<span class="none">failed</span>'
    if candidate.picture and not candidate.error:
        source = link(candidate.thumb or candidate.picture)
        image = f'<img loading="lazy" decoding="async" src="{source}" alt="">'
    return (
        f'<button type="button" class="thumb {kind}" {attributes}>{image}'
        f"<span>#{candidate.run} <b>{show(candidate.short)}</b></span></button>"
    )
