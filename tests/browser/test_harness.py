"""The harness itself: it waits long enough, drops real files, and sees every kind of fault."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import helpers
from tests.browser.conftest import NewPage
from tests.browser.helpers import (
    NOTE_ACTIVITY,
    ROOT,
    AppServer,
    Watch,
    drop_file,
    expect,
    low_contrast,
    overflow,
    serve,
    settle,
    unexpected,
    visit,
)

APP = """
import hashlib, time
import streamlit as st

st.title("Small app")
if st.button("Slow", key="slow"):
    time.sleep(0.6)
    st.write("done after a while")
file = st.file_uploader("File", key="up")
if file is not None:
    st.write(f"{file.name} {file.type} {hashlib.sha256(file.getvalue()).hexdigest()}")
if st.button("Wide", key="wide"):
    st.html("<div style='width: 3000px'>wide</div>")
if st.button("Pale", key="pale"):
    st.html("<p style='color: #999'>pale words</p><p style='opacity: .4'>faint words</p><p>good words</p>")
if st.button("Work", key="work"):
    place = st.empty()
    for turn in range(20):
        place.write(f"{turn} of 20")
        time.sleep(0.1)
    st.write("worked")
if st.button("Raise", key="raise"):
    st.exception(ValueError("shown on purpose"))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")  # served as the app is: no usage statistics
    (folder / "app.py").write_text(APP)
    with serve(folder, folder / "app.py") as running:
        yield running


def test_settle_waits_for_the_rerun_that_a_click_asks_for(small: AppServer, page: Page) -> None:
    visit(page, small.url)
    page.locator(".st-key-slow button").click()
    settle(page)
    assert page.get_by_text("done after a while").count() == 1  # counted now, without Playwright's own waiting


def test_a_dropped_file_arrives_byte_for_byte(small: AppServer, page: Page, tmp_path: Path) -> None:
    sent = tmp_path / "noise.png"
    sent.write_bytes(os.urandom(100_000))
    visit(page, small.url)
    drop_file(page, page.get_by_test_id("stFileUploaderDropzone"), sent)
    expect(page.get_by_text(f"noise.png image/png {hashlib.sha256(sent.read_bytes()).hexdigest()}")).to_be_visible()


def test_a_wait_goes_on_while_something_moves_and_no_longer(
    small: AppServer, page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(helpers, "STILL", 0.5)
    monkeypatch.setenv("OLHAR_SCREENSHOTS", str(tmp_path))
    page.goto(small.url)
    settle(page)
    page.locator(".st-key-work button").click()
    expect(page.get_by_text("worked")).to_be_visible()
    with pytest.raises(AssertionError, match="nothing moved") as failure:
        expect(page.get_by_text("never there")).to_be_visible()
    assert str(small.log) in str(failure.value)
    [picture] = tmp_path.glob("failure-*.png")
    assert f"at {page.url}, shown in {picture}" in str(failure.value)


def test_overflow_is_seen(small: AppServer, page: Page) -> None:
    visit(page, small.url)
    assert overflow(page) == 0
    page.locator(".st-key-wide button").click()
    settle(page)
    assert overflow(page) > 1000


@pytest.mark.parametrize("colour", ["light", "dark"])
def test_pale_text_is_seen(small: AppServer, new_page: NewPage, colour: str) -> None:
    page = new_page(colour=colour)
    visit(page, small.url)
    assert low_contrast(page) == []
    page.locator(".st-key-pale button").click()
    settle(page)
    told = [text.split('"')[1] for text in low_contrast(page)]
    assert told == (["pale words", "faint words"] if colour == "light" else ["faint words"])


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("setTimeout(() => { throw new Error('broken script') })", "page error: broken script"),
        ("console.error('bad news')", "console error: bad news"),
        ("fetch('/media/nothing.csv')", "console error: Failed to load resource"),
        (
            "document.body.append(Object.assign(new Image(), {src: '/media/a.png'}))",
            "console error: a picture is missing",
        ),
        (
            "fetch('https://example.invalid/a.js').catch(() => 0)",
            "request to another host: https://example.invalid/a.js",
        ),
        ("document.querySelector('.st-key-raise button').click()", "exception in the page: ValueError"),
    ],
)
def test_the_watch_sees_every_kind_of_fault(small: AppServer, browser: Browser, act: str, told: str) -> None:
    context = browser.new_context()
    context.add_init_script(NOTE_ACTIVITY)
    watch = Watch()
    watch.follow(context)
    page = context.new_page()
    visit(page, small.url)
    assert watch.problems(context) == []
    page.evaluate(f"() => {{ {act}; }}")
    settle(page, quiet_ms=1000)
    assert any(problem.startswith(told) for problem in watch.problems(context)), watch.problems(context)
    context.close()


def test_a_picture_taken_away_while_it_loads_is_not_missed(small: AppServer, new_page: NewPage) -> None:
    page = new_page()
    visit(page, small.url)
    page.evaluate(
        """() => {
          const picture = Object.assign(new Image(), {src: '/media/a.png'});
          document.body.append(picture);
          picture.addEventListener('error', () => setTimeout(() => picture.remove(), 100));
        }"""
    )
    settle(page, quiet_ms=1000)


def test_nothing_of_the_server_is_left(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import streamlit as st\nst.write('hello')\n")
    with serve(tmp_path, tmp_path / "app.py") as running:
        assert urllib.request.urlopen(f"{running.url}/_stcore/health").status == 200
    time.sleep(0.1)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{running.url}/_stcore/health")
    port = running.url.rsplit(":", 1)[1]
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"--server.port {port}" not in listed


def test_a_traceback_in_the_log_fails(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import streamlit as st\n")

    def run() -> None:
        with serve(tmp_path, tmp_path / "app.py") as running, running.log.open("a") as log:
            log.write("Traceback (most recent call last)")

    with pytest.raises(AssertionError, match="holds a traceback"):
        run()


def test_a_browser_that_left_is_no_fault() -> None:
    begin, frame = "Traceback (most recent call last):", '  File "a.py", line 1, in f'
    left = "starlette.websockets.WebSocketDisconnected: Cannot call send"
    between = ["", "During handling of the above exception, another exception occurred:", ""]
    assert unexpected("\n".join([begin, frame, left, *between, begin, frame, left, "  Stopping..."])) == []
    assert unexpected("\n".join([begin, frame, left, begin, frame, "KeyError: 1"])) == ["KeyError: 1"]
    assert unexpected(begin) == ["a traceback that was cut off"]


def test_an_app_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"the app did not start:[\s\S]*absent\.py"),
        serve(tmp_path, tmp_path / "absent.py"),
    ):
        pass
