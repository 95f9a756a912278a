"""How fast the explorer is with 1,620 cells: time to interactive, keys, scroll.

    python benchmarks/explorer_page.py [--folder DIR] [--headed] [--draw-only]

Draws made-up pictures, writes the page, opens it from `file://` in Chromium
(needs `selenium`, and Chromium with its driver) and prints figures. Nothing is
asserted: the figures depend on the machine.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from clipig.outputs.pages.explorer import write_explorer
from clipig.outputs.pages.model import Axis, Explorer, PageCell, Recipe

ANIMALS = ("cat", "elephant", "hedgehog", "kangaroo", "peacock", "penguin", "pig", "snail", "tapir")
THINGS = """accordion;apple;avocado;baguette;banana;basil;beetroot;broom;burger;burrito;cabbage;cake
calamari;carpet;carrot;chili;coconut;coldness;comfort;coral reef;corkscrew;croissant;cuckoo clock
cucumber;cursive letters;cymbals;eggplant;eraser;faucet;fossil;fried chicken;fries;garlic
geiger counter;glacier;gourd;grater;harmonica;harp;hospital;kettle;lettuce;loaf of bread;lotus root
lychee;mango;mangosteen;maple leaf;meatloaf;motorcycle;mushroom;orange;parsnip;peace;peach;piano
pickle;pie;pineapple;pizza;plate;polygons;potato chip;pretzel;raspberry;rosemary;rubik’s cube
russian doll;salami;sardines;soda can;spiral;submarine;sushi;taco;tamale;tank;tarragon;tempura
tissue;tissue box;toaster;tomato;tuba;turnip;violin;waffle;warmth;watermelon;xylophone"""
METHODS = ("blurred noise", "growing resolution")
RECIPE = """epochs: 200
optimizer: rmsprob
learnrate: 1.0
init:
  mean: 0.33
  std: 0.03
  resolution: 10
targets:
- batch_size: 10
  features:
  - text: a {animal} made of {thing}.
"""
# Thumbnail scrolling, sampled once a frame while the wall moves from end to end.
SCROLL = """
const done = arguments[arguments.length - 1];
const wall = document.getElementById("wall");
const times = [];
const step = (wall.scrollHeight - wall.clientHeight) / 120;
let before = performance.now();
requestAnimationFrame(function frame(now) {
  times.push(now - before);
  before = now;
  wall.scrollTop += step;
  if (times.length < 120) requestAnimationFrame(frame);
  else done(times.slice(1));
});
"""
KEYS = """
const done = arguments[arguments.length - 1];
const keys = ["ArrowDown", "ArrowRight", "2", "ArrowDown", "ArrowLeft", "1"];
const times = [];
requestAnimationFrame(function frame() {
  const start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent("keydown",
    { key: keys[times.length % keys.length], bubbles: true }));
  document.body.offsetHeight;
  times.push(performance.now() - start);
  if (times.length < 90) requestAnimationFrame(frame);
  else done(times);
});
"""


def draw_picture(seed: int, size: int, coarse: bool) -> Image.Image:
    """A blob on coloured clouds: about as busy as what the optimiser paints."""
    rng = np.random.default_rng(seed)
    hue = rng.random()
    grains = 5 if coarse else 12
    noise = np.zeros((size, size, 3))
    for octave in range(1, 4):
        cells = rng.integers(0, 256, (grains * octave, grains * octave, 3)).astype(np.uint8)
        cloud = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
        noise += np.asarray(cloud, dtype=float) / 255 / octave
    tint = np.array(colorsys.hsv_to_rgb(hue, 0.55, 1.0))
    field = (noise / 1.83 - 0.5) * (0.9 if coarse else 0.65) + tint * 0.55
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    ink = ImageDraw.Draw(image)
    for _ in range(9):
        x, y = rng.normal(size / 2, size / 7, 2)
        w, h = rng.uniform(size / 14, size / 4, 2)
        rgb = colorsys.hsv_to_rgb((hue + rng.normal(0.45, 0.08)) % 1, 0.75, rng.uniform(0.25, 1))
        ink.ellipse((x - w, y - h, x + w, y + h), fill=tuple(int(255 * part) for part in rgb))
    return image.filter(ImageFilter.GaussianBlur(2.2 if coarse else 1.0))


def draw_demo(folder: Path) -> Explorer:
    """The article's grid, 9 x 90 x 2, with made-up pictures and scores."""
    things = THINGS.replace("\n", ";").split(";")
    rng = np.random.default_rng(0)
    for name in ("pictures", "thumbs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cells = []
    for a, animal in enumerate(ANIMALS):
        for t, thing in enumerate(things):
            for m, method in enumerate(METHODS):
                number = (a * len(things) + t) * len(METHODS) + m
                prompt = f"a {animal} made of {thing}."
                command = f"clipig grid animals.yaml --only animal={animal} --only 'thing={thing}'"
                if number % 173 == 40:
                    error = f"ImageError: the picture became NaN in epoch 117 ({method})"
                    cells.append(PageCell((a, t, m), "failed", prompt=prompt, seed=number,
                                      command=command, error=error))  # fmt: skip
                    continue
                if number % 211 == 90:
                    cells.append(PageCell((a, t, m), prompt=prompt, seed=number, command=command))
                    continue
                name = f"{animal}-of-{thing.replace(' ', '-')}-{m + 1}"
                image = draw_picture(number, 224, coarse=m == 1)
                image.save(folder / f"pictures/{name}.png", compress_level=1)
                image.resize((96, 96)).save(folder / f"thumbs/{name}.jpg", quality=82)
                score = 39 + 4 * m + 2.2 * np.sin(t * 1.7) + 1.3 * np.sin(a) + rng.normal(0, 1.6)
                held_out = 24 + 0.25 * score + rng.normal(0, 1.2)
                cells.append(PageCell(
                    (a, t, m), "done", f"pictures/{name}.png", f"thumbs/{name}.jpg", prompt,
                    number, round(float(score), 2), round(float(held_out), 2), None, command,
                ))  # fmt: skip
    axes = (Axis("animal", ANIMALS), Axis("thing", tuple(things)), Axis("method", METHODS))
    recipes = tuple(Recipe(name, RECIPE) for name in METHODS)
    return Explorer(
        id="animal-transfer", title="Animals made of things", axes=axes, cells=tuple(cells),
        recipes=recipes, guide="ViT-B/32", judge="ViT-L/14", created_by="clipig 2.0.0",
    )  # fmt: skip


def open_chromium(headed: bool, profile: str) -> webdriver.Chrome:
    """Chromium as installed by the system, without any traffic of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (
        *([] if headed else ["headless=new"]), "no-sandbox", "disable-gpu", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "force-device-scale-factor=1", f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    return driver


def percentiles(times: list[float]) -> str:
    """Median, 95th percentile and maximum of milliseconds, as one line."""
    middle, late, most = np.percentile(times, [50, 95, 100])
    return f"median {middle:.1f} ms, 95 % {late:.1f} ms, most {most:.1f} ms"


def measure(driver: webdriver.Chrome, page: Path) -> None:
    """Open the page and print what it took."""
    started = time.perf_counter()
    driver.get(page.as_uri())
    wall = time.perf_counter() - started
    marks: dict[str, Any] = json.loads(
        driver.execute_script("""
        const nav = performance.getEntriesByType("navigation")[0];
        return JSON.stringify({
          ready: performance.getEntriesByName("clipig-ready")[0].startTime,
          paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
          load: nav.loadEventEnd, nodes: document.getElementsByTagName("*").length,
        });""")
    )
    print(f"time to interactive {marks['ready']:.0f} ms (all keys work)")
    if marks["paint"] is not None:
        print(f"first paint         {marks['paint']:.0f} ms")
    print(f"load event          {marks['load']:.0f} ms (with driver: {wall * 1000:.0f} ms)")
    print(f"elements            {marks['nodes']}")
    print(f"scroll, per frame   {percentiles(driver.execute_async_script(SCROLL))}")
    print(f"key to layout       {percentiles(driver.execute_async_script(KEYS))}")
    driver.execute_script("document.querySelector('[data-view=matrix]').click()")
    print(f"key, matrix open    {percentiles(driver.execute_async_script(KEYS))}")
    nodes = driver.execute_script("return document.getElementsByTagName('*').length")
    print(f"elements after      {nodes}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="keep the page here")
    parser.add_argument("--headed", action="store_true", help="show the browser")
    parser.add_argument("--draw-only", action="store_true", help="write the page, open nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = arguments.folder or Path(scratch) / "grid"
        started = time.perf_counter()
        data = draw_demo(folder)
        print(f"{len(data.cells)} cells drawn in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        page = write_explorer(folder, data)
        size = (folder / "data.js").stat().st_size
        print(f"page written in {(time.perf_counter() - started) * 1000:.0f} ms, "
              f"index.html {page.stat().st_size:,} B, data.js {size:,} B")  # fmt: skip
        if arguments.draw_only:
            return
        driver = open_chromium(arguments.headed, f"{scratch}/profile")
        try:
            driver.set_window_size(1440, 900)
            print(f"Chromium {driver.capabilities['browserVersion']}, 1440 x 900")
            measure(driver, page.resolve())
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
