"""The board: one job for many askers, cheap ones first, nothing of a cancelled one left, bounds kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from xai.errors import Cancelled, InputError
from xai.types import Run
from xai.ui.jobs import SLOW_SECONDS, Board, Job


def until(true: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def ended(board: Board, key: str) -> Job:
    job = board.get(key)
    assert job is not None
    until(lambda: not job.active)
    return job


class Gate:
    """Work that waits until it is let go, reporting meanwhile."""

    def __init__(self) -> None:
        self.open, self.entered, self.left = threading.Event(), threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self, run: Run) -> str:
        self.calls += 1
        self.entered.set()
        try:
            while not self.open.wait(0.005):
                run.report(1, 4, "waiting")
            return "through"
        finally:
            self.left.set()


def test_two_owners_share_one_job() -> None:
    board, gate = Board(), Gate()
    one = board.submit("ann", "k", "K", gate)
    two = board.submit("bob", "k", "K", gate)
    assert one is two
    gate.open.set()
    assert ended(board, "k").result == "through"
    assert gate.calls == 1
    assert board.submit("cat", "k", "K", gate).result == "through"  # finished work is found, not done again


def test_progress_and_an_estimate() -> None:
    board, gate = Board(), Gate()
    job = board.submit("ann", "k", "K", gate)
    until(lambda: job.total == 4)
    assert (job.share, job.note) == (0.25, "waiting")
    assert job.seconds_left() is None  # too early for a pace
    job.started -= 2
    left = job.seconds_left()
    assert left is not None
    assert left == pytest.approx(6, rel=0.1)  # a quarter took 2 s, three more do 6 s
    gate.open.set()
    ended(board, "k")


def test_the_first_step_of_many_is_no_pace_yet() -> None:
    job = Job("k", "K", lambda _: None, state="running", done=1, total=1000, started=time.monotonic() - 2)
    assert job.seconds_left() is None  # it also paid for what is made ready once
    job.started -= 18
    assert job.seconds_left() == pytest.approx(20 * 999, rel=0.01)


def test_what_nobody_wants_any_more_is_cancelled_and_forgotten() -> None:
    board, gate = Board(), Gate()
    for owner in ("ann", "bob"):
        board.submit(owner, "k", "K", gate)
        board.want(owner, "page", ["k"])
    assert gate.entered.wait(5)
    board.want("ann", "page", [])
    job = board.get("k")
    assert job is not None  # Bob still wants it
    assert job.active
    board.want("bob", "page", ["other"])
    assert board.get("k") is None
    assert gate.left.wait(5)
    until(lambda: job.state == "cancelled")
    again = board.submit("ann", "k", "K", gate)
    assert again is not job
    gate.open.set()
    assert ended(board, "k").result == "through"


def test_a_job_wanted_by_two_pages_of_one_owner_survives_one() -> None:
    board, gate = Board(), Gate()
    board.submit("ann", "k", "K", gate)
    board.want("ann", "one", ["k"])
    board.want("ann", "two", ["k"])
    board.want("ann", "one", [])
    assert board.get("k") is not None
    board.release("ann")
    assert board.get("k") is None
    gate.open.set()


def test_cancelling_leaves_the_finished_ones() -> None:
    board, gate = Board(), Gate()
    board.submit("ann", "done", "D", lambda run: 1)
    assert ended(board, "done").result == 1
    board.submit("ann", "slow", "S", gate)
    board.leave("ann", "slow")
    assert board.get("slow") is None
    assert ended(board, "done").result == 1


def test_failures_are_kept_as_sentences_until_tried_again() -> None:
    board = Board()

    def refuse(run: Run) -> Any:
        raise InputError("alpha is 7; give 0 to 1.")

    def break_down(run: Run) -> Any:
        raise KeyError("x")

    board.submit("ann", "refused", "R", refuse)
    job = ended(board, "refused")
    assert (job.state, job.refused, job.error) == ("failed", True, "alpha is 7; give 0 to 1.")
    board.submit("ann", "broken", "B", break_down)
    job = ended(board, "broken")
    assert (job.state, job.refused, job.error) == ("failed", False, "This failed with KeyError: 'x'")
    board.forget("broken")
    assert board.submit("ann", "broken", "B", lambda run: 2) is not job
    assert ended(board, "broken").result == 2


def test_a_job_that_gives_up_by_itself_is_forgotten() -> None:
    board = Board()

    def give_up(run: Run) -> Any:
        raise Cancelled("cancelled.")

    job = board.submit("ann", "k", "K", give_up)
    until(lambda: job.state == "cancelled")
    assert board.get("k") is None


def test_cheap_jobs_first_and_one_at_a_time_in_a_lane() -> None:
    board, gate, order = Board(workers=2), Gate(), []
    board.submit("ann", "first", "F", gate, lane="net")
    assert gate.entered.wait(5)
    for name, cost in (("dear", 2.0), ("cheap", 1.0)):
        board.submit("ann", name, name, lambda run, name=name: order.append(name), cost=cost, lane="net")
    dear = board.get("dear")
    assert dear is not None
    time.sleep(0.05)
    assert dear.state == "waiting"  # a worker is free, but the network is not
    assert board.ahead_of(dear) == "F"
    gate.open.set()
    ended(board, "dear")
    assert order == ["cheap", "dear"]


def test_slow_jobs_leave_a_worker_for_the_quick_ones() -> None:
    board, gates = Board(workers=2), [Gate(), Gate()]
    for index, gate in enumerate(gates):
        board.submit("ann", f"slow{index}", "S", gate, cost=SLOW_SECONDS)
    assert gates[0].entered.wait(5)
    board.submit("bob", "quick", "Q", lambda run: "q")
    assert ended(board, "quick").result == "q"
    assert not gates[1].entered.is_set()
    for gate in gates:
        gate.open.set()
    ended(board, "slow1")


def test_wait_returns_when_something_changes() -> None:
    board = Board()
    seen = board.version
    assert board.wait(seen, 0.01) == seen
    board.submit("ann", "k", "K", lambda run: 1)
    assert board.wait(seen, 5) > seen


@dataclass
class Weighs:
    nbytes: int


def test_the_oldest_results_go_when_bounds_are_reached() -> None:
    board = Board(workers=1, kept_jobs=10, kept_bytes=100)
    for name in "abc":
        board.submit("ann", name, name, lambda run: Weighs(40))
        ended(board, name)
    assert [board.get(name) is not None for name in "abc"] == [False, True, True]
    board.submit("ann", "b", "b", lambda run: Weighs(40))  # used again: now "c" is the oldest
    board.submit("ann", "d", "d", lambda run: Weighs(40))
    ended(board, "d")
    assert [board.get(name) is not None for name in "bcd"] == [True, False, True]
    board.submit("ann", "huge", "H", lambda run: Weighs(500))
    assert ended(board, "huge").result == Weighs(500)  # the newest stays, or it would be computed for ever
    board = Board(workers=1, kept_jobs=2)
    for name in "abc":
        board.submit("ann", name, name, lambda run: 1)
        ended(board, name)
    assert [board.get(name) is not None for name in "abc"] == [False, True, True]


def test_closing_waits_until_nothing_runs() -> None:
    board, gate = Board(workers=1), Gate()
    board.submit("ann", "running", "R", gate)
    board.submit("ann", "waiting", "W", gate)
    assert gate.entered.wait(5)
    board.close(seconds=5)
    assert gate.left.is_set()
    assert gate.calls == 1
