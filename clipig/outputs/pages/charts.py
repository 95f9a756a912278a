"""Small SVG charts (histogram, scatter plot), styled by the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from html import escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 46
PlotBox = tuple[float, float, float, float]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round values between `low` and `high` for axis ticks, approximately `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def padded(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis: the range of `values`, enlarged by 5 % at both ends."""
    low, high = min(values), max(values)
    air = (high - low) * 0.05 or 0.5
    return low - air, high + air


def scale(value: float, low: float, high: float, start: float, end: float) -> float:
    """Map `value` linearly from [low, high] to [start, end]."""
    return start + (value - low) / (high - low) * (end - start)


def number(value: float) -> str:
    """Format a coordinate: short, and identical on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text_at(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return (
        f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'
    )


def frame(title: str, x_name: str, y_name: str, body: Sequence[str]) -> str:
    """Wrap a chart in an SVG element with axis names."""
    middle_x = (LEFT + WIDTH - RIGHT) / 2
    middle_y = (TOP + HEIGHT - BOTTOM) / 2
    turned = f' transform="rotate(-90 14 {number(middle_y)})"'
    label = escape(title)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">',
        *body,
        text_at(middle_x, HEIGHT - 8, x_name),
        text_at(14, middle_y, y_name, extra=turned),
        "</svg>",
    ]
    return "\n".join(parts)


def grid_lines(x_limits: tuple[float, float], y_limits: tuple[float, float]) -> list[str]:
    """Ticks with values along both axes."""
    parts = []
    for value in ticks(*x_limits):
        x = scale(value, *x_limits, LEFT, WIDTH - RIGHT)
        parts.append(f'<path class="tick" d="M{number(x)} {HEIGHT - BOTTOM}v4"/>')
        parts.append(text_at(x, HEIGHT - BOTTOM + 17, f"{value:g}"))
    for value in ticks(*y_limits, about=4):
        y = scale(value, *y_limits, HEIGHT - BOTTOM, TOP)
        parts.append(f'<path class="grid" d="M{LEFT} {number(y)}H{WIDTH - RIGHT}"/>')
        parts.append(text_at(LEFT - 7, y + 4, f"{value:g}", "end"))
    return parts


def draw_histogram(
    values: Sequence[float], name: str, best: Collection[float], worst: Collection[float]
) -> str:
    """Histogram of `values`, with marks at the best and worst values on the axis."""
    low, high = padded(values)
    count = max(8, min(40, round(2 * len(values) ** 0.5)))
    bins = [0] * count
    for value in values:
        bins[min(count - 1, int(scale(value, low, high, 0, count)))] += 1
    top = max(bins)
    body = grid_lines((low, high), (0, top))
    wide = (WIDTH - LEFT - RIGHT) / count
    for place, amount in enumerate(bins):
        if not amount:
            continue
        height = amount / top * (HEIGHT - TOP - BOTTOM)
        start = low + (high - low) * place / count
        end = low + (high - low) * (place + 1) / count
        body.append(
            f'<rect class="bar" x="{number(LEFT + place * wide)}" '
            f'y="{number(HEIGHT - BOTTOM - height)}" width="{number(wide - 1)}" '
            f'height="{number(height)}"><title>{start:.2f} to {end:.2f}: {amount}</title></rect>'
        )
    for kind, marks in (("best", best), ("worst", worst)):
        for value in marks:
            x = scale(value, low, high, LEFT, WIDTH - RIGHT)
            body.append(f'<path class="mark {kind}" d="M{number(x)} {HEIGHT - BOTTOM}v-14"/>')
    title = f"Distribution of {len(values)} scores, {min(values):.2f} to {max(values):.2f}"
    return frame(title, name, "runs", body)


def place_labels(spots: Sequence[tuple[float, float, str]]) -> list[str]:
    """Put labels beside their points; a label without room is omitted (the title has it)."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in spots]
    parts = []
    for x, y, text in spots:
        wide = 8.4 * len(text)  # width in a wide font at 12 px
        for left, base, anchor in (
            (x + 9, y + 4, "start"),
            (x - 9 - wide, y + 4, "end"),
            (x - wide / 2, y - 10, "middle"),
            (x - wide / 2, y + 18, "middle"),
        ):
            box = (left, base - 10, left + wide, base + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 4 and box[1] >= 0
            if inside and not any(overlap(box, other) for other in taken):
                at = {"start": left, "end": left + wide, "middle": x}[anchor]
                parts.append(text_at(at, base, text, anchor))
                taken.append(box)
                break
    return parts


def overlap(a: PlotBox, b: PlotBox) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_scatter(points: Sequence[tuple[float, float, str, str]], x_name: str, y_name: str) -> str:
    """Scatter plot of points (x, y, label, kind), with kind `best` or `worst`."""
    x_limits = padded([point[0] for point in points])
    y_limits = padded([point[1] for point in points])
    body = grid_lines(x_limits, y_limits)
    spots: list[tuple[float, float, str]] = []
    for x_value, y_value, label, kind in points:
        x = scale(x_value, *x_limits, LEFT, WIDTH - RIGHT)
        y = scale(y_value, *y_limits, HEIGHT - BOTTOM, TOP)
        body.append(f'<g class="point {escape(kind)}"><title>{escape(label)}</title>')
        if kind == "worst":
            body.append(f'<path d="M{number(x)} {number(y - 6)}l6 6l-6 6l-6-6z"/>')
        else:
            body.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="5"/>')
        body.append("</g>")
        spots.append((x, y, label.split()[0]))
    body.extend(place_labels(spots))
    return frame(f"{x_name} against {y_name}, {len(points)} runs", x_name, y_name, body)
