"""A run in the browser: begun in a page, it outlives page, tab and server, and anybody can stop it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import NewPage
from tests.browser.helpers import expect, overflow, serve, visit
from tests.dummy.command import ended, offered, wait_for
from xai.runs.control import list_runs


def test_a_run_outlives_page_tab_and_server_and_anybody_stops_it(
    new_page: NewPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with offered(monkeypatch, tmp_path):
        with serve(tmp_path) as server:
            page = new_page()
            visit(page, f"{server.url}/runs")
            page.get_by_role("button", name="Begin an example").click()
            badge = page.locator(".stMarkdownBadge").first
            expect(badge).to_contain_text("running")
            page.get_by_test_id("stSidebarNav").get_by_role("link", name="Start", exact=True).click()
            expect(page.locator("h1").first).to_contain_text("What does an image classifier look at?")
            page.get_by_test_id("stSidebarNav").get_by_role("link", name="Runs", exact=True).click()
            expect(badge).to_contain_text("running")
            page.close()
        (run,) = list_runs()
        assert run.status.state == "running"  # the server is gone

        with serve(tmp_path) as server:
            second, third = new_page(), new_page()
            for each in (second, third):
                each.goto(f"{server.url}/runs")
                expect(each.locator(".stMarkdownBadge").first).to_contain_text("running")
            bar = second.get_by_test_id("stProgress")
            told = bar.inner_text()
            expect(bar).not_to_have_text(told)  # it is brought up to date by itself
            assert overflow(second) == 0
            second.get_by_role("button", name="Cancel").click()
            for each in (second, third):
                expect(each.locator(".stMarkdownBadge").first).to_contain_text("cancelled")
                expect(each.get_by_role("button", name="Resume")).to_be_visible()
                assert each.get_by_test_id("stException").count() == 0
                each.close()  # or it would miss its server
            assert wait_for(run.path, ended).status.state == "cancelled"
