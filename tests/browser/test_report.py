"""The bundle's report in Chromium: opens by itself, follows the system's colours, fits a phone, switches views."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.browser.conftest import NewPage
from tests.browser.helpers import expect
from xai.bundles.explanations import Bundle, Subject, write_explanations
from xai.models.classifier import Classifier
from xai.studies.comparison import Tile, compare


@pytest.fixture(scope="module")
def report(tiny: Classifier, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report with coarse, fine, coloured and refused tiles."""
    out = tmp_path_factory.mktemp("bundle")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    tiles = compare([tiny], x, ["gradcam", "saliency", "inputxgradient"]).tiles
    refused = Tile(tiny, "deconvnet", x, None, "It does not apply here.", refused=True)
    name = "a-rather-long-name-" * 6 + ".png"
    subject = Subject(name, name, "ab" * 32, (640, 480), (*tiles, refused))
    write_explanations(out, [subject], Bundle(command=f"python -m xai explain {name} --method gradcam"))
    return (Path(out) / "report.html").as_uri()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("colour", ["light", "dark"])
def test_it_fits_and_follows_the_system(new_page: NewPage, report: str, colour: str, width: int) -> None:
    page = new_page(colour=colour, size=(width, 900))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report)
    assert [address for address in asked if not address.startswith("data:")] == [report]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(242, 245, 247)", "dark": "rgb(17, 23, 28)"}[colour]
    loaded = page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
    assert loaded


def test_the_switch_changes_every_tile_without_a_script(new_page: NewPage, report: str) -> None:
    page = new_page()
    page.goto(report)
    coarse, coloured = page.locator(".tile").nth(0), page.locator(".tile.has-relief")
    expect(coarse.get_by_alt_text("Grad-CAM, overlay")).to_be_visible()
    page.locator('label[for="view-map"]').click()
    expect(coarse.get_by_alt_text("Grad-CAM, overlay")).to_be_hidden()
    expect(coarse.get_by_alt_text("Grad-CAM, map")).to_be_visible()
    page.keyboard.press("ArrowRight")  # the radio buttons take the keyboard
    expect(coloured.locator(".as-relief")).to_be_visible()
    expect(coloured.locator(".as-overlay")).to_be_hidden()
    expect(coarse.get_by_alt_text("Grad-CAM, overlay")).to_be_visible()


def test_numbers_and_command_unfold(new_page: NewPage, report: str) -> None:
    page = new_page()
    page.goto(report)
    tile = page.locator(".tile").nth(0)
    expect(tile.get_by_text("python -m xai explain")).to_be_hidden()
    tile.get_by_text("Numbers and command").click()
    expect(tile.get_by_text("python -m xai explain")).to_be_visible()
