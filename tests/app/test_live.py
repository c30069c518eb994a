"""How far everything asked for is, in one bar."""

from __future__ import annotations

import threading
import time

import pytest
import streamlit as st

from tests.app.conftest import OpenPage
from xai.errors import WeightsError
from xai.types import Run
from xai.ui.jobs import BOARD, Job
from xai.ui.live import Live, Slot
from xai.ui.session import from_query
from xai.ui.transfer_learning.watched import Watched
from xai.ui.work import Scene


def idle(run: Run) -> None:
    del run


def test_the_bar_is_as_far_as_the_work_not_the_number_of_jobs() -> None:
    choice = from_query({})
    live = Live(choice, "test")
    quick = [Job(name, name, idle, 0.01, state="done") for name in "ab"]
    slow = Job("rise", "RISE on Tiny", idle, 500.0, state="running", done=30, total=3000)
    slow.started = time.monotonic() - 5
    for job in (*quick, slow):
        live.slots[job.title] = Slot(job.title, Scene(choice.photo, choice.view, choice.nets[0]), job=job)
    share, words = live._overall([slow])
    assert share == pytest.approx(0.01, abs=1e-3)
    assert words == "RISE on Tiny: 30 of 3,000, about 8 min left"
    slow.note = "masked passes"
    assert live._overall([slow])[1].endswith("about 8 min left (masked passes)")
    slow.cost = 0.0  # where no cost is known, jobs count alike
    assert live._overall([slow])[0] == pytest.approx((2 + 0.01) / 3)


def test_work_that_ends_while_one_looks_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end just after what has ended was shown, and before one asks what goes on."""
    watched, gate, shown = Watched(from_query({}), "test"), threading.Event(), []
    key = ("work that ends while one looks",)
    watched.work(key, "K", lambda run: gate.wait(30), lambda job: shown.append(job.state))
    tell = watched._tell

    def end_after() -> None:
        tell()
        gate.set()
        while BOARD.get(key).active:
            time.sleep(0.01)

    monkeypatch.setattr(watched, "_tell", end_after)
    watched.watch(st.empty())
    assert shown == ["done"]


def test_the_start_page_says_why_its_network_cannot_be_used(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, weights: str) -> None:
        raise WeightsError(f"{name} ({weights}) has no weights here.")

    monkeypatch.setattr("xai.ui.work.load_model", offline)
    page = open_page(query={"model": "swin_t"})  # no other test leaves its refusal on the board
    assert [warning.value for warning in page.warning] == ["Swin_t (imagenet) has no weights here."]
