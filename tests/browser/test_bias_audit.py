"""The bias audit in a browser: the finding on opening, the slider, a picture of what was swapped; dark and narrow."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, AppServer, low_contrast, overflow, screenshot, settle


def opened(page: Page, server: AppServer) -> None:
    page.goto(f"{server.url}/bias_audit")
    expect(page.get_by_text("Where the explanation lies, against chance")).to_be_visible(timeout=120_000)
    settle(page)


def test_opens_with_the_finding_and_moves_along_rho(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    opened(page, server)
    expect(page.get_by_role("heading", name="Decides by fur colour: flips in")).to_be_visible()
    wrong = page.get_by_text(re.compile(r"^wrong: dog \d+%$"))
    assert wrong.count() >= 5
    screenshot(page, "bias-finding", whole=True)
    pairs = page.locator(".st-key-ba_pairs")
    before = pairs.get_by_role("img").first.get_attribute("src")
    page.get_by_role("radio", name="shape (all four parts)").or_(
        page.get_by_role("button", name="shape (all four parts)")
    ).first.click()
    settle(page)
    assert pairs.get_by_role("img").first.get_attribute("src") != before
    page.get_by_role("tab", name="rho slider").click()
    settle(page)
    slider = page.locator(".st-key-ba_rho [role=slider], .st-key-ba_rho input[type=range]").first
    expect(page.get_by_text("At rho = 0.9")).to_be_visible()
    slider.focus()
    for _ in range(4):
        slider.press("ArrowLeft")
        settle(page)
    expect(page.get_by_text("At rho = 0.5")).to_be_visible()
    assert page.get_by_text(re.compile("Decides by shape, not by fur colour")).count() >= 1
    screenshot(page, "bias-rho", whole=True)


def test_dark_and_narrow(server: AppServer, new_page: NewPage) -> None:
    page = new_page(colour="dark", size=NARROW)
    opened(page, server)
    assert overflow(page) == 0
    assert low_contrast(page) == []
    screenshot(page, "bias-dark-narrow", whole=True)
