"""The app in a browser

What a person waits for, on the clock, with EfficientNet-Lite0 and two threads for the server: from starting the server
to the first explained picture in a browser that is open already; from giving a new picture to its Grad-CAM on the
screen; from a click on another page's name, visited before, to its first picture; and from pressing an arrow key on
the epsilon slider (the event's own time) to the painted frame, all positions being computed. "s" and "ms" are medians,
"worst" the largest. Absolute times: they hold for the machine and the load that stand above and in the row.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.evaluate import free_cores
from tests.browser.helpers import CHROMIUM_FLAGS, NOTE_ACTIVITY, ROOT, find_chromium, serve, settle

FLOOR = "none: these are times that a person waits."

SAMPLES = ("coffee.png", "rocket.jpg", "china.jpg", "flower.jpg", "chelsea.png")
POSITIONS = 33

KEYS = """() => {
  window.olharKeys = [];
  document.addEventListener('keydown', (event) => {
    const pressed = event.timeStamp;
    requestAnimationFrame(() => setTimeout(() => window.olharKeys.push(performance.now() - pressed)));
  }, true);
}"""


def opened(browser: Browser) -> Page:
    """A new visitor's page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    context.add_init_script(NOTE_ACTIVITY)
    return context.new_page()


def painted(page: Page, other_than: str = "") -> str:
    """Wait until the Grad-CAM tile shows a map that is not `other_than`; its id."""
    tile = page.locator(
        f'.tile[data-slot="row0.gradcam"][data-state="done"][data-painted]:not([data-painted="{other_than}"])'
    )
    tile.wait_for(state="attached", timeout=120_000)
    found: str = tile.get_attribute("data-painted") or ""
    return found


def first_picture(browser: Browser, folder: Path) -> float:
    """Seconds from starting a server to the first explained picture."""
    page = opened(browser)
    begun = time.perf_counter()
    with serve(folder) as server:
        page.goto(f"{server.url}/method_comparison")
        painted(page)
        taken = time.perf_counter() - begun
        page.context.close()
    return taken


def new_pictures(page: Page, url: str, count: int) -> list[float]:
    """Seconds from giving a picture to its Grad-CAM, for `count` pictures not seen before."""
    page.goto(f"{url}/method_comparison?method=gradcam&image=coffee")
    shown = painted(page)
    settle(page)
    taken = []
    for name in (SAMPLES * count)[1 : count + 1]:
        begun = time.perf_counter()
        page.locator('[class*="_upload_"] input[type=file]').first.set_input_files(ROOT / "assets" / "samples" / name)
        shown = painted(page, shown)
        taken.append(time.perf_counter() - begun)
        settle(page)
    return taken


def switches(page: Page, url: str, count: int) -> list[float]:
    """Seconds from a click on a page's name to its first picture, both pages having been visited."""
    first = {"Method comparison": ".tile[data-painted]", "Adversarial attack": '[data-tile="attacked"] canvas'}
    page.goto(f"{url}/method_comparison")
    painted(page)
    taken = []
    for turn in range(2 * count + 2):
        name = list(first)[(turn + 1) % 2]
        settle(page)
        begun = time.perf_counter()
        page.get_by_test_id("stSidebarNav").get_by_text(name, exact=True).click()
        expect(page.locator(first[name]).first).to_be_visible(timeout=120_000)
        if turn > 1:  # the first visits compute
            taken.append(time.perf_counter() - begun)
    return taken


def keys(page: Page, url: str, count: int) -> list[float]:
    """Seconds from pressing an arrow key to the painted frame."""
    page.goto(f"{url}/adversarial_attack?attack=fgsm")
    expect(page.locator(f'[data-count="{POSITIONS}"]')).to_be_visible(timeout=300_000)
    settle(page)
    handle = page.get_by_role("slider", name="Epsilon", exact=True)
    handle.focus()
    handle.press("Home")
    settle(page)
    page.evaluate(KEYS)
    for _ in range(min(POSITIONS - 1, 6 * count)):
        handle.press("ArrowRight")
        page.wait_for_timeout(60)
    found: list[float] = page.evaluate("() => window.olharKeys")
    return [each / 1000 for each in found]


def row(what: str, seconds: list[float], limit: float, unit: str = "s") -> dict[str, Any]:
    """Median and worst beside the limit."""
    factor = 1000 if unit == "ms" else 1
    found: dict[str, Any] = {"what": what, "times": len(seconds), unit: factor * statistics.median(seconds)}
    found |= {"worst": factor * max(seconds), "machine": free_cores(), "target": f"{unit} <= {factor * limit:g}"}
    return found


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row a wait."""
    count = 1 if quick else repeats
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        folders = [Path(place) / str(turn) for turn in range(count + 1)]
        for folder in folders:
            folder.mkdir()
        starts = [first_picture(browser, folder) for folder in folders[1:]]
        with serve(folders[0]) as server:
            page = opened(browser)
            rows = [
                row("server start to the first explained picture", starts, 10),
                row("a new picture to its Grad-CAM", new_pictures(page, server.url, count), 1.5),
                row("page switch to the first picture", switches(page, server.url, count), 0.5),
                row("epsilon slider, key press to painted frame", keys(page, server.url, count), 0.05, "ms"),
            ]
            page.context.close()
        browser.close()
    return rows
