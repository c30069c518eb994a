"""The GAN page in a real browser: both sliders answer without asking anybody, and the GIF is one."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, AppServer, expect, overflow, settle
from xai.ui.gan_augmentation.state import FRAMES

PIXELS = """(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [...data].reduce((sum, value, i) => (sum * 31 + value * (i % 7 + 1)) % 1000003, 7);
}"""


def test_sliders_answer_in_the_browser_and_the_walk_is_a_gif(server: AppServer, new_page: NewPage) -> None:
    page = new_page(size=NARROW)
    sent: list[int] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(len(frame))))
    page.goto(f"{server.url}/gan_augmentation")
    frames = page.locator(".frames[data-index]")
    expect(frames).to_have_count(2)
    settle(page)
    before_all = len(sent)
    for each in (frames.nth(0), frames.nth(1)):
        canvas, slider = each.locator("canvas").first, each.locator("input[type=range]")
        slider.press("Home")
        before = canvas.evaluate(PIXELS)
        slider.press("End")
        assert canvas.evaluate(PIXELS) != before
        assert each.get_attribute("data-index") == slider.get_attribute("max")
    expect(frames.nth(0).locator("output")).to_have_text("100 % of the way")
    expect(frames.nth(1).locator("output")).to_have_text("no truncation")
    frames.nth(1).locator("input[type=range]").press("Home")
    expect(frames.nth(1).locator("output")).to_have_text(re.compile(r"^±0\.2, contrast \d+ %$"))
    assert len(sent) == before_all
    with page.expect_download() as download:
        page.locator(".st-key-ga_gif button").click()
    animation = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert (animation.format, animation.size) == ("GIF", (64, 64))
    assert animation.n_frames == 2 * FRAMES - 2  # there and back, the ends once
    assert overflow(page) == 0
