"""The method comparison in a real browser: what is saved, refused, linked and kept, and the panels below the maps."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.comparison_helpers import (
    QUICK,
    SAMPLES,
    choose_method,
    expect_done,
    explained,
    open_comparison,
    pixels,
    tile,
)
from tests.browser.conftest import NewPage
from tests.browser.helpers import AppServer, expect, screenshot, settle, visit
from xai import load_image


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
    expect(page.get_by_text("the map changes when the weights are shuffled")).to_be_visible()
    expect_done(page, "sanity0", "sanity1")
    settle(page)
    screenshot(page, "comparison-weights", whole=True)
