"""What the tests of the method comparison share: opening it, and reading what it shows."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page

from tests.browser.helpers import ROOT, AppServer, expect, visit
from xai import attribute, load_image, load_model
from xai.images.render import overlay, scale_for
from xai.types import Attribution

SAMPLES = ROOT / "assets" / "samples"
QUICK = "method=gradcam,saliency"


def open_comparison(page: Page, server: AppServer, query: str = QUICK) -> None:
    visit(page, f"{server.url}/method_comparison?{query}")


def tile(page: Page, name: str) -> Locator:
    return page.locator(f'.tile[data-slot="{name}"]')


def expect_done(page: Page, *names: str) -> None:
    for name in names:
        expect(tile(page, name)).to_have_attribute("data-state", "done")
        expect(tile(page, name)).to_have_attribute("data-painted", re.compile("."))


def pixels(page: Page, name: str) -> np.ndarray:
    """What the tile's canvas holds: (H,W,3) uint8."""
    address: str = tile(page, name).locator(".stage canvas").evaluate("(canvas) => canvas.toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(image.convert("RGB"))


def answer(page: Page, slot: int = 0) -> str:
    """The class that a network says: its first bar."""
    return page.locator(".net").nth(slot).locator(".bar .label").first.inner_text()


def choose_method(page: Page, title: str) -> None:
    page.locator(".st-key-olhar-methods").get_by_role("button", name=title, exact=True).click()


def explained(sample: str, method: str, target: int | None = None) -> tuple[Attribution, np.ndarray]:
    """The map that the package gives for a sample, and its overlay as it is drawn at first."""
    classifier = load_model(device="cpu")
    x = classifier.preprocess(load_image(SAMPLES / sample))
    found = attribute(classifier, x, method, target)
    colors = "bluered" if found.signed else "jet"
    return found, np.asarray(overlay(x[0], found.maps()[0], scale_for([found]), colors))


def count_messages(page: Page) -> None:
    """From now on, `sent(page)` counts what the page sends to the server."""
    page.evaluate(
        """() => {
          window.olharSent = 0;
          const send = WebSocket.prototype.send;
          WebSocket.prototype.send = function (...args) { window.olharSent += 1; return send.apply(this, args); };
        }"""
    )


def sent(page: Page) -> int:
    number: int = page.evaluate("() => window.olharSent")
    return number
