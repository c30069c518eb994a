"""Run folders: whole files, locks that die with their process, signals, and resuming only what is the same."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import torch

from xai.errors import Cancelled, InputError, StorageError
from xai.files import storage_error
from xai.runs.files import Launch
from xai.runs.folder import RunFolder, Status, duration
from xai.runs.locks import Busy, locked
from xai.types import Run

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))


def test_a_run_from_queued_to_done(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {"data": "x", "seed": 1})
    assert folder.status() == Status("queued")
    seen = []
    with folder.working(Run(on_progress=lambda *each: seen.append(each)), CPU) as run:
        assert folder.status().state == "running"
        assert folder.busy()
        run.report(1, 4, "images")
        run.report(4, 4, "images")
        folder.metric({"step": 1, "auc": 0.5})
        folder.write("summary.json", {"auc": 0.5})
    assert json.loads((folder.path / "status.json").read_text()) == {
        "state": "done",
        "done": 4,
        "total": 4,
        "note": "images",
        "error": "",
    }
    assert not folder.busy()
    assert [each[:2] for each in seen] == [(1, 4), (4, 4)]
    assert RunFolder.open(folder.path).metrics() == [{"step": 1, "auc": 0.5}]
    assert folder.summary() == {"auc": 0.5}


def test_the_time_left_is_told(tmp_path, monkeypatch):
    clock = iter([0.0, 0.0, 100.0, 200.0])
    monkeypatch.setattr("xai.runs.folder.time.monotonic", lambda: next(clock))
    folder = RunFolder.create(tmp_path / "r", {})
    notes = []
    with folder.working(Run(on_progress=lambda d, t, n: notes.append(n))) as run:
        run.report(10, 40, "images")  # ten were done before: they cost this process nothing
        run.report(10, 40, "images")
        run.report(20, 40, "images")
    assert notes == ["images", "images", "images, 3 min left"]
    assert [duration(s) for s in (40, 720, 11100)] == ["40 s", "12 min", "3 h 05 min"]


def test_a_folder_is_not_taken_twice(tmp_path):
    RunFolder.create(tmp_path / "r", {"seed": 1, "model": "a"})
    with pytest.raises(InputError, match=r"holds a run already; add --resume to go on with it"):
        RunFolder.create(tmp_path / "r", {"seed": 1, "model": "a"})
    with pytest.raises(InputError, match=r"was asked for seed 1, not 2; resume it with the same settings"):
        RunFolder.create(tmp_path / "r", {"seed": 2, "model": "a"}, resume=True)
    assert RunFolder.create(tmp_path / "r", {"seed": 1, "model": "a"}, resume=True).config()["seed"] == 1
    RunFolder.create(tmp_path / "s", {"kind": "evaluate", "data": "x", "recipe": {"l2": 0, "seed": 1}})
    with pytest.raises(InputError, match=r'recipe \{"l2": 0, "seed": 1\}, not \{"seed": 2\}; resume it'):
        RunFolder.create(tmp_path / "s", {"kind": "evaluate", "data": "x", "recipe": {"l2": 0, "seed": 2}}, resume=True)
    with pytest.raises(InputError, match=r'was asked for kind "evaluate", not "train"; resume it'):
        RunFolder.create(tmp_path / "s", {"kind": "train", "data": "x"}, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"mine is not an empty folder; give a new one"):
        RunFolder.create(tmp_path / "mine", {})
    with pytest.raises(InputError, match=r"holds no run \(it has no config\.json\)"):
        RunFolder.open(tmp_path / "mine")


def test_one_process_at_a_time(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})
    with folder.working(Run()), pytest.raises(InputError, match=r"is being worked on by another process"):
        folder.working(Run()).__enter__()
    assert folder.status().state == "done"


def test_failure_and_cancelling_are_told_apart(tmp_path):
    folder = RunFolder.create(tmp_path / "a", {})

    def fail() -> None:
        with folder.working(Run()) as run:
            run.report(3, 9, "images")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        fail()
    assert folder.status() == Status("failed", 3, 9, "images", "the disk is full")
    assert "RuntimeError: the disk is full" in (folder.path / "log.txt").read_text()
    folder = RunFolder.create(tmp_path / "b", {})
    with pytest.raises(Cancelled), folder.working(Run(cancelled=lambda: True)) as run:
        run.report(1, 9)
    assert folder.status().state == "cancelled"


def test_a_signal_stops_at_the_next_report_and_handlers_come_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    folder = RunFolder.create(tmp_path / "r", {})

    def work() -> None:
        with folder.working(Run()) as run:
            run.report(1, 9)
            os.kill(os.getpid(), signal.SIGTERM)
            run.report(2, 9)

    with pytest.raises(Cancelled):
        work()
    assert folder.status().state == "cancelled"
    assert folder.status().done == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_result_stays_where_its_run_is_stopped_while_it_waits_to_go_on(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("the lock may not be opened")

    first, second, new = (RunFolder.create(tmp_path / name, {}) for name in "abc")
    second.set_launch(Launch("train", before="done"))  # as a page leaves it, queued
    with first.working(Run(), CPU):
        for folder, state in ((second, "done"), (second, "done"), (new, "cancelled")):
            with pytest.raises(Cancelled), folder.working(Run(cancelled=lambda: True), CPU):
                pass
            assert folder.status().state == state
    assert second.status().error == "it was stopped before it went on."
    for folder, state in ((second, "done"), (new, "failed")):
        folder.set_status(Status("queued"))
        with monkeypatch.context() as patch, suppress(PermissionError):
            patch.setattr(RunFolder, "on_device", refuse)
            with folder.working(Run(), CPU):
                pass
        assert folder.status().state == state
    assert second.status().error == "it could not go on: the lock may not be opened"
    with pytest.raises(Cancelled), second.working(Run(cancelled=lambda: True)) as run:
        run.check()
    assert second.status().state == "cancelled"
    second.set_status(Status("queued"))
    for name in ("pid", ".cancel"):  # of a process that was ended while it started
        second.write_bytes(name, b"1")
    assert second.status() == Status("done", error="it was stopped before it went on.")


def test_two_runs_on_one_device_queue(tmp_path):
    first, second = (RunFolder.create(tmp_path / name, {}) for name in "ab")
    entered = threading.Event()

    def wait() -> None:
        with second.working(Run(), CPU):
            entered.set()

    with first.working(Run(), CPU):
        thread = threading.Thread(target=wait)
        thread.start()
        deadline = time.monotonic() + 5
        while second.status().note != "waiting for cpu" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert second.status() == Status("queued", note="waiting for cpu")
        assert not entered.is_set()
    thread.join(5)
    assert entered.is_set()
    assert second.status().state == "done"


def test_a_killed_process_leaves_no_lock_and_says_failed(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})
    code = (
        "import sys, time; from pathlib import Path; from xai.runs.folder import RunFolder; from xai.types import Run\n"
        "with RunFolder.open(Path(sys.argv[1])).working(Run()) as run:\n"
        "    run.report(2, 9, 'images'); print('up', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert folder.status().state == "running"
        child.kill()
        child.wait(10)
    finally:
        child.kill()
        child.communicate()
    assert folder.status().state == "failed"
    assert "ended without a word" in folder.status().error
    with folder.working(Run()):
        pass
    assert folder.status().state == "done"


def test_a_run_can_be_cancelled_from_outside(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})
    assert not folder.cancel()

    def work() -> None:
        with folder.working(Run()) as run:
            run.report(1, 9)
            assert RunFolder.open(folder.path).cancel()  # as another process would ask
            run.report(2, 9)

    with pytest.raises(Cancelled):
        work()
    assert folder.status().state == "cancelled"
    assert not folder.cancel()
    assert sorted(path.name for path in folder.path.iterdir()) == [
        ".lock",
        "config.json",
        "log.txt",
        "status.json",
        "times.json",
    ]


def test_a_forked_worker_does_not_keep_its_parents_lock(tmp_path):
    path = tmp_path / "lock"
    stop = multiprocessing.get_context("fork").Event()
    with locked(path):
        worker = multiprocessing.get_context("fork").Process(target=stop.wait, args=(30,))
        worker.start()
        with pytest.raises(Busy), locked(path):
            pass
    try:
        with locked(path):  # the worker still lives
            assert worker.is_alive()
    finally:
        stop.set()
        worker.join(10)


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})
    folder.metric({"step": 1})
    with (folder.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "au')
    folder.metric({"step": 3})
    assert folder.metrics() == [{"step": 1}, {"step": 3}]


def full(path, data=b""):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def no_room(path, data=b""):
    raise storage_error(OSError(errno.ENOSPC, "No space left on device"), path)


def test_a_full_disk_is_one_sentence_wherever_it_is_met(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})

    def work() -> None:
        with folder.working(Run()) as run:
            run.report(1, 9, "images")
            full("somewhere/deep.parquet")

    with pytest.raises(StorageError) as told:
        work()
    assert str(told.value) == f"the disk of {folder.path} is full; free some space, and go on."
    assert folder.status() == Status("failed", 1, 9, "images", str(told.value))


def test_a_full_disk_still_learns_that_the_run_failed(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "r", {"seed": 1})
    folder.write("results.json", {"kept": 1})

    def work() -> None:
        with folder.working(Run()) as run:
            run.report(1, 9, "a note that is long enough for the sentence to fit into the space that the file has")
            monkeypatch.setattr("xai.runs.files.write_atomic", no_room)
            folder.write("results.json", {"kept": 2})

    with pytest.raises(StorageError, match=r"the disk of .*results\.json is full; free some space, and go on\.$"):
        work()
    monkeypatch.undo()
    assert folder.status().state == "failed"
    assert folder.status().error.endswith("results.json is full; free some space, and go on.")
    assert folder.read("results.json") == {"kept": 1}
    with folder.working(Run()):
        pass
    assert folder.status().state == "done"


def test_a_folder_that_is_gone_is_said_and_not_made_anew(tmp_path):
    folder = RunFolder.create(tmp_path / "r", {})

    def work() -> None:
        with folder.working(Run()) as run:
            shutil.rmtree(folder.path)
            run.report(9, 9)

    with pytest.raises(StorageError, match=r"the folder .*r of the run is gone; start the run again\."):
        work()
    assert not folder.path.exists()


def test_a_run_hears_a_word_where_there_are_no_signals(tmp_path, monkeypatch):
    monkeypatch.setattr("xai.runs.folder.sys.platform", "win32")
    monkeypatch.setattr("xai.runs.folder.os.kill", lambda *_: pytest.fail("a signal would end it without a checkpoint"))
    folder = RunFolder.create(tmp_path / "r", {})

    def work() -> None:
        with folder.working(Run()) as run:
            run.report(1, 9)
            assert folder.cancel()
            assert folder.cancel_asked()
            run.report(2, 9)

    with pytest.raises(Cancelled):
        work()
    assert folder.status().state == "cancelled"
    assert not folder.cancel_asked()


def test_time_is_counted_while_it_works_only(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("xai.runs.files.time.time", lambda: now[0])
    folder = RunFolder.create(tmp_path / "r", {})
    for _ in range(2):
        with folder.working(Run()):
            now[0] += 30
            assert folder.seconds() in (30, 60)
        now[0] += 500  # idle
    assert (folder.seconds(), folder.started()) == (60, 1000)
    folder.clock_on()  # a process that is killed 12 seconds after it began
    os.utime(folder.path / "status.json", (now[0] + 12, now[0] + 12))
    now[0] += 9000
    assert folder.seconds() == 72
    with folder.working(Run()):
        now[0] += 8
    assert folder.seconds() == 80
