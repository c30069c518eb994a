"""The app in a real browser: a server, Chromium, and pages whose every error fails the test."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Playwright is a development requirement; without it the folder cannot be collected, and pytest says so.
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.helpers import (
    CHROMIUM_FLAGS,
    LONGEST,
    NOTE_ACTIVITY,
    WIDE,
    AppServer,
    Watch,
    find_chromium,
    report,
    serve,
)

NewPage = Callable[..., Page]
HERE = Path(__file__).parent

ACTION = 240_000
"""Milliseconds that one action of a test may take: a busy machine is slow, and waiting costs only where it is wrong."""


def pytest_configure() -> None:
    """Being terminated (a job's time limit) becomes an interrupt, so that servers and browsers are still ended."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder: first with workers, since their files take longest; else after the fast tests."""
    mine = [item for item in items if HERE in item.path.parents]
    others = [item for item in items if HERE not in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.timeout(2 * LONGEST))
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    items[:] = [*mine, *others] if parallel else [*others, *mine]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app, served once for all tests of a session (with workers, of each of them)."""
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[AppServer]:
    """A server that nobody has visited yet."""
    with serve(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless, with a new profile; missing it skips the test, except in CI, where it fails."""
    path = find_chromium()
    if path is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, headless=True, args=list(CHROMIUM_FLAGS))
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens pages of new visitors: `new_page(colour="dark", size=NARROW)`. Afterwards all of them must be clean.

    Clean: no page error, no console error, no request to another host, no exception shown.
    """
    opened: list[tuple[BrowserContext, Watch]] = []

    def make(colour: str = "light", size: tuple[int, int] = WIDE, **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=colour, reduced_motion="reduce", **options
        )
        context.set_default_timeout(ACTION)
        context.add_init_script(NOTE_ACTIVITY)
        watch = Watch()
        watch.follow(context)
        opened.append((context, watch))
        return context.new_page()

    yield make
    problems = []
    for context, watch in opened:
        if found := watch.problems(context):
            problems += [*found, *watch.answered[-10:], report(*context.pages)]
        context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A new visitor's page: light, 1280 x 900."""
    return new_page()
