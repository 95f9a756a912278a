"""The explorer in a real Chromium, from `file://`.

Needs `selenium` and the system's `chromium` with `chromedriver` (Debian and
Ubuntu packages of these names); without Chromium all of this is skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from clipig.images import read_metadata
from clipig.outputs.pages.explorer import write_explorer
from clipig.outputs.pages.model import (
    Axis,
    Candidate,
    Explorer,
    PageCell,
    PageGroup,
    PageImage,
    RankingPage,
    Recipe,
    Sheet,
)
from clipig.outputs.pages.ranking import write_ranking
from clipig.outputs.pages.sheet import write_sheet

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    pytest.skip("needs chromium and chromedriver on the path", allow_module_level=True)
from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run",
    "disable-background-networking", "disable-component-update", "disable-sync",
    "force-device-scale-factor=1",
)  # fmt: skip
SMALL = Path(__file__).resolve().parents[3] / "configs" / "grid_small.yaml"
ANIMALS = ("cat", "penguin", "snail")
THINGS = ("avocado", "harp", "piano", "rubik’s cube", "</script><b>x</b>\u2028")


class Page:
    """A browser on one page, with short ways to press, read and wait."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, path: Path, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(path.resolve().as_uri() + fragment)

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def count(self, selector: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", selector))

    def selected(self) -> list[str]:
        """Axis values of the selection, as the details show them."""
        facts = self.js(
            "return [...document.querySelectorAll('#details .facts div')]"
            ".map(e => [e.children[0].textContent, e.children[1].textContent])"
        )
        return [value for name, value in facts if name not in ("seed", "state")]

    def wait(self, truth: Callable[[], object]) -> None:
        try:
            WebDriverWait(self.driver, 10).until(lambda _: truth())
        except TimeoutException:
            raise AssertionError(f"not reached within 10 s; selected {self.selected()}") from None

    def saved(self, name: str) -> str:
        path = self.downloads / name
        self.wait(path.exists)
        return path.read_text(encoding="utf-8")

    def faults(self) -> list[str]:
        """Console messages of any kind since the last call."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
            if message["method"] == "Network.webSocketCreated":
                found.append(message["params"]["url"])
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    yield Page(driver, downloads)
    driver.quit()


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser at desktop size, with an empty storage and quiet logs; quiet after."""
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.driver.set_window_size(1440, 900)
    browser.faults()
    browser.requests()
    yield browser
    assert browser.faults() == []
    outside = [u for u in browser.requests() if not u.startswith(("file:", "data:", "blob:"))]
    assert [u for u in outside if u != "about:blank"] == []


def make_grid(folder: Path, axes: tuple[Axis, ...], name: str = "grid") -> Path:
    """A grid of one-coloured pictures; the second cell failed, the third is missing."""
    sizes = [len(axis.values) for axis in axes]
    total = 1
    for size in sizes:
        total *= size
    cells = []
    for number in range(total):
        index, rest = [], number
        for size in reversed(sizes):
            index.append(rest % size)
            rest //= size
        at = tuple(reversed(index))
        values = [axis.values[i] for axis, i in zip(axes, at, strict=True)]
        prompt = f"a {' made of '.join(values[:2])}."
        if number == 1:
            cells.append(PageCell(at, "failed", prompt=prompt, error="the picture became NaN"))
        elif number != 2:
            path = f"pictures/{number % 40} #.png"
            colour = (number * 37 % 256, number * 91 % 256, 128)
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            if not (folder / path).exists():
                Image.new("RGB", (32, 32), colour).save(folder / path)
            cells.append(
                PageCell(at, "done", path, path, prompt, number, 20.0 + number % 17,
                     10.0 + number % 5, None, f"clipig grid g.yaml --seed {number}")
            )  # fmt: skip
    return write_explorer(
        folder, Explorer(name, "Test", axes, tuple(cells), (Recipe("r.yaml", "epochs: 200\n"),))
    )


AXES = (Axis("animal", ANIMALS), Axis("thing", THINGS), Axis("method", ("noise", "growth")))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return make_grid(tmp_path / "grid", AXES, tmp_path.name)


def test_keys_move_and_methods_switch(page: Page, grid: Path) -> None:
    page.open(grid)
    assert page.selected() == ["cat", "avocado", "noise"]
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert page.selected() == ["penguin", "piano", "noise"]
    assert page.text("#sentence") == "a penguin made of piano."
    page.press("2")
    assert page.selected() == ["penguin", "piano", "growth"]
    assert page.text("#methods [aria-pressed=true]").endswith("growth")
    page.press("1", Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert page.selected() == ["cat", "harp", "noise"]
    page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, "7")
    assert page.selected() == ["cat", "harp", "noise"]
    page.press(Keys.END, Keys.PAGE_DOWN)
    assert page.selected()[0] == "snail"
    assert page.count("#wall .selected") == 1
    page.wait(lambda: "snail" in page.text("#live"))


def test_details_show_prompt_seed_score_and_command(page: Page, grid: Path) -> None:
    page.open(grid, "#animal=penguin&thing=piano&method=1")
    details = page.text("#details")
    assert "seed" in details
    assert "clipig grid g.yaml --seed 14" in details
    assert page.text("[data-field=similarity] strong") == "34.00"
    assert page.text("[data-field=held_out] strong") == "14.00"
    assert "rank" in page.text("[data-field=similarity] .rank")
    assert "epochs: 200" in page.text("#details .recipe pre")
    page.wait(lambda: page.js("return document.querySelector('.look img').naturalWidth") == 32)


def test_links_lead_to_a_picture_and_follow_it(page: Page, grid: Path) -> None:
    page.open(grid, "#animal=snail&thing=rubik%E2%80%99s%20cube&method=2")
    assert page.selected() == ["snail", "rubik’s cube", "growth"]
    page.press(Keys.ARROW_UP)
    page.wait(lambda: "thing=piano" in page.driver.current_url)
    page.js("location.hash = '#animal=cat&thing=harp&method=growth'")
    page.wait(lambda: page.selected() == ["cat", "harp", "growth"])
    page.open(grid, "#animal=nobody&method=9&thing")
    assert page.selected() == ["cat", "avocado", "noise"]


def test_search_filters_and_selects(page: Page, grid: Path) -> None:
    page.open(grid)
    page.press("/", *"PIANO")
    assert page.count("#wall .line:not(.head)") == 1
    assert page.selected()[1] == "piano"
    page.press(Keys.ESCAPE, *"penguin rubik")
    assert page.selected()[:2] == ["penguin", "rubik’s cube"]
    page.press(Keys.ESCAPE, *"nothing like it")
    assert page.text("#nothing") == "Nothing matches this search."
    page.press(Keys.ESCAPE, Keys.ESCAPE)
    assert page.count("#wall .line:not(.head)") == len(THINGS)
    page.press(Keys.ARROW_DOWN)
    assert page.selected()[1] != "rubik’s cube"


def test_favourites_stay_and_leave_as_lists(page: Page, grid: Path) -> None:
    page.open(grid, "#animal=penguin&thing=piano&method=1")
    page.press("f", Keys.ARROW_DOWN, "2", "f", Keys.ARROW_UP, "f", "f")
    assert page.text("#only-count") == "2"
    page.driver.refresh()
    assert page.text("#only-count") == "2"
    page.press("F")
    assert page.count("#wall .cell") == 2
    assert page.text("#exports-count") == "2 favourites"
    page.click("#export-json")
    page.click("#export-text")
    name = f"{grid.parent.parent.name.replace('[', '-').replace(']', '-')}-favourites"
    listed = json.loads(page.saved(f"{name}.json"))["favourites"]
    assert [entry["values"] for entry in listed] == [
        {"animal": "penguin", "thing": "piano", "method": "noise"},
        {"animal": "penguin", "thing": "rubik’s cube", "method": "growth"},
    ]
    assert listed[0]["command"] == "clipig grid g.yaml --seed 14"
    lines = page.saved(f"{name}.txt").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("a penguin made of piano.\t")
    page.click("#export-clear")
    page.driver.switch_to.alert.accept()
    assert page.text("#only-count") == "0"
    assert "No favourites yet" in page.text("#nothing")


def test_blocked_storage_keeps_favourites_in_memory(page: Page, grid: Path) -> None:
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })"
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        page.open(grid)
        page.press("f")
        assert page.text("#only-count") == "1"
        page.press("F")
        assert page.count("#wall .cell") == 1
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_failed_and_missing_are_shown(page: Page, grid: Path) -> None:
    page.open(grid, "#animal=cat&thing=avocado&method=2")
    assert "the picture became NaN" in page.text(".frame.failed")
    page.press(Keys.ENTER)
    assert not page.js("return document.getElementById('zoom').open")
    page.press("1", Keys.ARROW_DOWN)
    assert "Not rendered yet" in page.text(".frame.missing")
    assert page.count("#wall .cell.missing") == 1
    assert page.text("#counts") == "28 pictures · 1 failed · 1 missing"


def test_hostile_names_stay_text(page: Page, grid: Path) -> None:
    page.open(grid)
    page.press(*[Keys.ARROW_DOWN] * 9)
    assert page.selected()[1] == THINGS[-1]
    assert page.count("#details b, #sentence b") == 0
    page.press("m", "b", "f", "F", "?")
    assert page.count("body script") == 2


def test_side_by_side_and_zoom(page: Page, grid: Path) -> None:
    page.open(grid, "#animal=snail&thing=harp&method=1")
    page.press("b")
    assert page.count("#figures figure") == 2
    page.press("2")
    assert "growth" in page.text("#figures figure.here")
    page.press("b", Keys.ENTER)
    assert page.js("return document.getElementById('zoom').open")
    page.wait(lambda: page.text("#zoom output") != "")
    before = int(page.text("#zoom output").split()[0])
    page.press("+", "+", "n")
    assert int(page.text("#zoom output").split()[0]) > before
    assert (
        page.js("return getComputedStyle(document.querySelector('#zoom img')).imageRendering")
        == "pixelated"
    )
    page.press(Keys.ARROW_DOWN)
    assert page.selected()[1] == "piano"
    page.press(Keys.ESCAPE)
    assert not page.js("return document.getElementById('zoom').open")


def test_matrix_click_selects(page: Page, grid: Path) -> None:
    page.open(grid)
    page.press("m")
    assert page.js("return document.getElementById('wall').hidden")
    assert page.count(".ramp") == 2
    canvas = page.driver.find_element(By.CSS_SELECTOR, ".field")
    for y in range(115, 300, 20):
        move = (140 - canvas.size["width"] // 2, y - canvas.size["height"] // 2)
        ActionChains(page.driver).move_to_element_with_offset(canvas, *move).click().perform()
        if page.selected()[1] != "avocado":
            break
    assert page.selected()[1] != "avocado"


def test_help_theme_and_focus(page: Page, grid: Path) -> None:
    page.open(grid)
    page.press("?")
    assert page.js("return document.getElementById('help').open")
    page.press(Keys.ESCAPE)
    page.press("t")
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    page.press("t", "t")
    page.press(*[Keys.TAB] * 3)
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.js(outline) == "solid"
    unnamed = """const all = document.querySelectorAll('button, a, input, select, canvas');
        const named = e => e.ariaLabel || e.textContent.trim() || e.closest('label');
        return [...all].filter(e => !named(e)).length"""
    assert page.js(unnamed) == 0


@pytest.mark.parametrize("axes", [1, 2, 4])
def test_any_number_of_axes(page: Page, tmp_path: Path, axes: int) -> None:
    all_axes = (*AXES, Axis("rate", ("7", "8")))
    path = make_grid(tmp_path, all_axes[:axes], tmp_path.name)
    page.open(path)
    assert len(page.selected()) == axes
    page.press(Keys.ARROW_RIGHT)
    assert page.selected()[0] == "penguin"
    page.press(Keys.ARROW_DOWN, "2", "b", "m", "m")
    assert len(page.selected()) == axes
    if axes == 4:
        page.js("""const s = document.querySelector('[data-axis]');
            s.value = 1; s.dispatchEvent(new Event('change'))""")
        assert page.selected()[-1] == "8"


def test_phone_shows_one_column_and_taps(page: Page, grid: Path) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    page.open(grid)
    wide = "return document.documentElement.scrollWidth"
    assert page.js(wide) <= 390
    page.click("[data-view=details]")
    assert page.js("return document.getElementById('details').offsetHeight") > 100
    page.click("[data-view=pictures]")
    page.click("#wall .cell:nth-child(2)")
    page.js("""const target = document.querySelector('#figures');
        const touch = x => new Touch({ identifier: 1, target, clientX: x, clientY: 200 });
        const send = (type, x) => target.dispatchEvent(new TouchEvent(type, {
          touches: type === 'touchend' ? [] : [touch(x)], changedTouches: [touch(x)],
          bubbles: true, cancelable: true }));
        send('touchstart', 300); send('touchend', 120);""")
    assert page.selected()[0] == "penguin"


def test_small_grid_from_the_command_to_the_page(page: Page, tmp_path: Path) -> None:
    """The shipped small grid with a second recipe and three epochs, made and browsed."""
    grid = yaml.safe_load(SMALL.read_text(encoding="utf-8"))
    text = {"text": "a {animal} made of {thing}", "set": {"epochs": 3}}
    grid["axes"]["method"] = [
        {"name": "layers", "recipe": grid.pop("recipe"), "set": {"epochs": 3}},
        {"name": "growth", "recipe": "method_2", **text},
    ]
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "clipig", "grid", str(config), "-o", str(folder), "--quiet"]
    command += ["--model", "embedded", "--seed", "3", "--views", "8"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    page.open(folder / "index.html")
    assert page.count("#wall .line:not(.head)") == 6
    assert page.selected()[:3] == ["penguin", "piano", "layers"]
    shown = "const i = document.querySelector('.look img'); return i.complete && i.naturalWidth"
    page.wait(lambda: page.js(shown) == 192)
    page.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, "2")
    assert page.selected()[:3] == ["snail", "harp", "growth"]
    assert page.text("#sentence") == "a snail made of harp"
    page.wait(lambda: page.js("return document.querySelector('.look img').src").find("harp") > 0)
    assert float(page.text("[data-field=similarity] strong")) > 0
    again = page.text("#details .code pre")
    assert again.startswith("clipig ") and "grid" in again
    # seed and recipe are those of the cell, digit for digit
    picture = next(folder.glob("pictures/snail-harp-growth.png"))
    known = read_metadata(picture)
    facts = page.js("const found = document.querySelectorAll('#details .facts dd');"
                    "return [...found].map(d => d.textContent)")
    assert known["clipig seed"] in facts
    recipe = page.js("return document.querySelector('#details .recipe pre').textContent")
    assert f"seed: {known['clipig seed']}" in recipe
    assert "a snail made of harp" in recipe
    assert "penguin" not in recipe
    page.press("f", "/", *"rubik")
    assert page.selected()[1] == "rubik’s cube"
    page.press(Keys.ESCAPE, Keys.ESCAPE, "F")
    assert page.count("#wall .cell") == 1
    page.click("#export-text")
    assert page.saved("small-3-favourites.txt").startswith("a snail made of harp\t")
    page.driver.refresh()
    assert page.text("#only-count") == "1"


def test_1620_cells_stay_light(page: Page, tmp_path: Path) -> None:
    axes = (
        Axis("animal", tuple(f"animal {n}" for n in range(9))),
        Axis("thing", tuple(f"thing {n}" for n in range(90))),
        Axis("method", ("one", "two")),
    )
    page.open(make_grid(tmp_path, axes, tmp_path.name))
    assert page.text("#counts").startswith("1,618 pictures")
    page.press(*[Keys.PAGE_DOWN] * 12)
    assert page.selected()[1] == "thing 89"
    time.sleep(0.3)
    # Only lines near the screen hold thumbnails.
    assert 9 <= page.count("#wall .cell") < 450
    loaded = page.js("return performance.getEntriesByType('resource').length")
    assert loaded < 1000


def test_report_sorts_and_opens(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    runs = tuple(
        Candidate(n, 70 + n, 20.0 + n, picture="a.png", command=f"clipig rank --run {n}")
        for n in range(12)
    )
    page.open(write_ranking(tmp_path, RankingPage("Rank", "a snail", runs, (11,), (0,))))
    order = "return document.querySelector('.thumb').dataset.run"
    assert page.js(order) == "11"
    page.js("""const s = document.getElementById('order');
        s.value = 'run'; s.dispatchEvent(new Event('change'))""")
    assert page.js(order) == "0"
    page.click(".thumb")
    assert page.js("return document.getElementById('look').open")
    assert "clipig rank --run 0" in page.text("#look")


def test_sheet_sorts(page: Page, tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    pictures = (PageImage("b", "b.png", scores=(2.0,)), PageImage("a", "a.png", scores=(10.0,)))
    page.open(write_sheet(tmp_path, Sheet("Rated", (PageGroup("all", pictures),), ("text",))))
    first = "return document.querySelector('.prints figure').dataset.name"
    for key, name in (("score0", "a"), ("given", "b"), ("name", "a")):
        page.js("""const s = document.getElementById('order');
            s.value = arguments[0]; s.dispatchEvent(new Event('change'))""", key)  # fmt: skip
        assert page.js(first) == name
