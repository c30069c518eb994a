"""Locks and the queue before one: first come, first served, and the dead are in nobody's way."""

import threading
import time

import pytest

from xai.runs.locks import Busy, is_held, lend, locked, turn


def test_a_glance_makes_no_file_and_takes_no_lock(tmp_path):
    assert not is_held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
        with pytest.raises(Busy), locked(tmp_path / "lock"):
            pass
    assert not is_held(tmp_path / "lock")


def test_who_asked_first_is_first_whoever_comes_first(tmp_path):
    path, order, waiting = tmp_path / "cpu.lock", [], threading.Semaphore(0)

    def come(name: str, asked: float) -> None:
        with turn(path, waiting.release, asked):
            order.append(name)

    threads = []
    with turn(path, lambda: None, 1.0):
        for name, asked in (("third", 30.0), ("second", 20.0), ("fourth", 40.0)):
            threads.append(threading.Thread(target=come, args=(name, asked)))
            threads[-1].start()
            assert waiting.acquire(timeout=5)  # it stands in the queue
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == ["second", "third", "fourth"]
    assert list((tmp_path / "cpu.queue").iterdir()) == []


def test_the_ticket_of_a_dead_process_is_torn_up(tmp_path):
    (tmp_path / "cpu.queue").mkdir()
    (tmp_path / "cpu.queue" / "000000000000001-dead").write_bytes(b"")
    with turn(tmp_path / "cpu.lock", lambda: pytest.fail("waited for the dead"), 9.0):
        assert [each.name[:15] for each in (tmp_path / "cpu.queue").iterdir()] == ["000000000009000"]


def test_who_gives_up_leaves_the_queue(tmp_path):
    def give_up() -> None:
        raise KeyboardInterrupt

    with locked(tmp_path / "cpu.lock"), pytest.raises(KeyboardInterrupt), turn(tmp_path / "cpu.lock", give_up):
        pass
    assert list((tmp_path / "cpu.queue").iterdir()) == []


def test_a_lock_is_waited_for_only_as_long_as_said(tmp_path):
    with locked(tmp_path / "lock"):
        begun = time.monotonic()
        with pytest.raises(Busy):
            lend(tmp_path / "lock")
        assert time.monotonic() - begun > 0.4
    with lend(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")
