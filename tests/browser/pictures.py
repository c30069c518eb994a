"""`python -m tests.browser.pictures [PAGE...]`: takes the README's screenshots and the start page's pictures anew."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.helpers import CHROMIUM_FLAGS, NOTE_ACTIVITY, ROOT, find_chromium, serve, settle
from xai.images.render import marked

SIZE = (1280, 1000)
PATIENCE = 300


@dataclass(frozen=True)
class View:
    """Where to scroll to for the README; and for the start page the part that stands for the page, and its mark.

    mark: "" where the part says by itself what is drawn. share: the picture's height at most, as a share of its width.
    """

    scroll: int
    part: str
    mark: str = ""
    share: float = 0.5


PAGES = {
    "method_comparison": View(0, ".rows"),
    "adversarial_attack": View(330, ".sweep"),
    "metric_curves": View(150, ".scrub"),
    "transfer_learning": View(0, "[role=tabpanel]", "synthetic images", 0.38),
    "bias_audit": View(0, "[role=tabpanel]", "drawn images", 0.47),
    "gan_augmentation": View(0, "[role=tabpanel]", "", 0.62),
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
    page.locator(PAGES[slug].part).first.wait_for(state="visible", timeout=1000 * PATIENCE)
    settle(page, quiet_ms=1500)
    return page


def cut(page: Page, view: View) -> Image.Image:
    """The part of the page that stands for it, as far as its share goes."""
    part = page.locator(view.part).first
    for _ in range(2):  # to the top of the window, below the header; then where it has come to lie
        box = part.bounding_box()
        assert box is not None
        page.evaluate("(y) => document.querySelector('[data-testid=stMain]').scrollBy(0, y)", box["y"] - 80)
        settle(page)
    box = part.bounding_box()
    assert box is not None
    height = min(box["height"], view.share * box["width"], SIZE[1] - box["y"])
    clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": height}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]


def take(slugs: Sequence[str]) -> None:
    """Write assets/screenshots/<page>-<theme>.webp and assets/pages/<page>.png of these pages."""
    shots, pages = ROOT / "assets" / "screenshots", ROOT / "assets" / "pages"
    for folder in (shots, pages):
        folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        for slug in slugs:
            view = PAGES[slug]
            for colour in ("light", "dark"):
                page = open_page(browser, app.url, slug, colour)
                if colour == "light":
                    image = cut(page, view)
                    image.thumbnail((760, 760))
                    image = marked(image, view.mark) if view.mark else image
                    image.quantize(192).save(pages / f"{slug}.png", optimize=True)
                page.evaluate("(y) => document.querySelector('[data-testid=stMain]').scrollTo(0, y)", view.scroll)
                settle(page)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                shot.save(shots / f"{slug}-{colour}.webp", quality=86, method=6)
                page.context.close()
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1:] or list(PAGES))
