"""The method comparison in a real browser: pictures in, maps out, and everything a person can do with them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NewPage
from tests.browser.helpers import ROOT, AppServer, drop_file, screenshot, settle, visit
from xai import attribute, load_image, load_model
from xai.render import overlay, scale_for
from xai.types import Attribution

SAMPLES = ROOT / "assets" / "samples"
QUICK = "method=gradcam,saliency"


def open_comparison(page: Page, server: AppServer, query: str = QUICK) -> None:
    visit(page, f"{server.url}/method_comparison?{query}")


def tile(page: Page, name: str) -> Locator:
    return page.locator(f'.tile[data-slot="{name}"]')


def expect_done(page: Page, *names: str) -> None:
    for name in names:
        expect(tile(page, name)).to_have_attribute("data-state", "done", timeout=60_000)
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


def test_it_opens_with_a_sample_explained(server: AppServer, page: Page) -> None:
    open_comparison(page, server, "")
    expect_done(page, "row0", "row0.gradcam", "row0.guided_gradcam")
    assert "cat" in answer(page)
    expect(tile(page, "row0.gradcam").locator(".klass")).to_contain_text(answer(page))
    assert pixels(page, "row0.gradcam").std() > 20
    screenshot(page, "comparison-first")


@pytest.mark.parametrize(("method", "most"), [("gradcam", 1), ("inputxgradient", 3)])
def test_a_tile_shows_what_the_package_draws(server: AppServer, page: Page, method: str, most: int) -> None:
    open_comparison(page, server, f"method={method}")
    expect_done(page, f"row0.{method}")
    _, wanted = explained("chelsea.png", method)
    shown = pixels(page, f"row0.{method}")
    assert shown.shape == wanted.shape
    # Colours are looked up in 256 steps: a value near a border may fall one step aside.
    difference = np.abs(shown.astype(int) - wanted.astype(int))
    assert np.percentile(difference, 99) <= most
    assert difference.mean() < 0.5


@pytest.mark.parametrize("how", ["choose", "drop", "drop beside", "paste"])
def test_a_cat_is_called_a_cat(server: AppServer, page: Page, tmp_path: Path, how: str) -> None:
    mine = tmp_path / "my cat.png"
    shutil.copy(SAMPLES / "chelsea.png", mine)
    open_comparison(page, server, f"image=coffee&{QUICK}")
    expect_done(page, "row0.gradcam")
    assert "cat" not in answer(page)
    before = pixels(page, "row0.gradcam")
    uploader = page.locator("[class*='st-key-mc_upload_']")
    if how == "choose":
        uploader.locator("input[type=file]").set_input_files(mine)
    elif how == "drop":
        drop_file(page, uploader.get_by_test_id("stFileUploaderDropzone"), mine)
    elif how == "drop beside":
        drop_file(page, page.locator(".st-key-olhar-maps"), mine)
    else:
        paste(page, mine)
    expect(page.locator(".picker .caption")).to_contain_text("my cat.png, 451 × 300 pixels")
    settle(page)
    expect_done(page, "row0", "row0.gradcam")
    assert "cat" in answer(page)
    after = pixels(page, "row0.gradcam")
    assert (after != before).any()
    assert after.std() > 20
    assert page.locator("[data-sample][aria-checked=true]").count() == 0


def paste(page: Page, path: Path) -> None:
    """Paste a file, as the clipboard gives it."""
    page.evaluate(
        """([name, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(bytes)], name, {type: 'image/png'}));
          window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}));
        }""",
        [path.name, list(path.read_bytes())],
    )


def test_a_sample_is_chosen_by_its_thumbnail(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    page.locator('[data-sample="coffee"]').click()
    settle(page)
    expect_done(page, "row0.gradcam")
    assert answer(page) in ("espresso", "cup", "coffee mug")


def test_opacity_is_the_browsers_work(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    settle(page)
    count_messages(page)
    before = pixels(page, "row0.gradcam")
    slider = page.locator("input.opacity")
    slider.evaluate("(e) => { e.value = 90; e.dispatchEvent(new Event('input', {bubbles: true})); }")
    after = pixels(page, "row0.gradcam")
    assert np.abs(after.astype(int) - before).mean() > 10
    page.wait_for_timeout(300)
    assert sent(page) == 0
    slider.evaluate("(e) => e.dispatchEvent(new Event('change', {bubbles: true}))")
    settle(page)
    assert sent(page) > 0  # on release Python is told, for the bundle and the link
    assert (pixels(page, "row0.gradcam") == after).all()
    page.get_by_role("tab", name="Save and share").click()
    expect(page.get_by_test_id("stCode").nth(1)).to_contain_text("--opacity 0.9")


def test_every_display_control_changes_the_picture(server: AppServer, page: Page) -> None:
    open_comparison(page, server, "method=gradcam,inputxgradient")
    expect_done(page, "row0.gradcam", "row0.inputxgradient")

    def changes(name: str, act: object) -> None:
        before = pixels(page, f"row0.{name}")
        act()  # type: ignore[operator]
        settle(page)
        assert (pixels(page, f"row0.{name}") != before).any(), act

    changes("gradcam", lambda: page.locator("select.colors").select_option("viridis"))
    changes("gradcam", lambda: page.locator("input.smooth").uncheck())
    changes("inputxgradient", lambda: page.locator("select.signed").select_option("strength"))
    changes("inputxgradient", lambda: page.locator("select.signed").select_option("relief"))
    changes("gradcam", lambda: page.locator(".modes label", has_text="Map").click())
    page.locator("select.signed").select_option("strength")
    changes("inputxgradient", lambda: page.locator("select.scale").select_option("shared"))
    page.locator(".modes label", has_text="Split").click()
    settle(page)
    divider = tile(page, "row0.gradcam").locator(".divider")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    shown, seen = pixels(page, "row0.gradcam"), pixels(page, "row0")
    assert (shown[:, :112] == seen[:, :112]).all()
    assert (shown[:, 112:] != seen[:, 112:]).any()
    changes("inputxgradient", lambda: divider.press("ArrowRight"))  # one divider for all tiles
    expect(tile(page, "row0.inputxgradient").locator(".divider")).to_have_attribute("aria-valuenow", "55")
    box = divider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + 10)
    page.mouse.up()
    assert int(divider.get_attribute("aria-valuenow") or 0) < 45


def test_the_value_under_the_pointer_shows_in_all_tiles(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0", "row0.gradcam", "row0.saliency")
    canvas = tile(page, "row0.gradcam").locator(".stage canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.hover(position={"x": box["width"] * 0.4, "y": box["height"] * 0.3})
    found, _ = explained("chelsea.png", "gradcam")
    value = float(found.maps()[0, int(0.3 * 224), int(0.4 * 224)])
    shown = float(tile(page, "row0.gradcam").locator(".reading").inner_text())
    assert shown == pytest.approx(value, rel=0.1)
    expect(tile(page, "row0").locator(".reading")).to_have_text(re.compile(r"RGB \d+ \d+ \d+"))
    assert page.locator(".cross:visible").count() == 3
    canvas.focus()
    canvas.press("ArrowDown")
    expect(page.locator(".sr").first).to_contain_text("Grad-CAM")
    page.mouse.move(5, 5)
    canvas.press("Escape")
    assert page.locator(".cross:visible").count() == 0


def test_methods_come_and_go(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    choose_method(page, "HiResCAM")
    expect_done(page, "row0.hirescam")
    choose_method(page, "Saliency")
    expect(tile(page, "row0.saliency")).to_have_count(0)
    expect_done(page, "row0.gradcam", "row0.hirescam")


def test_a_click_on_a_class_explains_it(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    before = pixels(page, "row0.gradcam")
    second = page.locator(".net .bar").nth(2)
    label = second.locator(".label").inner_text()
    second.click()
    expect(tile(page, "row0.gradcam").locator(".klass")).to_contain_text(f"for {label},")
    expect(page.locator(".net .bar.chosen .label")).to_have_text(label)
    settle(page)
    assert (pixels(page, "row0.gradcam") != before).any()


def test_a_class_is_found_by_name(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    box = page.locator(".st-key-mc_target input")
    box.click()
    box.fill("goldfish")
    page.get_by_role("option", name="goldfish (1)").click()
    expect(tile(page, "row0.gradcam").locator(".klass")).to_contain_text("for goldfish")
    expect(page.locator(".net .bar.chosen .label")).to_contain_text("goldfish (place ")


def test_a_slow_method_says_its_cost_and_can_be_cancelled(server: AppServer, page: Page) -> None:
    open_comparison(page, server, "method=gradcam,rise&param.rise.masks=4000")
    rise = tile(page, "row0.rise")
    expect(rise).to_have_attribute("data-state", "held", timeout=60_000)
    expect(rise).to_contain_text(re.compile(r"4,0\d\d forward passes, about \d+ (s|min)"))
    expect_done(page, "row0.gradcam")
    rise.get_by_role("button", name="Run it").click()
    expect(rise).to_have_attribute("data-state", "running")
    expect(rise).to_contain_text(re.compile(r"\d+ %.*left"), timeout=60_000)
    expect(page.get_by_test_id("stProgress")).to_be_visible()
    screenshot_now(page, "comparison-working")
    page.locator(".modes label", has_text="Map").click()  # another control meanwhile: the same job goes on
    expect(rise).to_have_attribute("data-state", "running")
    page.locator(".st-key-mc_cancel button").click()
    expect(rise).to_have_attribute("data-state", "stopped")
    expect_done(page, "row0.gradcam")
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    rise.get_by_role("button", name="Run it again").click()
    expect(rise).to_have_attribute("data-state", "running")
    rise.get_by_role("button", name="Cancel").click()
    expect(rise).to_have_attribute("data-state", "stopped")
    settle(page)


def screenshot_now(page: Page, name: str) -> None:
    """A picture of a page that does not settle."""
    import os

    folder = os.environ.get("OLHAR_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_bundle_holds_what_is_shown(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam", "row0.saliency")
    page.get_by_role("tab", name="Save and share").click()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download the finished maps").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(caught.value.path()).read_bytes()))
    manifest = json.loads(archive.read("manifest.json"))
    assert "report.html" in archive.namelist()
    assert manifest["command"].startswith("python -m xai explain sample:chelsea")
    (image,) = manifest["images"]
    (model,) = image["models"]
    assert [entry["method"] for entry in model["explanations"]] == ["gradcam", "saliency"]
    array = np.load(io.BytesIO(archive.read(model["explanations"][0]["files"]["array"])))
    found, _ = explained("chelsea.png", "gradcam")
    assert array.squeeze() == pytest.approx(found.values[0].numpy(), rel=1e-4, abs=1e-6)


def test_one_tile_is_saved(server: AppServer, page: Page) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    with page.expect_download() as caught:
        tile(page, "row0.gradcam").get_by_role("button", name="Download this tile as PNG").click()
    assert caught.value.suggested_filename.startswith("chelsea.png-efficientnet_lite0-gradcam")
    saved = load_image(Path(caught.value.path()))
    assert saved.width == 448
    assert saved.height > 448  # its title and scale stand below


@pytest.mark.parametrize("kind", ["text", "cut", "empty"])
def test_bad_files_are_one_sentence(server: AppServer, page: Page, tmp_path: Path, kind: str) -> None:
    photograph = (SAMPLES / "china.jpg").read_bytes()
    name, data, told = {
        "text": ("text.png", b"no picture", "Text.png is not an image that can be read here"),
        "cut": ("cut.jpg", photograph[: len(photograph) // 2], "Cut.jpg is a damaged JPEG file"),
        "empty": ("empty.png", b"", "Empty.png is empty (0 bytes)"),
    }[kind]
    file = tmp_path / name
    file.write_bytes(data)
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    before = pixels(page, "row0.gradcam")
    page.locator("[class*='st-key-mc_upload_'] input[type=file]").set_input_files(file)
    sentence = page.get_by_test_id("stAlert").get_by_test_id("stMarkdownContainer")
    expect(sentence).to_contain_text(told)
    assert "\n" not in sentence.inner_text().strip()
    settle(page)
    assert (pixels(page, "row0.gradcam") == before).all()
    expect(page.locator(".picker .caption")).to_contain_text("chelsea.png")
    screenshot(page, f"comparison-bad-{kind}")


def test_a_copied_link_restores_the_choices(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    open_comparison(page, server, "image=coffee&method=gradcam,layercam")
    expect_done(page, "row0.gradcam")
    page.locator(".net .bar").nth(1).click()
    settle(page)
    page.locator("select.colors").select_option("magma")
    settle(page)
    page.get_by_role("tab", name="Save and share").click()
    address = page.get_by_test_id("stCode").first.inner_text().strip()
    label = page.locator(".net .bar.chosen .label").inner_text()
    wanted = pixels(page, "row0.layercam")

    other = new_page()
    visit(other, address)
    expect_done(other, "row0.gradcam", "row0.layercam")
    assert other.locator(".net .bar.chosen .label").inner_text() == label
    assert other.locator("select.colors").input_value() == "magma"
    assert (pixels(other, "row0.layercam") == wanted).all()


def test_two_people_at_once_get_their_own_results(server: AppServer, new_page: NewPage) -> None:
    one, two = new_page(), new_page()
    one.goto(f"{server.url}/method_comparison?image=chelsea&method=gradcam,smoothgrad")
    two.goto(f"{server.url}/method_comparison?image=flower&method=gradcam,guided_backprop")
    for _ in range(2):
        one.locator('[data-sample="rocket"]').click()
        two.locator('[data-sample="coffee"]').click()
    for page, name in ((one, "rocket.jpg"), (two, "coffee.png")):
        settle(page)
        expect(page.locator(".picker .caption")).to_contain_text(name)
        expect_done(page, "row0.gradcam")
        _, wanted = explained(name, "gradcam")
        difference = np.abs(pixels(page, "row0.gradcam").astype(int) - wanted.astype(int))
        assert np.percentile(difference, 99) <= 1, name
    expect(tile(two, "row0.smoothgrad")).to_have_count(0)
    expect(tile(one, "row0.guided_backprop")).to_have_count(0)


def test_random_weights_are_marked_on_every_tile(server: AppServer, page: Page) -> None:
    open_comparison(page, server, f"model=mobilenet_v3_large@random:0,efficientnet_lite0&{QUICK}")
    expect_done(page, "row0", "row0.gradcam", "row0.saliency", "row1", "row1.gradcam")
    assert page.locator(".mark:visible").count() == 3
    expect(tile(page, "row1.gradcam").locator(".mark")).to_be_hidden()
    expect(page.locator(".net .random")).to_have_count(1)
    expect(page.get_by_test_id("stSidebar")).to_contain_text("MobileNetV3-Large random")
    screenshot(page, "comparison-random", whole=True)


def test_choices_survive_a_visit_to_another_page(server: AppServer, page: Page, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    shutil.copy(SAMPLES / "chelsea.png", mine)
    open_comparison(page, server)
    page.locator("[class*='st-key-mc_upload_'] input[type=file]").set_input_files(mine)
    expect(page.locator(".picker .caption")).to_contain_text("mine.png")
    choose_method(page, "HiResCAM")
    expect_done(page, "row0.hirescam")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Start").click()
    expect(page.locator("h1")).to_have_text("What does an image classifier look at?")
    settle(page)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Method comparison").click()
    expect(page.locator(".picker .caption")).to_contain_text("mine.png")
    expect_done(page, "row0.hirescam")


@pytest.mark.parametrize("name", ["Do they agree?", "Layer explorer", "Does the class matter?"])
def test_panels_show_their_maps(server: AppServer, page: Page, name: str) -> None:
    open_comparison(page, server)
    expect_done(page, "row0.gradcam")
    page.get_by_role("tab", name=name).click()
    settle(page)
    if name == "Do they agree?":
        expect(page.get_by_test_id("stPlotlyChart")).to_be_visible()
    elif name == "Layer explorer":
        sizes = page.locator('.tile[data-slot^="stage"] .title b').all_inner_texts()
        assert len(sizes) >= 4
        assert sizes[-1].endswith("default")
        assert {size.split(" ·")[0] for size in sizes} >= {"112 × 112", "56 × 56", "28 × 28", "14 × 14", "7 × 7"}
    else:
        expect_done(page, "class.guided_backprop.1", "class.guided_backprop.2", "class.gradcam.2")
        expect(page.get_by_text("Guided backprop hardly depends on the class here")).to_be_visible()
    screenshot(page, f"comparison-{name.split()[0].lower()}-{name.split()[-1].strip('?')}", whole=True)


def test_the_randomisation_check_runs_on_request(server: AppServer, page: Page) -> None:
    open_comparison(page, server, "method=gradcam")
    expect_done(page, "row0.gradcam")
    page.get_by_role("tab", name="Do the weights matter?").click()
    settle(page)
    assert page.locator('.tile[data-slot^="sanity"]').count() == 0
    page.get_by_role("button", name="Run the check").click()
    expect(page.get_by_text("the map changes when the weights are shuffled")).to_be_visible(timeout=90_000)
    expect_done(page, "sanity0", "sanity1")
    settle(page)
    screenshot(page, "comparison-weights", whole=True)
