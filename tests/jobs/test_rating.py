"""Rating pictures: what is read, what is cached, what is printed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipig.errors import ClipigError, EncoderError, ImageError, UsageError
from clipig.jobs.picture_features import BATCH, FeatureCache, expand, picture_features
from clipig.jobs.rating import (
    Column,
    ImageRating,
    as_csv,
    as_extremes,
    as_json,
    as_table,
    extremes,
    rate,
    sorted_by,
)
from clipig.jobs.similar import clusters, near_duplicates, neighbours
from tests.support.ranking import invoke
from tests.support.tiny_encoder import TinyEncoder


class Counting(TinyEncoder):
    """Counts the pictures that it sees."""

    seen = 0

    def encode_image(self, views: torch.Tensor) -> torch.Tensor:
        self.seen += len(views)
        return super().encode_image(views)


def draw(path: Path, seed: int, size: tuple[int, int] = (20, 16)) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    return [str(draw(tmp_path / "in" / f"{k}.png", k)) for k in range(4)]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPIG_CACHE", str(tmp_path / "user-cache"))


def test_scores_are_cosines(pictures: list[str], cache: FeatureCache) -> None:
    encoder = TinyEncoder()
    rating = rate([encoder], pictures, ["a cat", "a dog"], pictures[:1], cache)
    assert rating.names == tuple(pictures)
    assert rating.titles == ("a cat", "a dog", "0.png")
    assert rating.scores[0][2] == pytest.approx(100, abs=1e-3)
    texts = encoder.encode_text(["a cat", "a dog"])
    rows = picture_features(encoder, pictures, cache).rows
    assert torch.tensor(rating.scores)[:, :2].allclose(100 * rows @ texts.T, atol=1e-3)


def test_features_are_worked_out_once(pictures: list[str], cache: FeatureCache) -> None:
    encoder = Counting()
    first = picture_features(encoder, pictures, cache)
    assert (encoder.seen, first.hits) == (4, 0)
    again = picture_features(encoder, pictures, cache)
    assert (encoder.seen, again.hits) == (4, 4)
    assert torch.equal(first.rows, again.rows)
    moved = Path(pictures[0]).rename(Path(pictures[0]).with_name("other.jpg"))
    assert picture_features(encoder, [str(moved)], cache).hits == 1
    draw(Path(pictures[1]), 99)
    assert picture_features(encoder, pictures[1:], cache).hits == 2
    assert encoder.seen == 5


def test_models_do_not_share_features(pictures: list[str], cache: FeatureCache) -> None:
    one, two = Counting(0), Counting(1)
    picture_features(one, pictures, cache)
    found = picture_features(two, pictures, cache)
    assert (two.seen, found.hits) == (4, 0)
    unknown = Counting(2)
    unknown._info = type(unknown.info)(unknown.info.name, 16, 8)  # no checksum
    for _ in range(2):
        assert picture_features(unknown, pictures, cache).hits == 0


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"x" * 200])
def test_a_damaged_cache_is_ignored(
    pictures: list[str], cache: FeatureCache, damage: bytes
) -> None:
    encoder = Counting()
    whole = picture_features(encoder, pictures, cache)
    assert cache.root is not None
    for path in cache.root.rglob("*.f32"):
        path.write_bytes(damage)
    again = picture_features(encoder, pictures, cache)
    assert again.hits == 0
    assert torch.equal(whole.rows, again.rows)
    for path in cache.root.rglob("*.f32"):
        with path.open("wb") as file:
            np.save(file, np.array([object()], dtype=object), allow_pickle=True)
    assert picture_features(encoder, pictures, cache).hits == 0


def test_a_cache_that_cannot_be_written(pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = picture_features(TinyEncoder(), pictures, FeatureCache(tmp_path / "file"))
    assert len(found.names) == 4
    assert FeatureCache(None).path(TinyEncoder().info, "ab") is None


def test_what_is_no_picture_is_reported(
    pictures: list[str], cache: FeatureCache, tmp_path: Path
) -> None:
    text = tmp_path / "in" / "notes.png"
    text.write_text("no picture")
    names = [*pictures[:2], str(text), str(tmp_path / "missing.png"), *pictures[2:]]
    found = picture_features(TinyEncoder(), names, cache)
    assert found.names == tuple(pictures)
    assert [n for n, _ in found.problems] == names[2:4]
    assert "no such file" in found.problems[1][1]


def test_many_pictures_keep_their_order(tmp_path: Path, cache: FeatureCache) -> None:
    names = [str(draw(tmp_path / f"{k:03}.png", k, (4, 4))) for k in range(2 * BATCH + 3)]
    ticks: list[int] = []
    found = picture_features(TinyEncoder(), names, cache, ticks.append)
    assert found.names == tuple(names)
    assert sum(ticks) == len(names)
    alone = picture_features(TinyEncoder(), names[70:71], FeatureCache(None))
    assert torch.allclose(found.rows[70], alone.rows[0], atol=1e-5)


def test_sources(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.JPG", "a/.hidden/3.png", "a/notes.txt", "4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    t = str(tmp_path)
    names, problems = expand([f"{t}/a", f"{t}/*.png", f"{t}/a/1.png", f"{t}/none", f"{t}/empty",
                              "https://example.org/x.png", f"{t}/*.gif"])
    assert names == [f"{t}/a/1.png", f"{t}/a/b/2.JPG", f"{t}/4.png", f"{t}/none",
                     "https://example.org/x.png"]
    assert [p[0] for p in problems] == [f"{t}/empty", f"{t}/*.gif"]
    odd = tmp_path / "a[1].png"
    odd.write_text("")
    assert expand([str(odd)])[0] == [str(odd)]


def example() -> ImageRating:
    from clipig.jobs.rating import Column

    columns = (Column("x, y", "m", "text"), Column("ref.png", "m", "image"))
    scores = ((1.0, 30.0), (3.0, 20.0), (2.0, 10.0))
    problems = (("d.txt", "not a picture"),)
    return ImageRating(("a.png", "bb.png", "c.png"), columns, scores, problems)


def test_outputs() -> None:
    rating = example()
    lines = as_table(rating).splitlines()
    assert lines[2:4] == ["image         1        2", "a.png      1.00    30.00"]
    rows = list(csv.reader(io.StringIO(as_csv(rating))))
    assert rows[:2] == [["image", "x, y", "ref.png"], ["a.png", "1.0000", "30.0000"]]
    data = json.loads(as_json(rating))
    assert data["images"][1] == {"image": "bb.png", "similarities": [3.0, 20.0]}
    assert data["problems"] == [{"image": "d.txt", "problem": "not a picture"}]
    text = as_extremes(rating, 1, 2)
    assert text.splitlines() == [
        "best of 3: x, y", "  bb.png sim: 3.00", "worst of 3: x, y", "  a.png sim: 1.00",
        "  c.png sim: 2.00",
    ]


def test_sorting() -> None:
    assert sorted_by(example(), 1).names == ("a.png", "c.png", "bb.png")
    assert sorted_by(example(), -2).names == ("a.png", "bb.png", "c.png")
    for column in (0, 3, -3):
        with pytest.raises(UsageError, match="2 columns"):
            sorted_by(example(), column)


def test_faults(pictures: list[str], cache: FeatureCache) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        rate([TinyEncoder()], pictures, cache=cache)
    with pytest.raises(ImageError, match="nosuch"):
        rate([TinyEncoder()], pictures, [], ["nosuch.png"], cache)
    with pytest.raises(EncoderError):
        rate([TinyEncoder()], pictures, [" "], [], cache)


def test_likeness() -> None:
    rows = torch.nn.functional.normalize(torch.tensor(
        [[1.0, 0, 0], [0.999, 0.01, 0], [0, 1, 0], [0, 0.9, 0.3], [0, 0, 1], [1.0, 0, 0]]
    ), dim=1)
    pairs = near_duplicates(rows, 99)
    assert [(p.first, p.second) for p in pairs] == [(0, 5), (0, 1), (1, 5)]
    near = neighbours(rows, 2)
    assert [p.second for p in near[2]] == [3, 1]
    assert all(p.first != p.second for row in near for p in row)
    assert len(neighbours(rows, 99)[0]) == 5


def test_clusters_are_found() -> None:
    rng = torch.Generator().manual_seed(0)
    middles = torch.eye(8)[:3]
    truth = [i % 3 for i in range(24)]
    rows = torch.stack([middles[k] + 0.05 * torch.randn(8, generator=rng) for k in truth])
    rows = torch.nn.functional.normalize(rows, dim=1)
    for groups in (clusters(rows), clusters(rows, 3)):
        assert sorted(map(len, groups)) == [8, 8, 8]
        assert all(len({truth[i] for i in g}) == 1 for g in groups)
    assert clusters(rows, 1)[0] and len(clusters(rows, 1)) == 1
    assert len(clusters(rows[:1].expand(5, -1), 3)) == 1
    assert clusters(rows[:2]) == [[0, 1]]
    with pytest.raises(UsageError, match="24 pictures"):
        clusters(rows, 25)


def test_clusters_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.cluster", None)
    with pytest.raises(UsageError, match=r"clipig\[cluster\]"):
        clusters(torch.eye(4))


def test_rate_command(pictures: list[str], tmp_path: Path, session: Any) -> None:
    folder = Path(pictures[0]).parent
    (folder / "broken.png").write_text("x")
    words = ("rate", folder, "-t", "a cat", "-i", pictures[0], "-m", "embedded", "-m", "judge")
    result = invoke(*words, "--sort", -1, "--html", tmp_path / "page")
    assert result.exception is None, result.exception
    lines = result.stdout.splitlines()
    assert lines[0] == "1: a cat [embedded]"
    values = [float(line.split()[1]) for line in lines[5:9]]
    assert values == sorted(values, reverse=True)
    assert "left out" in result.stderr
    assert "broken.png" in result.stderr
    page = (tmp_path / "page/index.html").read_text()
    assert "pictures/00000.png" in page and "../in" not in page
    assert "Not rated" in page
    data = json.loads(invoke(*words, "-q", "--json", "-").stdout)
    assert len(data["images"]) == 4
    assert len(data["columns"]) == 4
    table = invoke(*words, "-q", "--csv", tmp_path / "x.csv", "--best", 1)
    assert table.stdout.startswith("best of 4: a cat")
    assert (tmp_path / "x.csv").read_text().count("\n") == 5
    texts = tmp_path / "texts"
    texts.write_text("one\n\ntwo\n")
    found = invoke("rate", folder, "-tf", texts, "-m", "embedded", "-q", "--no-cache")
    assert found.stdout.startswith("1: one\n2: two\n")


def test_similar_command(pictures: list[str], tmp_path: Path, session: Any) -> None:
    folder = Path(pictures[0]).parent
    (folder / "copy.png").write_bytes(Path(pictures[0]).read_bytes())
    result = invoke(
        "similar", folder, "-m", "embedded", "-k", 2, "--above", 99.99, "-o", tmp_path / "page",
        "--json", tmp_path / "x.json",
    )
    assert result.exception is None, result.exception
    assert "near-duplicates: 1" in result.stdout
    assert "cluster 2" in result.stdout
    data = json.loads((tmp_path / "x.json").read_text())
    assert sorted(Path(n).name for n in data["near_duplicates"][0]["images"]) == [
        "0.png", "copy.png"
    ]
    assert (tmp_path / "page/cluster_02.png").is_file()
    assert "Cluster 2" in (tmp_path / "page/index.html").read_text()


@pytest.mark.parametrize(("words", "message"), [
    (("rate", "x.png"), "nothing to compare with"),
    (("rate", "-t", "x", "-m", "embedded"), "no pictures"),
    (("rate", "nosuch.png", "-t", "x", "-m", "embedded"), "no pictures"),
    (("rate", "a.png", "-t", "x", "-m", "nowhere"), "unknown model"),
    (("rate", "a.png", "-tf", "nosuch"), "no such file"),
    (("rate", "a.png", "-t", "x", "--csv", "-", "--json", "-"), "only one"),
    (("rate", "a.png", "-t", "x", "-d", "abacus"), "unknown device"),
    (("similar", "nosuch.png", "-m", "embedded"), "at least 2"),
    (("similar", "-k", "x"), "a number or auto"),
])
def test_bad_input_is_one_clear_message(
    words: tuple[str, ...], message: str, session: Any
) -> None:
    fault = invoke(*words).exception
    assert isinstance(fault, ClipigError)
    assert message in str(fault)


def test_a_page_shows_what_was_asked_for_and_can_be_moved(
    pictures: list[str], tmp_path: Path, session: Any
) -> None:
    words = ("-t", "a", "-m", "tiny", "--sort", -1, "--best", 2, "--html", tmp_path / "page")
    assert invoke("rate", *pictures, *words, "-q").exception is None
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<figure") == 2
    links = re.findall(r'(?:href|src)="([^"#]+)"', page)
    links = [link for link in links if not link.startswith("data:")]
    assert links and not any(link.startswith(("..", "/", "http")) for link in links)
    assert all((tmp_path / "page" / link).is_file() for link in links)


def test_extremes_are_each_shown_once(pictures: list[str]) -> None:
    columns = (Column("x", "m", "text"),)
    rating = ImageRating(("a", "b", "c"), columns, ((1.0,), (3.0,), (2.0,)))
    assert extremes(rating, 2, 2).names == ("b", "c", "a")
    assert extremes(rating, 1, 0).names == ("b",)
    assert extremes(rating, 0, 0) is rating


def test_the_page_of_similar_lists_near_duplicates_side_by_side(
    pictures: list[str], tmp_path: Path, session: Any
) -> None:
    twin = Path(pictures[0]).with_name("twin-with-a-name-that-is-much-too-long-for-one-line.png")
    twin.write_bytes(Path(pictures[0]).read_bytes())
    done = invoke("similar", *pictures, twin, "-m", "tiny", "-o", tmp_path / "page", "-q")
    assert done.exception is None, done.exception
    page = (tmp_path / "page" / "index.html").read_text()
    part = page.split("Near-duplicates")[1].split("</section>")[0]
    assert f"like {twin.name}" in part
    assert "like 0.png" in part
