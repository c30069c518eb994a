"""Walking through a curve in a real browser: the picture is the library's, and a move asks nobody."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Locator, Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, AppServer, expect, low_contrast, overflow, screenshot, settle
from xai.metrics import pictures_at
from xai.models.classifier import Classifier
from xai.ui.work import samples

ONE = "/metric_curves?images=chelsea&method=gradcam"
TWO = "/metric_curves?images=chelsea,coffee&method=gradcam"
STUDY = (0.0, 0.25, 0.5, 0.75, 1.0)

# As the curve of a method whose map is not finite: no value at any step.
NO_VALUES = """() => {
  const packet = [...globalThis.__olhar.packets.values()].find((each) => each.head.kind === 'scrub');
  for (const method of packet.head.methods) method.deletion.y.fill(null);
}"""

RANKS = """(name) => {
  const packet = [...globalThis.__olhar.packets.values()].find((each) => each.head.kind === 'scrub');
  return [...packet.ranks[name]];
}"""


def drawn(page: Page, metric: str) -> np.ndarray:
    """What the canvas of a metric shows, (H,W,3)."""
    canvas = page.locator(f'canvas[data-metric="{metric}"]')
    data = canvas.evaluate("(canvas) => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")).astype(float)


def opened(page: Page, address: str) -> None:
    """Open, and wait until curves and means are there."""
    page.goto(address)
    measured(page, page.locator(".scrub[data-index]"))
    measured(page, page.locator(".st-key-cu_csv"))
    settle(page)


def measured(page: Page, wanted: Locator) -> None:
    """Wait until `wanted` is there; on a slow machine the page asks first, and the answer is yes."""
    ask = page.get_by_role("button", name="Measure", exact=True)
    expect(wanted.or_(ask).first).to_be_visible()
    while not wanted.is_visible() and (asked := ask.count()):
        ask.first.click()
        expect(ask).to_have_count(asked - 1)
    expect(wanted).to_be_visible()


def words(file: Path) -> str:
    """The words of an SVG file, whatever lines they stand in."""
    return " ".join(re.sub(r"<[^>]+>", " ", file.read_text(encoding="utf-8")).split())


def marker(page: Page) -> list[str]:
    """Where the moving points stand: x and y of the front line's dot in both charts."""
    dots: list[str] = page.locator(".scrub .plot circle").evaluate_all(
        "(dots) => dots.map((dot) => `${dot.getAttribute('cx')} ${dot.getAttribute('cy')}`)"
    )
    return dots


def test_every_step_shows_the_librarys_picture_and_asks_nobody(
    server: AppServer, new_page: NewPage, lite0: Classifier
) -> None:
    page = new_page()
    sent: list[int] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(len(frame))))
    opened(page, server.url + ONE)
    x = lite0.preprocess(samples()["chelsea"].decoded())
    slider = page.get_by_role("slider", name="Share of the pixels that has changed")
    slider.focus()
    before = len(sent)
    for name in ("gradcam", "center"):
        page.get_by_label("Whose order of pixels").select_option(name)
        # A map with exactly these ranks: the composition is compared, whatever rounding did to the map itself.
        map_ = -torch.tensor(page.evaluate(RANKS, name)).view(224, 224).float()
        exact = {m: pictures_at(lite0, x, map_, STUDY, m, "study") for m in ("insertion", "deletion")}
        slider.focus()
        slider.press("Home")
        places = []
        for step, share in enumerate(STUDY):
            places.append(marker(page))
            assert page.locator(".scrub .readout").inner_text() == f"{100 * share:g} %"
            for metric, pictures in exact.items():
                wanted = pictures[step].permute(1, 2, 0).numpy() * 255
                assert np.abs(drawn(page, metric) - wanted).max() <= 1
            slider.press("ArrowRight")
        assert len({str(place) for place in places}) == len(STUDY)
    assert len(sent) == before
    assert slider.get_attribute("aria-valuetext") == "100 %, 50176 of 50176 pixels"
    page.evaluate(NO_VALUES)
    slider.press("Home")
    label = page.locator('canvas[data-metric="deletion"]').get_attribute("aria-label")
    assert label == "Deletion: 0 % taken away in the order of Centre; drop in confidence D(t) none"


def test_figures_and_rows_go_home_with_their_protocol(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    opened(page, server.url + TWO)
    screenshot(page, "metric-curves", whole=True)
    sentence = page.locator(".scrub .said").last.inner_text()
    assert "higher is better (Study 1)." in sentence
    with page.expect_download() as download:
        page.locator(".scrub").get_by_role("button", name="SVG").last.click()
    written = words(Path(download.value.path()))
    assert download.value.suggested_filename == "chelsea-efficientnet_lite0-study-deletion.svg"
    assert sentence in written
    assert "Grad-CAM, AUC" in written
    with page.expect_download() as download:
        page.locator(".st-key-cu_csv button").click()
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 * 4
    assert all(sentence in row for row in rows[1:])
    plot = page.locator("[data-testid=stPlotlyChart]").first
    plot.hover()
    with page.expect_download() as download:
        plot.locator('[data-title*="Download plot"]').click()
    assert download.value.suggested_filename == "insertion-study-pictures.svg"
    assert "the band is the bootstrap 95 % interval." in words(Path(download.value.path()))


def test_one_click_changes_the_protocol_and_its_direction(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    opened(page, server.url + ONE)
    assert page.locator(".scrub .way").all_inner_texts() == ["higher is better ↑", "higher is better ↑"]
    page.locator(".st-key-cu_protocol").get_by_text("rise", exact=True).click()
    slider = page.get_by_role("slider", name="Share of the pixels that has changed")
    measured(page, slider.and_(page.locator("[max='28']")))
    assert page.locator(".scrub .way").all_inner_texts() == ["higher is better ↑", "lower is better ↓"]
    measured(page, page.locator(".st-key-cu_csv"))
    settle(page)
    table = " ".join(page.get_by_test_id("stTable").nth(1).inner_text().split())
    for metric in ("Insertion", "Deletion"):
        for protocol in ("study", "rise"):
            ranks = re.search(rf"{metric}, {protocol} ([1-4] [1-4] [1-4] [1-4])", table)
            assert ranks is not None, table
            assert "1" in ranks[1]
        assert f"{metric}, rise-row" not in table  # nothing was measured by it
    told = page.get_by_text("The ranking is the same").or_(page.get_by_text("The ranking depends on the protocol"))
    expect(told).to_be_visible()
    page.locator(".st-key-cu_protocol").get_by_text("study", exact=True).click()  # there already: nothing to wait for
    expect(slider).to_have_attribute("max", "4")


def test_slow_work_waits_for_a_word_and_can_be_stopped(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    page.goto(server.url + "/metric_curves?method=gradcam&protocol=rise-row")
    said = page.get_by_text(re.compile(r"5 pictures, RISE, row by row: [\d,]+ forward passes, about \d+ (s|min)\."))
    expect(said).to_be_visible()
    assert page.locator(".st-key-cu_csv").count() == 0  # nothing was begun
    page.get_by_role("button", name="Measure", exact=True).last.click()
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    expect(cancel).to_be_visible()
    cancel.click()
    expect(page.get_by_text("5 pictures, RISE, row by row: stopped; what is measured is kept.")).to_be_visible()
    expect(page.get_by_role("button", name="Go on", exact=True)).to_be_visible()
    expect(cancel).to_be_hidden()
    page.locator(".st-key-cu_protocol").get_by_text("study", exact=True).click()
    measured(page, page.locator(".st-key-cu_csv"))


def test_figures_of_study_1_say_which_weights_are_missing(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    opened(page, server.url + ONE)
    page.get_by_role("button", name="Figures of the studies").click()
    page.get_by_role("button", name="Study 1, figures 6 and 7").click()
    said = page.get_by_text("VGG16, ResNet50 and GoogLeNet cannot be measured with ImageNet's weights")
    expect(said).to_be_visible()
    expect(page.get_by_role("button", name="Use random weights (marked in every figure)")).to_be_visible()
    assert page.get_by_text("whose answers mean nothing").count() == 1


def test_bad_input_is_one_sentence_on_a_dark_telephone(server: AppServer, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page(colour="dark", size=NARROW)
    opened(page, server.url + ONE)
    assert overflow(page) == 0
    assert low_contrast(page) == []
    page.locator(".st-key-cu_source").get_by_text("Server", exact=True).click()
    box = page.locator(".st-key-cu_path input")
    missing = tmp_path / "missing"
    for written, answer in (("/nowhere/at/all", "is outside the folders"), (str(missing), "does not exist")):
        box.fill(written)
        box.press("Enter")
        expect(page.get_by_text(re.compile(f"{re.escape(written)}'? {answer}"))).to_be_visible()
    page.locator(".st-key-cu_source").get_by_text("Upload", exact=True).click()
    bad = tmp_path / "x.png"
    bad.write_bytes(b"no picture")
    page.locator("[class*=cu_upload_] input[type=file]").set_input_files(bad)
    expect(page.get_by_text("x.png: the image is not an image that can be read here")).to_be_visible()
    settle(page)
    assert overflow(page) == 0
    assert page.locator(".scrub[data-index]").is_visible()  # what was there stays
