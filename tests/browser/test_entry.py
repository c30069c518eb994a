"""The way in: the entry page, the navigation, addresses opened first of all, both themes, and a telephone's width."""

from __future__ import annotations

import ast
import http.client
import tomllib
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import NewPage
from tests.browser.helpers import (
    NARROW,
    ROOT,
    WIDE,
    AppServer,
    expect,
    low_contrast,
    overflow,
    screenshot,
    settle,
    visit,
)


@dataclass(frozen=True)
class Entry:
    """A page as the entry file lists it; the default page's address is the bare one."""

    slug: str
    title: str
    default: bool

    @property
    def path(self) -> str:
        return "/" if self.default else f"/{self.slug}"


def listed() -> list[Entry]:
    """The `Page(file, title, ...)` entries of streamlit_app.py, read from its source: it runs in a server only."""
    tree = ast.parse((ROOT / "streamlit_app.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    calls = sorted((call for call in calls if call.func.id == "Page"), key=lambda call: call.lineno)  # type: ignore[attr-defined]
    entries = []
    for call in calls:
        file, title = (ast.literal_eval(argument) for argument in call.args[:2])
        default = any(k.arg == "default" and ast.literal_eval(k.value) for k in call.keywords)
        entries.append(Entry(file.removeprefix("pages/").removesuffix(".py"), title, default))
    return entries


PAGES = listed()
DEEP = [entry for entry in PAGES if not entry.default]
EVERY = pytest.mark.parametrize("entry", PAGES, ids=[entry.slug for entry in PAGES])


def navigation(page: Page) -> list[str]:
    """The titles in the sidebar, as they are read."""
    links = page.get_by_test_id("stSidebarNav").get_by_role("link")
    return [link.inner_text().strip().splitlines()[-1].strip() for link in links.all()]


def arrived(page: Page, server: AppServer, entry: Entry) -> None:
    """The page is there: its address, its mark in the sidebar, a heading. What it computes may still be under way."""
    expect(page).to_have_url(server.url + entry.path)
    marked = page.get_by_test_id("stSidebarNav").locator("a[aria-current='page']")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text(entry.title)
    expect(page.locator("h1").first).to_be_visible()
    assert page.get_by_text("Page not found").count() == 0


def choose(page: Page, server: AppServer, entry: Entry) -> None:
    """Go to a page by the sidebar."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=entry.title, exact=True).click()
    arrived(page, server, entry)


def test_every_page_file_is_listed() -> None:
    assert sorted(entry.slug for entry in PAGES) == sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    assert [entry.default for entry in PAGES].count(True) == 1


def test_the_entry_page_leads_to_every_other(server: AppServer, page: Page) -> None:
    visit(page, server.url)
    arrived(page, server, PAGES[0])
    expect(page).to_have_title("Olhar")
    for entry in DEEP:
        page.get_by_test_id("stMain").get_by_role("link", name=entry.title).first.click()
        arrived(page, server, entry)
        page.go_back()
        arrived(page, server, PAGES[0])


def test_every_page_is_reached_by_the_sidebar(server: AppServer, page: Page) -> None:
    visit(page, server.url)
    for entry in [*PAGES, PAGES[0]]:
        choose(page, server, entry)
        assert navigation(page) == [each.title for each in PAGES]
        assert page.get_by_test_id("stSidebarNav").count() == 1


@pytest.mark.parametrize("entry", DEEP, ids=[entry.slug for entry in DEEP])
def test_an_address_opened_first_of_all_shows_its_page(
    fresh_server: AppServer, new_page: NewPage, entry: Entry
) -> None:
    """Streamlit runs a page's file without the entry file for the very first visitor of a server."""
    page = new_page()
    page.goto(fresh_server.url + entry.path)
    arrived(page, fresh_server, entry)
    expect(page).to_have_title("Olhar")
    assert navigation(page) == [each.title for each in PAGES]
    assert page.get_by_test_id("stSidebarNav").count() == 1
    first = page.locator("h1").first.inner_text()

    choose(page, fresh_server, PAGES[0])
    expect(page.locator("h1").first).not_to_have_text(first)
    choose(page, fresh_server, entry)
    expect(page.locator("h1").first).to_have_text(first)

    second = new_page()
    second.goto(fresh_server.url + entry.path)
    arrived(second, fresh_server, entry)
    expect(second.locator("h1").first).to_have_text(first)
    assert navigation(second) == [each.title for each in PAGES]


@EVERY
@pytest.mark.parametrize("colour", ["light", "dark"])
def test_pages_fit_and_can_be_read(server: AppServer, new_page: NewPage, entry: Entry, colour: str) -> None:
    page = new_page(colour=colour, size=NARROW)
    visit(page, server.url + entry.path)
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][colour]
    channels = ", ".join(str(int(theme["backgroundColor"][i : i + 2], 16)) for i in (1, 3, 5))
    expect(page.get_by_test_id("stApp")).to_have_css("background-color", f"rgb({channels})")
    for name, (width, height) in (("narrow", NARROW), ("wide", WIDE)):
        page.set_viewport_size({"width": width, "height": height})
        settle(page)
        screenshot(page, f"{entry.slug}-{colour}-{name}", whole=True)
        assert overflow(page) == 0
        assert low_contrast(page) == []


def test_on_a_telephone_the_sidebar_opens_and_leads_on(server: AppServer, new_page: NewPage) -> None:
    page = new_page(size=NARROW)
    visit(page, server.url)
    expect(page.locator("h1").first).to_be_in_viewport()
    page.get_by_test_id("stExpandSidebarButton").click()
    settle(page)
    choose(page, server, DEEP[0])
    assert overflow(page) == 0


@pytest.mark.parametrize(
    "path",
    ["/", "/metric_curves", "/_stcore/health", "/_stcore/host-config", "/_stcore/upload_file/a/b", "/media/a.png"],
)
def test_a_foreign_host_name_is_refused_at_every_address(server: AppServer, path: str) -> None:
    """As a page elsewhere would ask whose name was made to lead to this machine."""
    for method in ("GET", "PUT", "OPTIONS"):
        own, foreign = (_status(server, method, path, host) for host in ("localhost", "evil.example"))
        assert foreign == 400, (method, path)
        assert own != 400, (method, path)


def _status(server: AppServer, method: str, path: str, host: str) -> int:
    at = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=20)
    connection.request(method, path, headers={"Host": f"{host}:{at.port}"})
    status = connection.getresponse().status
    connection.close()
    return status
