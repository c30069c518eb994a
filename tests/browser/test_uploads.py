"""Uploads in a real browser: nothing that a person sends is lost, whatever runs at that moment."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.conftest import ACTION, NewPage
from tests.browser.helpers import NOTE_ACTIVITY, AppServer, expect, screenshot, serve, settle, visit
from xai.ui.browser import FRONTEND

VISITORS, ROUNDS = 6, 3

# A click that makes the script run; and while it runs another one, and a file given to the uploader in the same moment.
CLICK_AND_SEND = """({name, bytes}) => {
  const click = () => document.querySelector('.st-key-mc_view button[aria-checked="false"]').click();
  const send = () => {
    const carried = new DataTransfer();
    carried.items.add(new File([Uint8Array.from(bytes)], name, {type: 'image/png'}));
    const input = document.querySelector('[class*="st-key-mc_upload_"] input[type=file]');
    input.files = carried.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  };
  click();
  setTimeout(() => { click(); send(); }, 120);
}"""

CONNECTED = """() => document.querySelector('[data-testid="stApp"]').dataset.testConnectionState === 'CONNECTED'"""

# As where many people and much work keep the server busy: what it has to say waits, and runs begin in between.
BUSY = """
from streamlit.runtime import runtime
runtime.MESSAGE_FLUSH_INTERVAL_SECS = 0.4
"""


@pytest.fixture
def busy_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppServer]:
    """The app on a server that sends what it has to say late."""
    (tmp_path / "sitecustomize.py").write_text(BUSY)  # Python runs it first of all
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serve(tmp_path) as running:
        yield running


def noise(side: int = 24) -> list[int]:
    """The bytes of a picture that nobody has sent before."""
    sink = io.BytesIO()
    pixels = np.frombuffer(os.urandom(side * side * 3), np.uint8).reshape(side, side, 3)
    Image.fromarray(pixels).save(sink, "PNG")
    return list(sink.getvalue())


def test_no_upload_is_lost_where_six_people_send_one_right_after_a_click(
    busy_server: AppServer, new_page: NewPage
) -> None:
    pages: list[Page] = []
    for _ in range(VISITORS):
        page = new_page()
        page.goto(f"{busy_server.url}/method_comparison?method=center")
        pages.append(page)
    for page in pages:
        expect(page.locator('[class*="st-key-mc_upload_0"] input[type=file]')).to_have_count(1)
        settle(page)
    for turn in range(ROUNDS):
        for number, page in enumerate(pages):
            page.evaluate(CLICK_AND_SEND, {"name": f"v{number}t{turn}.png", "bytes": noise()})
        for number, page in enumerate(pages):
            expect(page.locator(".picker .caption")).to_contain_text(f"v{number}t{turn}.png")
            expect(page.locator(f'[class*="st-key-mc_upload_{turn + 1}"] input[type=file]')).to_have_count(1)


def test_a_server_that_was_restarted_says_whose_picture_is_gone(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(bytes(noise()))
    context = browser.new_context()  # of its own: that the server goes away is an error on the console
    context.add_init_script(NOTE_ACTIVITY)
    context.set_default_timeout(ACTION)
    page = context.new_page()
    with serve(tmp_path) as first:
        visit(page, f"{first.url}/method_comparison?method=center")
        page.locator('[class*="st-key-mc_upload_0"] input[type=file]').set_input_files(tmp_path / "mine.png")
        expect(page.locator(".picker .caption")).to_contain_text("mine.png")
        settle(page)
        assert page.get_by_text("choose it again").count() == 0
    with serve(tmp_path, port=int(first.url.rpartition(":")[2])):
        page.wait_for_function(CONNECTED)  # the browser tries again after a while
        page.locator(".st-key-mc_view").get_by_text("Whole picture").click()  # only now does the new server hear of it
        told = page.get_by_text("The server was restarted and no longer has your picture mine.png; choose it again.")
        expect(told).to_be_visible()
        expect(page.locator(".picker .caption")).to_contain_text("chelsea")
        screenshot(page, "restarted")
        page.reload()
        expect(told.or_(page.get_by_text("The page was loaded anew"))).to_be_visible()
        page.locator('[data-sample="coffee"]').click()
        expect(page.locator(".picker .caption")).to_contain_text("coffee")
        settle(page)
        assert page.get_by_text("choose it again").count() == 0
    context.close()


HELD = """async ([source, visits]) => {
  sessionStorage.removeItem('olhar-held');
  const held = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
  return visits.map((data) => {
    const lost = [];
    held.default({data, setTriggerValue: (name, value) => lost.push(value.now.picture)});
    return lost;
  });
}"""


@pytest.fixture
def alone(page: Page) -> Page:
    """A page that looks idle to the front end, and on which nothing else runs."""
    idle = '<div data-testid="stApp" data-test-script-state="notRunning" data-test-connection-state="CONNECTED">'
    page.route("http://127.0.0.1/", lambda route: route.fulfill(body=idle, content_type="text/html"))
    page.goto("http://127.0.0.1/")
    return page


def test_what_a_visit_held_is_remembered_until_the_next_visit_has_heard_of_it(alone: Page) -> None:
    visits = [
        {"visit": "1", "heard": "", "now": {"picture": "mine.png"}},
        {"visit": "2", "heard": "", "now": {}},  # and loaded again before it has heard of it
        {"visit": "3", "heard": "", "now": {}},
        {"visit": "3", "heard": "1", "now": {"picture": "mine.png"}},
        {"visit": "4", "heard": "", "now": {}},
        {"visit": "4", "heard": "3", "now": {}},  # another picture was taken
        {"visit": "5", "heard": "", "now": {}},
    ]
    told = alone.evaluate(HELD, [(FRONTEND / "held.js").read_text(), visits])
    assert told == [[], ["mine.png"], ["mine.png"], [], ["mine.png"], [], []]


def test_what_did_not_arrive_is_said_again_until_the_visit_has_heard_of_it(alone: Page) -> None:
    alone.evaluate(
        """async (source) => {
          window.said = [];
          const held = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
          window.mount = (data) => held.default({data, setTriggerValue: (name, value) => said.push(value.visit)});
          mount({visit: '1', heard: '', now: {picture: 'mine.png'}});
          mount({visit: '2', heard: '', now: {}});
        }""",
        (FRONTEND / "held.js").read_text(),
    )
    alone.wait_for_function("said.length === 3")
    alone.evaluate("mount({visit: '2', heard: '1', now: {}})")
    alone.wait_for_timeout(2500)
    assert alone.evaluate("said") == ["1", "1", "1"]


@pytest.mark.parametrize("fault", ["refused", "cut off"])
def test_a_file_that_does_not_reach_the_server_is_told_and_can_be_chosen_again(
    server: AppServer, browser: Browser, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "mine.png").write_bytes(bytes(noise()))
    context = browser.new_context()  # of its own: a request that fails is an error on the console
    context.add_init_script(NOTE_ACTIVITY)
    context.set_default_timeout(ACTION)
    page = context.new_page()
    page.route(
        "**/_stcore/upload_file/**",
        lambda route: route.fulfill(status=500) if fault == "refused" else route.abort(),
    )
    for address, place in (
        ("metric_curves?images=chelsea&method=center", "cu_upload_"),
        ("method_comparison?method=center", "mc_upload_"),
    ):
        visit(page, f"{server.url}/{address}")
        if place == "cu_upload_":
            page.locator(".st-key-cu_source").get_by_text("Upload", exact=True).click()
        page.locator(f'[class*="st-key-{place}"] input[type=file]').first.set_input_files(tmp_path / "mine.png")
        told = page.get_by_text("mine.png was not taken: it did not reach the server. Choose it again.")
        expect(told).to_be_visible()
    screenshot(page, "not-taken")
    page.unroute_all()
    with page.expect_file_chooser() as chosen:  # as people choose a file
        page.locator('[class*="st-key-mc_upload_"] [data-testid="stFileUploader"] button').last.click()
    chosen.value.set_files(tmp_path / "mine.png")
    expect(page.locator(".picker .caption")).to_contain_text("mine.png")
    context.close()
