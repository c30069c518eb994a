"""The method comparison in a real browser: pictures in, maps out, and what a person can change about them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.comparison_helpers import (
    QUICK,
    SAMPLES,
    answer,
    choose_method,
    count_messages,
    expect_done,
    explained,
    open_comparison,
    pixels,
    sent,
    tile,
)
from tests.browser.helpers import ROOT, AppServer, drop_file, expect, screenshot, settle


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
    open_comparison(page, server, "method=gradcam,inputxgradient,lrp")
    expect_done(page, "row0.gradcam", "row0.inputxgradient", "row0.lrp")

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
    alone = pixels(page, "row0.gradcam")
    together = [pixels(page, f"row0.{name}") for name in ("inputxgradient", "lrp")]
    page.locator("select.scale").select_option("shared")
    settle(page)
    shared = [pixels(page, f"row0.{name}") for name in ("inputxgradient", "lrp")]
    assert any((one != other).any() for one, other in zip(together, shared, strict=True))  # the weaker one pales
    assert (pixels(page, "row0.gradcam") == alone).all()  # no other map is in its unit
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
    shown = float(as_written(tile(page, "row0.gradcam").locator(".reading").inner_text()))
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
    expect(rise).to_have_attribute("data-state", "held")
    expect(rise).to_contain_text(re.compile(r"4,0\d\d forward passes, about \d+ (s|min)"))
    expect_done(page, "row0.gradcam")
    rise.get_by_role("button", name="Run it").click()
    expect(rise).to_have_attribute("data-state", "running")
    expect(rise).to_contain_text(re.compile(r"\d+ %.*left"))
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


def as_written(text: str) -> str:
    """A number of the page as Python reads it: "3.9e-7" for 3.9 times a power of ten."""
    powers = str.maketrans("\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "-0123456789")
    return re.sub(r"\s\u00d7\s10", "e", text).translate(powers)


def test_very_small_and_large_values_are_written_as_people_write_them(page: Page) -> None:
    page.add_script_tag(path=str(ROOT / "xai" / "ui" / "frontend" / "bus.js"))
    shown = page.evaluate("[3.9e-7, -3.9e-7, 0, 0.25, 12345, 1.24e-12, 0.0012].map(number)")
    assert shown == [
        "3.9\u00a0\u00d7\u00a010\u207b\u2077",
        "-3.9\u00a0\u00d7\u00a010\u207b\u2077",
        "0",
        "0.25",
        "1.2\u00a0\u00d7\u00a010\u2074",
        "1.2\u00a0\u00d7\u00a010\u207b\u00b9\u00b2",
        "0.0012",
    ]
    assert [float(as_written(text)) for text in shown] == [3.9e-7, -3.9e-7, 0, 0.25, 12000, 1.2e-12, 0.0012]
    assert page.evaluate("[0.9999, 0.5, 0.05, 0.00123, 3.9e-7].map(percent)") == [
        "100 %",
        "50 %",
        "5.0 %",
        "0.12 %",
        "< 0.01 %",
    ]
