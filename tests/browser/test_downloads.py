"""Downloads in a real browser: a value typed and the button pressed at once gives the file of the new value."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import ROOT, AppServer, expect, screenshot, serve, settle, visit
from tests.browser.test_clicks import fill

APP = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
import streamlit as st
from xai.errors import StorageError
from xai.ui import answers, clicks, downloads

answers.keep()
clicks.keep()
number = st.number_input("Number", 0, 99, 1, key="number")
text = st.text_input("Text", "a", key="text")
time.sleep(0.5)  # a slow page: what was drawn before still stands there

def offer(place):
    name = f"{{place}}-{{number}}-{{text}}.txt"
    downloads.button(place, lambda: f"{{number}} {{text}}", name, "text/plain", key=place)

offer("page")
with st.tabs(["A tab"])[0]:
    offer("tab")
with st.expander("More", expanded=True):
    offer("expander")

@st.fragment(run_every=1.0)
def ticking():
    offer("fragment")
ticking()

@st.fragment
def own():
    inner = st.number_input("Inner", 0, 99, 1, key="inner")
    downloads.button("inside", lambda: str(inner), f"inside-{{inner}}.txt", "text/plain", key="inside")
own()

def full():
    raise StorageError("the disk of /data is full; free some space, and go on.")

def broken():
    raise KeyError("width")

downloads.button("Full", full, "full.txt", "text/plain", key="full")
downloads.button("Broken", broken, "broken.txt", "text/plain", key="broken")
downloads.button("Even", lambda: "even", "even.txt", "text/plain", key="even", disabled=number % 2 == 1)
downloads.guard()
"""


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """An app with a download in every kind of place."""
    folder = tmp_path_factory.mktemp("downloads")
    with served(folder) as running:
        yield running


@contextmanager
def served(folder: Path) -> Iterator[AppServer]:
    (folder / "app.py").write_text(APP)
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    with serve(folder, folder / "app.py") as running:
        yield running


def press(button: Locator, how: str) -> None:
    if how == "mouse":
        button.click()
    else:
        button.press(how)


def got(page: Page, key: str, how: str = "mouse") -> tuple[str, bytes]:
    """The name and the contents of the file that a button gives."""
    with page.expect_download() as download:
        press(page.locator(f".st-key-{key} button"), how)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.mark.parametrize("how", ["mouse", "Enter", "Space"])
def test_every_place_gives_the_file_of_what_was_just_typed(
    small_server: AppServer, new_page: NewPage, how: str
) -> None:
    page = new_page()
    visit_ticking(page, small_server)
    for turn, place in enumerate(("page", "tab", "expander", "fragment"), start=2):
        fill(page, "number", str(turn))
        assert got(page, place, how) == (f"{place}-{turn}-a.txt", f"{turn} a".encode())
    fill(page, "text", how)
    assert got(page, "page", how) == (f"page-5-{how}.txt", f"5 {how}".encode())
    fill(page, "inner", "8")
    assert got(page, "inside", how) == ("inside-8.txt", b"8")


def visit_ticking(page: Page, server: AppServer) -> None:
    """Open the small app, which never settles, and wait until it is drawn to its end."""
    page.goto(server.url)
    expect(page.locator(".st-key-even button")).to_be_visible()
    page.wait_for_function("() => globalThis.__olharGuard")


def test_a_download_that_the_new_value_switches_off_gives_nothing_now_or_later(
    small_server: AppServer, new_page: NewPage
) -> None:
    page = new_page()
    visit_ticking(page, small_server)
    files: list[str] = []
    page.on("download", lambda file: files.append(file.suggested_filename))
    button = page.locator(".st-key-even button")
    fill(page, "number", "2")
    page.keyboard.press("Tab")
    expect(button).to_be_enabled()
    fill(page, "number", "3")
    button.click()
    expect(button).to_be_disabled()
    page.wait_for_function("() => !globalThis.__olharGuard.held.size")
    fill(page, "number", "4")
    page.keyboard.press("Tab")
    expect(button).to_be_enabled()
    assert got(page, "page") == ("page-4-a.txt", b"4 a")
    assert files == ["page-4-a.txt"]


def test_a_file_that_cannot_be_made_is_told_with_its_reason(tmp_path: Path, new_page: NewPage) -> None:
    page = new_page()
    with pytest.raises(AssertionError, match="the server's log holds a traceback"):  # for those who look after it
        _press_what_fails(page, tmp_path)


def _press_what_fails(page: Page, folder: Path) -> None:
    with served(folder) as running:
        visit_ticking(page, running)
        page.locator(".st-key-full button").click()
        full = "“Full” was not made: the disk of /data is full; free some space, and go on."
        expect(page.get_by_test_id("stToast").filter(has_text=full)).to_be_visible()
        page.locator(".st-key-broken button").click()
        broken = "“Broken” was not made (KeyError: 'width'); the server's log tells more."
        expect(page.get_by_test_id("stToast").filter(has_text=broken)).to_be_visible()
        assert got(page, "page") == ("page-1-a.txt", b"1 a")  # others go on
        page.goto("about:blank")  # that the server goes away is no error of the page


def test_an_animation_is_of_the_seeds_on_the_screen(server: AppServer, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{server.url}/gan_augmentation")
    expect(page.locator(".frames[data-index]")).to_have_count(2)
    settle(page)
    before = got(page, "ga_gif")
    fill(page, "ga_from", "3")
    name, animation = got(page, "ga_gif")
    assert before[0].endswith("-0-1.gif")
    assert name == before[0].replace("-0-1.gif", "-3-1.gif")
    assert animation != before[1]
    settle(page)
    assert got(page, "ga_gif") == (name, animation)  # as when nobody hurries


def test_a_note_typed_just_before_is_in_the_exported_list(server: AppServer, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page()
    visit(page, f"{server.url}/transfer_learning")
    page.get_by_role("tab", name="Review").click()
    note = page.locator("[class*='st-key-tl_note'] input").first
    expect(note).to_be_visible()
    settle(page)
    note.click()
    page.keyboard.type("a dark corner")
    _, packed = got(page, "tl_export", "Enter")
    (tmp_path / "review.zip").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "review.zip") as archive:
        assert "a dark corner" in archive.read("review.csv").decode()
    screenshot(page, "review-exported")
