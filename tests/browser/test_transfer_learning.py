"""The transfer page in a real browser: a result at once, an error explained, the threshold, both widths and themes."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, WIDE, AppServer, expect, low_contrast, overflow, screenshot, serve, settle
from tests.unit.transfer_helpers import RECIPE, request_for, two_brightnesses
from xai.runs.files import Launch
from xai.runs.folder import RunFolder
from xai.studies.transfer.train import train


def opened(page: Page, server: AppServer, tab: str = "") -> None:
    page.goto(f"{server.url}/transfer_learning")
    expect(page.get_by_role("heading", name="Transfer learning")).to_be_visible()
    settle(page)
    if tab:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        settle(page)


@pytest.mark.parametrize(("colour", "size"), [("light", WIDE), ("dark", NARROW)], ids=["light wide", "dark narrow"])
def test_it_opens_with_curves_that_fit(
    server: AppServer, new_page: NewPage, colour: str, size: tuple[int, int]
) -> None:
    page = new_page(colour=colour, size=size)
    opened(page, server)
    expect(page.locator(".st-key-tl_chart_accuracy .js-plotly-plot")).to_be_visible()
    expect(page.get_by_text("synthetic images").first).to_be_visible()
    assert overflow(page) <= 0
    assert low_contrast(page) == []
    screenshot(page, f"transfer-{colour}", whole=True)


def test_an_error_is_explained_and_the_list_goes_home(server: AppServer, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page()
    opened(page, server, "Review")
    tiles = page.locator("[class*='st-key-tl_tile_']")
    count = tiles.count()
    assert count >= 2
    key = tiles.nth(1).locator("img").get_attribute("alt") or ""
    tiles.nth(1).get_by_role("button").click()
    expect(page.get_by_role("heading", name=key.split(":")[0])).to_be_visible()
    settle(page)
    expect(page.get_by_text("Grad-CAM: ").first).to_be_visible()  # it is made off the script's thread
    with page.expect_download() as got:
        page.locator(".st-key-tl_export button").click()
    file = tmp_path / "review.zip"
    got.value.save_as(file)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    assert "review.csv" in names
    assert len(names) == count + 1


def test_training_continues_after_a_review_with_the_epochs_on_the_screen(new_page: NewPage, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    request = request_for(two_brightnesses(tmp_path / "data"), recipe=replace(RECIPE, epochs=2))
    folder = tmp_path / "runs" / "train-1"
    train(request, folder, device="cpu")
    words = ("train", request.data, "--model", "simple_cnn", "--weights", "random:0", "--head", "study4")
    words += ("--batch", "4", "--seed", "1", "--epochs", "2")
    RunFolder(folder).set_launch(Launch("train", "Mine", words, str(tmp_path), asked=1.0))
    with serve(tmp_path) as own:
        page = new_page()
        opened(page, own, "Review")
        page.get_by_role("tab", name="Curves").click()
        field = page.locator(".st-key-tl_more_train-1 input")
        expect(field).to_be_visible()
        field.click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type("40")
        page.locator(".st-key-tl_learn_on_train-1 button").click()
        expect(page.get_by_text("42 epochs")).to_be_visible()
        settle(page)
        assert RunFolder(folder).summary()["recipe"]["epochs"] == 42
        assert page.get_by_test_id("stException").count() == 0
        page.close()
