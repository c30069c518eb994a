"""Memory of the server

One visitor gives pictures, all different, of 1,600 x 1,200 pixels, to the pages in turn, and waits for each: Method
comparison, Adversarial attack, Metric curves. "MB" is the server's resident memory once the page is at rest, "growth"
what came on top since a quarter of the pictures, by which all that is bounded has filled. At the end "Free the memory"
is pressed in the open tab. The network is EfficientNet-Lite0; 200 pictures with 5 repeats, 40 a repeat.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.app import opened
from benchmarks.evaluate import free_cores
from tests.browser.helpers import CHROMIUM_FLAGS, ROOT, AppServer, find_chromium, serve, settle

FLOOR = "none: these are megabytes of the server's process."

PAGES = {
    "Method comparison": "/method_comparison?method=gradcam",
    "Adversarial attack": "/adversarial_attack?attack=fgsm",
    "Metric curves": "/metric_curves?method=gradcam",
}
UPLOADER = '[class*="_upload_"] input[type=file]'
MOST_GROWTH = 100
PER_REPEAT = 40


def resident(server: AppServer) -> float:
    """Megabytes of the server's process that are in memory."""
    return int(Path(f"/proc/{server.process}/statm").read_text().split()[1]) * 4096 / 2**20


def picture(seed: int) -> bytes:
    """A JPEG that no other seed gives: a photograph, shifted, under noise."""
    rng = np.random.default_rng(seed)
    photo = Image.open(ROOT / "assets" / "samples" / "china.jpg").convert("RGB").resize((1600, 1200))
    shifted = np.roll(np.asarray(photo, np.int16), rng.integers(1600), axis=1)
    noisy = np.clip(shifted + rng.integers(-12, 13, shifted.shape), 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noisy).save(data, "JPEG", quality=85)
    return data.getvalue()


def give(page: Page, seed: int) -> None:
    """Give the page a new picture and wait until all of it is shown."""
    file: Any = {"name": f"{seed}.jpg", "mimeType": "image/jpeg", "buffer": picture(seed)}
    own = page.get_by_role("radio", name="Upload", exact=True)  # Metric curves asks where pictures are from
    if own.count() and not own.is_checked():
        own.click()
        settle(page, 1500)
    page.locator(UPLOADER).first.set_input_files(file)
    settle(page, 1500)


def run(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """One row for the start, each quarter and the end."""
    count = 8 if quick else PER_REPEAT * repeats
    quarter = count // 4
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright, serve(Path(place)) as server:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        page = opened(browser)
        first = 0.0

        def note(what: str, bounded: bool = False) -> None:
            megabytes = resident(server)
            growth = {"growth": megabytes - first} if first else {}
            target = {"target": f"growth <= {MOST_GROWTH}"} if bounded else {}
            rows.append({"what": what, "MB": megabytes, **growth, "machine": free_cores(), **target})

        given, names = 0, list(PAGES)
        for block in range(4):
            for turn, name in enumerate(names):
                page.goto(server.url + PAGES[name])
                settle(page, 1500)
                end = block * quarter + round(quarter * (turn + 1) / len(names))
                while given < end:
                    give(page, given)
                    given += 1
            note(f"after {given} pictures", bounded=block > 0)
            first = first or rows[-1]["MB"]
        page.get_by_role("button", name="Free the memory").click()
        settle(page, 3000)
        note("after Free the memory, the tab open")
        browser.close()
    return rows
