"""Whatever is shown runs: shipped configs, examples, YAML in the docs, links, scripts."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clipig
from clipig.config.sources import paths
from clipig.encoders.embedded.encoder import embedded_names
from clipig.images import read_metadata

ROOT = Path(__file__).parents[1]
CONFIGS = {f"configs/{name}": path for name, path in sorted(paths().items())}
EXAMPLES = {f"examples/{p.stem}": p for p in sorted((ROOT / "examples").glob("*.yaml"))}
SHOWN = {**CONFIGS, **EXAMPLES}
PAGES = sorted([
    ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("*.md"),
    *(ROOT / "renders").glob("*.md"),
])
FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.S | re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|<img[^>]*\bsrc=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def session() -> Iterator[clipig.Session]:
    """One session for all: encoders are loaded and prompts embedded once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield clipig.Session()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name their pictures as seen from the repository's root."""
    monkeypatch.chdir(ROOT)


def blocks(page: Path) -> list[str]:
    """The YAML blocks of a page that are whole configs."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for text in found if re.search(r"^targets:", text, re.M)]


WHOLE = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES for number, text in enumerate(blocks(page))
]


def embedded_only(experiment: clipig.Experiment) -> clipig.Experiment:
    """The experiment with a model that is here: `auto` would look into the network."""
    there = set(embedded_names())
    if all(m.name in there for m in experiment.model):
        return experiment
    model = experiment.model[0].model_copy(update={"name": "embedded"})
    targets = [t.model_copy(update={"models": None}) for t in experiment.targets]
    return experiment.model_copy(update={"model": [model], "targets": targets})


def test_there_is_something_to_test() -> None:
    assert len(CONFIGS) >= 8 and len(EXAMPLES) >= 14 and len(WHOLE) >= 10


@pytest.mark.parametrize("name", SHOWN)
def test_configs_run(name: str, session: clipig.Session) -> None:
    experiment = clipig.load(SHOWN[name], overrides=["epochs=3"])
    result = session.run(embedded_only(experiment))
    assert result.images.isfinite().all() and not result.diverged
    assert float(result.images.std()) > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_say_what_they_show_and_how(name: str) -> None:
    text = EXAMPLES[name].read_text(encoding="utf-8")
    assert text.startswith("# ") and f"clipig run {name}.yaml" in text
    assert f"]({Path(name).name}.yaml)" in (ROOT / "examples/README.md").read_text("utf-8")
    assert clipig.load(EXAMPLES[name]).seed is not None, "the picture shown can be made again"


@pytest.mark.parametrize("text", WHOLE)
def test_yaml_in_the_docs_loads(text: str, session: clipig.Session) -> None:
    experiment = embedded_only(clipig.load_text(text, "docs"))
    assert session.plan(session.settle(experiment))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = [a or b for a, b in LINK.findall(text)]
    local = [link.split("#")[0] for link in links if "://" not in link]
    gone = [link for link in local if link and not (page.parent / link).exists()]
    assert not gone


SCRIPTS = {
    "examples/best_of.py": ["--seeds", "2", "--epochs", "2", "-o", "{}/best"],
    "examples/own_loop.py": ["--epochs", "3", "-o", "{}/own.png"],
    "examples/make_inputs.py": ["{}"],
    "renders/make_gallery.py": ["--epochs", "2", "--only", "strawberry", "-o", "{}"],
    "renders/make_walkthrough.py": ["--epochs", "2", "--only", "shift", "-o", "{}"],
}


def test_every_script_is_tested() -> None:
    found = [p for folder in ("examples", "renders") for p in (ROOT / folder).glob("*.py")]
    there = {str(p.relative_to(ROOT)) for p in found}
    assert there == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [a.format(tmp_path) for a in SCRIPTS[script]]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    assert list(tmp_path.rglob("*.png"))


def test_input_pictures_are_those_of_the_script(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "examples/make_inputs.py"))["main"](tmp_path)
    made = sorted(tmp_path.glob("*.png"))
    assert made
    for path in made:
        new, old = (
            np.asarray(Image.open(p).convert("RGB"), dtype=float)
            for p in (path, ROOT / "examples/inputs" / path.name)
        )
        assert np.abs(new - old).mean() < 1, path.name


def test_pictures_of_the_gallery_tell_how_they_were_made() -> None:
    pictures = [p for p in (ROOT / "renders/gallery").glob("*.png") if p.stem != "contact_sheet"]
    assert len(pictures) >= 40
    for path in pictures:
        texts = read_metadata(path)
        assert "clipig config" in texts, path.name
        clipig.load_text(texts["clipig config"], path.name)
    assert sum(p.stat().st_size for p in (ROOT / "renders/gallery").iterdir()) < 6e6
