"""Pages as files: what is escaped, what is linked, what stays the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clipig.outputs.pages.charts import draw_histogram, draw_scatter, ticks
from clipig.outputs.pages.explorer import SCRIPTS, STYLES, write_explorer
from clipig.outputs.pages.model import (
    Axis,
    Candidate,
    Correlation,
    Explorer,
    PageCell,
    PageGroup,
    PageImage,
    RankingPage,
    Recipe,
    Sheet,
)
from clipig.outputs.pages.parts import read_part, script_json
from clipig.outputs.pages.ranking import write_ranking
from clipig.outputs.pages.sheet import write_sheet

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<!--{script}-->",
    "\" onmouseover='alert(1)' x=\"",
    "line\u2028and\u2029paragraph\x00\n",
    "rubik’s cube 🎹 \ud800",
    "&lt;img src=x onerror=alert(1)&gt;",
    "${alert(1)} `x` \\u003c",
)


class Reader(HTMLParser):
    """Tags, links and handlers of a page as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def read_data(folder: Path) -> dict[str, object]:
    text = (folder / "data.js").read_text(encoding="utf-8")
    value = json.loads(text[text.index('{"format"') : text.rindex(";")])
    assert isinstance(value, dict)
    return value


def make_explorer(text: str = "a penguin made of piano.", title: str = "Grid") -> Explorer:
    axes = (
        Axis("animal", ("cat", "pig")),
        Axis("thing", ("piano", text)),
        Axis("method", ("one",)),
    )
    cells = (
        PageCell((1, 0, 0), "failed", prompt=text, error=text),
        PageCell(
            (0, 0, 0), "done", "pictures/a b#1.png", "thumbs/a.jpg", text, 7, 36.81, 30.0, 1, text
        ),
    )
    return Explorer("grid", title, axes, cells, (Recipe(text, text),))


def make_ranking(text: str = "a penguin made of piano.") -> RankingPage:
    candidates = tuple(
        Candidate(
            n, 100 + n, 20.0 + n, 40.0 - n, 10.0 + n, 30.0 + n, f"short/{n}.png", f"thumb/{n}.jpg",
            f"final/{n}.png", f"final/{n}.jpg", text, text,
        )
        for n in range(12)
    )  # fmt: skip
    return RankingPage(
        text, text, candidates, (11, 10, 9), (0, 1), (Recipe(text, text),),
        (Correlation(text, -0.32, -0.83, 0.5, 8),), text, "ranking.csv", text, text,
        ((text, text),), text,
    )  # fmt: skip


def make_sheet(text: str = "a.png") -> Sheet:
    picture = PageImage(text, "../pictures/a b?.png", "thumbs/a.jpg", (25.5, None), text)
    return Sheet(text, (PageGroup(text, (picture,), text),), (text, text), ((text, text),))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(tmp_path: Path, text: str) -> None:
    calm = "calm"
    pages: dict[str, Callable[[str], Path]] = {
        "explorer": lambda t: write_explorer(tmp_path / "e", make_explorer(t, t)),
        "ranking": lambda t: write_ranking(tmp_path / "r", make_ranking(t)),
        "sheet": lambda t: write_sheet(tmp_path / "s", make_sheet(t)),
    }
    for name, write in pages.items():
        expected = read_page(write(calm))
        found = read_page(write(text))
        assert found.tags == expected.tags, name
        assert found.links == expected.links, name
        assert found.handlers == [], name


@pytest.mark.parametrize("text", HOSTILE)
def test_data_survives_and_is_plain_ascii(tmp_path: Path, text: str) -> None:
    write_explorer(tmp_path, make_explorer(text))
    raw = (tmp_path / "data.js").read_bytes()
    assert raw.isascii()
    assert b"<" not in raw
    assert b"\x00" not in raw
    data = read_data(tmp_path)
    fields, cells = data["fields"], data["cells"]
    assert isinstance(fields, list)
    assert isinstance(cells, list)
    cell = dict(zip(fields, cells[0], strict=True))
    assert (cell["prompt"], cell["command"], cell["seed"]) == (text, text, "7")


def test_explorer_is_two_files_and_cells_are_sorted(tmp_path: Path) -> None:
    page = write_explorer(tmp_path, make_explorer())
    assert page == tmp_path / "index.html"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.js", "index.html"]
    cells = read_data(tmp_path)["cells"]
    assert isinstance(cells, list)
    assert [cell[0] for cell in cells] == [[0, 0, 0], [1, 0, 0]]
    assert read_page(page).links == ["data:,", "data.js"]


def test_links_are_relative_and_escaped(tmp_path: Path) -> None:
    write_ranking(tmp_path / "r", make_ranking())
    write_sheet(tmp_path / "s", make_sheet(), "sheet.html")
    links = [
        *read_page(tmp_path / "r/index.html").links,
        *read_page(tmp_path / "s/sheet.html").links,
    ]
    assert "ranking.csv" in links
    assert "../pictures/a%20b%3F.png" in links
    for target in links:
        assert target == "data:," or not re.match(r"[a-z]+:|/", target), target


@pytest.mark.parametrize("name", ["explorer", "ranking", "sheet"])
def test_writing_twice_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    def write(folder: Path) -> dict[str, bytes]:
        if name == "explorer":
            data = make_explorer()
            write_explorer(
                folder, replace(data, cells=data.cells[:: -1 if folder.name == "b" else 1])
            )
        elif name == "ranking":
            write_ranking(folder, make_ranking())
        else:
            write_sheet(folder, make_sheet())
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    assert write(tmp_path / "a") == write(tmp_path / "b")


@pytest.mark.parametrize("name", [*STYLES, *SCRIPTS, "report.css", "report.js"])
def test_parts_are_strict_small_and_ask_no_network(name: str) -> None:
    text = read_part(name)
    assert len(text.splitlines()) < 350
    assert max(len(line) for line in text.splitlines()) <= 140
    text = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|innerHTML|outerHTML|insertAdjacentHTML|eval\(", text)
    if name.endswith(".js"):
        assert '"use strict";' in text
        assert "</script" not in text.lower()


def test_policy_matches_the_inline_parts(tmp_path: Path) -> None:
    import base64
    import hashlib

    text = write_explorer(tmp_path, make_explorer()).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    for tag in ("style", "script"):
        inline = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]


def test_the_articles_line_is_printed(tmp_path: Path) -> None:
    candidate = Candidate(487, 1, 36.81, 45.49, picture="a.png", final_picture="b.png")
    data = RankingPage("t", "a snail made of harp", (candidate,), (487,))
    text = write_ranking(tmp_path, data).read_text(encoding="utf-8")
    assert "#487 sim: 36.81 → 45.49" in re.sub(r"<[^>]+>", "", text)


def test_correlation_and_charts_are_printed(tmp_path: Path) -> None:
    text = write_ranking(tmp_path, make_ranking()).read_text(encoding="utf-8")
    plain = re.sub(r"<[^>]+>", " ", text)
    assert "−0.32" in plain
    assert "−0.83 to +0.50" in plain
    assert text.count('<svg class="chart"') == 5
    short = replace(make_ranking(), candidates=tuple(
        Candidate(n, n, float(n)) for n in range(12)
    ))  # fmt: skip
    text = write_ranking(tmp_path, short).read_text(encoding="utf-8")
    assert text.count('<svg class="chart"') == 1


def test_a_ranking_without_any_score_is_still_a_page(tmp_path: Path) -> None:
    data = RankingPage("t", "p", (Candidate(0, 0, error="became NaN"),), ())
    assert "1 failed" in write_ranking(tmp_path, data).read_text(encoding="utf-8")


def test_charts_take_equal_values() -> None:
    assert "3 scores, 5.00 to 5.00" in draw_histogram([5.0, 5.0, 5.0], "x", [5.0], [])
    assert (
        draw_scatter([(1, 2, "#1 a", "best"), (1, 2, "#2 b", "worst")], "x", "y").count("<g") == 2
    )
    assert ticks(20.0, 37.0) == [20, 25, 30, 35]


@pytest.mark.parametrize(
    "path", ["/etc/a.png", "../a.png", "a/../../b.png", "file:///a.png", "C:\\a.png", "x:y.png"]
)
def test_paths_out_of_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        PageCell((0,), "done", path)


def test_faulty_grids_are_refused() -> None:
    axis = Axis("a", ("x", "y"))
    with pytest.raises(ValueError, match="at least one axis"):
        Explorer("g", "t", (), ())
    with pytest.raises(ValueError, match="outside"):
        Explorer("g", "t", (axis,), (PageCell((2,)),))
    with pytest.raises(ValueError, match="twice"):
        Explorer("g", "t", (axis,), (PageCell((1,)), PageCell((1,))))
    with pytest.raises(ValueError, match="twice"):
        Axis("a", ("x", "x"))
    with pytest.raises(ValueError, match="finite"):
        PageCell((0,), "done", similarity=float("nan"))
    with pytest.raises(ValueError, match="candidates"):
        RankingPage("t", "p", (), (1,))
    with pytest.raises(ValueError, match="scores"):
        Sheet("t", (PageGroup("g", (PageImage("a", "a.png", scores=(1.0,)),)),))


def test_script_json_ends_no_script() -> None:
    assert script_json("</script>&\u2028") == '"\\u003c/script\\u003e\\u0026\\u2028"'
