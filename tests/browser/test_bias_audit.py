"""The bias audit in a browser: the finding on opening, the slider, a picture of what was swapped; dark and narrow."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import NARROW, AppServer, expect, low_contrast, overflow, screenshot, settle


def opened(page: Page, server: AppServer) -> None:
    page.goto(f"{server.url}/bias_audit")
    expect(page.get_by_text("Where the explanation lies, against chance")).to_be_visible()
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
    page.get_by_role("tab", name="New run").click()
    seed = page.locator(".st-key-ba_new_seed input")
    seed.fill("7")
    seed.press("Enter")
    settle(page)
    page.get_by_role("tab", name="rho slider").click()
    settle(page)
    page.get_by_role("tab", name="New run").click()
    settle(page)
    expect(seed).to_have_value("7")  # what was filled in outlives a look at another tab


def test_dark_and_narrow(server: AppServer, new_page: NewPage) -> None:
    page = new_page(colour="dark", size=NARROW)
    opened(page, server)
    assert overflow(page) == 0
    assert low_contrast(page) == []
    screenshot(page, "bias-dark-narrow", whole=True)


def test_a_box_is_drawn_by_mouse_keyboard_and_finger(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    opened(page, server)
    page.get_by_role("tab", name="Your own data").click()
    frame = page.locator(".st-key-ba_box .frame")
    expect(frame).to_have_attribute("aria-label", "Box from 25 to 75 % across, from 20 to 90 % down")
    settle(page)
    area = page.locator(".st-key-ba_box .stage")
    area.scroll_into_view_if_needed()
    drawn(page, area, (0.6, 0.8), (0.1, 0.3))
    expect(frame).to_have_attribute("aria-label", "Box from 10 to 60 % across, from 30 to 80 % down")
    expect(page.locator(".st-key-ba_across")).to_contain_text("60 %")  # the sliders follow
    settle(page)
    frame.focus()
    frame.press("ArrowRight")
    frame.press("Shift+ArrowUp")
    expect(page.locator(".st-key-ba_across")).to_contain_text("61 %")
    expect(page.locator(".st-key-ba_down")).to_contain_text("79 %")
    settle(page)
    screenshot(page, "bias-own", whole=True)
    area.scroll_into_view_if_needed()
    start, end = points(area, (0.2, 0.2), (0.9, 0.5))
    touch = page.context.new_cdp_session(page)
    for kind, place in (("touchStart", start), ("touchMove", end), ("touchEnd", None)):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place] if place else []})
    expect(frame).to_have_attribute("aria-label", "Box from 20 to 90 % across, from 20 to 50 % down")
    expect(page.locator(".st-key-ba_across")).to_contain_text("90 %")
    settle(page)
    assert overflow(page) == 0


def points(area: Locator, *shares: tuple[float, float]) -> list[dict[str, float]]:
    """Places in the window of shares of an element's sides."""
    box = area.bounding_box()
    assert box is not None
    return [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in shares]


def drawn(page: Page, area: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    first, last = points(area, start, end)
    page.mouse.move(first["x"], first["y"])
    page.mouse.down()
    page.mouse.move(last["x"], last["y"], steps=4)
    page.mouse.up()
