"""`python -m tests.browser.pictures`: takes the README's screenshots and the start page's pictures anew."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.helpers import CHROMIUM_FLAGS, NOTE_ACTIVITY, ROOT, find_chromium, serve, settle

SIZE = (1280, 1000)
PATIENCE = 300

# Page -> where to scroll to, and the part that stands for it on the start page.
PAGES = {
    "method_comparison": (0, ".rows"),
    "adversarial_attack": (330, ".sweep"),
    "metric_curves": (150, ".scrub"),
}


def open_page(browser: Browser, url: str, slug: str, colour: str) -> Page:
    """The page with everything on it computed."""
    context = browser.new_context(
        viewport={"width": SIZE[0], "height": SIZE[1]},
        color_scheme=colour,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    context.add_init_script(NOTE_ACTIVITY)
    page = context.new_page()
    page.goto(f"{url}/{slug}")
    page.locator(PAGES[slug][1]).first.wait_for(state="visible", timeout=1000 * PATIENCE)
    settle(page, quiet_ms=1500, timeout_s=PATIENCE)
    return page


def take() -> None:
    """Write assets/screenshots/<page>-<theme>.webp and assets/pages/<page>.png."""
    shots, pages = ROOT / "assets" / "screenshots", ROOT / "assets" / "pages"
    for folder in (shots, pages):
        folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        for slug, (scroll, part) in PAGES.items():
            for colour in ("light", "dark"):
                page = open_page(browser, app.url, slug, colour)
                if colour == "light":
                    image = Image.open(io.BytesIO(page.locator(part).first.screenshot())).convert("RGB")
                    image = image.crop((0, 0, image.width, min(image.height, image.width // 2)))
                    image.thumbnail((760, 760))
                    image.quantize(192).save(pages / f"{slug}.png", optimize=True)
                page.evaluate("(y) => document.querySelector('[data-testid=stMain]').scrollTo(0, y)", scroll)
                settle(page)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                shot.save(shots / f"{slug}-{colour}.webp", quality=86, method=6)
                page.context.close()
        browser.close()


if __name__ == "__main__":
    take()
