"""Runs as processes: they outlive who started them, queue, stop, go on to the same end, and say what went wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dummy.command import at, ended, kill, offered, total, wait_for
from xai.errors import InputError, StorageError, XaiError
from xai.files import safe_name
from xai.runs import control as run_control
from xai.runs.control import cancel, delete, get_run, list_runs, new_run, record, rename, resume, start
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder, without_place


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    with offered(monkeypatch, tmp_path) as place:
        yield place


def made(place: Path, name: str, state: str = "done", **launch: object) -> RunFolder:
    """A run that is over, without a process."""
    folder = RunFolder(place / name)
    folder.path.mkdir(parents=True)
    folder.set_launch(Launch(kind="count", words=("count", "3"), **launch))
    folder.write("config.json", {"kind": "count", "steps": 3})
    folder.set_status(Status(state, 3, 3, "counting"))
    return folder


def test_an_id_says_kind_and_time_and_is_a_file_name(runs):
    first, second = new_run("train", "Brain"), new_run("train")
    assert first.parent == runs
    assert re.fullmatch(r"train-\d{8}-\d{6}-[0-9a-f]{4}", first.name)
    assert first != second
    odd = new_run("../a b", "x")
    assert odd.parent == runs
    assert safe_name(odd.name) == odd.name
    assert list_runs() == []  # made, and nothing begun in them


def test_a_run_from_queued_to_done(runs):
    path = new_run("count", "Numbers")
    begun = start(["count", "4", "--pause", "0.2"], path)
    assert begun.status == Status("queued", note="starting")
    with pytest.raises(InputError, match=rf"the run {path.name} is under way already; wait for it, or cancel it"):
        start(["count", "4"], path)
    with pytest.raises(InputError, match=f"the run {path.name} is under way; cancel it first"):
        delete(path.name)
    found = wait_for(path, ended)
    assert found.status == Status("done", 4, 4, "counting")
    assert RunFolder(path).summary()["sum"] == total(4)
    assert (found.kind, found.title, found.words) == ("count", "Numbers", ("count", "4", "--pause", "0.2"))
    assert found.command == "python -m xai count 4 --pause 0.2 --out DIR"
    assert found.config["steps"] == 4
    assert 0.8 <= found.seconds < time.time() - found.started + 0.1
    assert found.asked < found.started
    assert RunFolder(path).tail()[0].endswith("begun: python -m xai count 4 --pause 0.2 --out DIR")
    with pytest.raises(InputError, match=r"is done; there is nothing left to go on with"):
        resume(path.name)
    delete(path.name)
    assert list(runs.iterdir()) == []


def test_kill_9_frees_the_device_and_resuming_ends_as_if_nothing_had_been(runs):
    first, second = new_run("count"), new_run("count")
    start(["count", "8", "--hold-at", "5"], first)
    wait_for(first, at(5))
    start(["count", "2", "--seed", "1"], second)
    waiting = wait_for(second, lambda found: found.status.note == "waiting for cpu")
    assert waiting.status.state == "queued"
    (first / "checkpoints" / "last.pt").write_bytes(b"half a ch")  # as if killed while the disk wrote
    kill(first)
    assert wait_for(second, ended).status.state == "done"
    killed = record(first)
    assert killed.status.state == "failed"
    assert killed.status.error == "its process ended without a word; resume goes on."
    assert killed.resumable
    (first / "go").touch()
    again = resume(first.name)
    assert again.status.state == "queued"
    assert wait_for(first, ended).status.state == "done"
    assert RunFolder(first).summary()["sum"] == total(8)
    steps = [row["step"] for row in RunFolder(first).metrics()]
    assert steps == [0, 1, 2, 3, 4, 4, 5, 6, 7]  # the step of the lost checkpoint was done twice, and no other
    assert record(first).seconds > killed.seconds > 0


def test_cancelling_what_works_what_waits_and_what_starts(runs):
    works, waits, starts = new_run("count"), new_run("count"), new_run("count")
    start(["count", "9", "--hold-at", "4"], works)
    wait_for(works, at(4))
    start(["count", "2"], waits)
    wait_for(waits, lambda found: found.status.note == "waiting for cpu")
    start(["count", "2"], starts)
    cancel(starts.name)
    assert record(starts).stopping or ended(record(starts))
    cancel(waits.name)
    for path in (starts, waits):
        found = wait_for(path, ended)
        assert (found.status.state, found.status.error) == ("cancelled", "stopped; resume goes on.")
    cancel(works.name)
    found = wait_for(works, ended)
    assert (found.status.state, found.status.total) == ("cancelled", 9)
    assert not found.stopping
    with pytest.raises(InputError, match=rf"the run {works.name} is not under way: it is cancelled"):
        cancel(works.name)
    resume(waits.name)
    assert wait_for(waits, ended).status.state == "done"


def test_a_run_outlives_a_server_that_is_killed(runs):
    code = (
        "import time; from xai.runs.control import new_run, start\n"
        "path = new_run('count'); start(['count', '4', '--hold-at', '2'], path)\n"
        "print(path, flush=True); time.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        path = Path(server.stdout.readline().strip())
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
    (path / "go").touch()
    assert wait_for(path, ended).status.state == "done"
    assert [each.id for each in list_runs()] == [path.name]


def test_what_the_terminal_begins_can_be_gone_on_with_by_everybody(runs):
    words = [sys.executable, "-m", "xai", "count", "3", "--crash-at", "1", "--out", str(runs / "mine")]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 1
    found = get_run("mine")
    assert (found.status.state, found.status.error) == ("failed", "the counter broke")
    assert found.words == ("count", "3", "--crash-at", "1")
    start(["count", "3"], found.path)  # as it was, without the crash
    assert wait_for(found.path, ended).status.state == "done"
    assert RunFolder(found.path).summary()["sum"] == total(3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["count", "3", "--bogus"], "unrecognized arguments: --bogus; see python -m xai --help."),
        (["count", "0"], "steps is 0; give 1 or more."),
    ],
)
def test_a_process_that_dies_at_once_says_why(runs, words, told):
    path = new_run("count")
    start(words, path)
    found = wait_for(path, ended)
    assert found.status == Status("failed", error=told)
    assert found.resumable


def interpreter(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_cannot_import_or_is_not_there(runs, tmp_path, monkeypatch):
    path = new_run("count")
    broken = interpreter(tmp_path / "python", "echo 'ModuleNotFoundError: No module named torch' >&2; exit 1")
    monkeypatch.setattr(run_control.sys, "executable", broken)
    start(["count", "3"], path)
    assert wait_for(path, ended).status == Status("failed", error="ModuleNotFoundError: No module named torch")
    monkeypatch.setattr(run_control.sys, "executable", interpreter(tmp_path / "silent", "exit 1"))
    start(["count", "3"], path)
    found = wait_for(path, ended)
    assert found.status.error == "its process ended before it began; resume tries again."
    monkeypatch.setattr(run_control.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(XaiError, match=r"could not be started: No such file or directory\.$"):
        start(["count", "3"], path)
    assert record(path).status.error == "it could not be started: No such file or directory."


def test_a_finished_run_that_cannot_go_on_stays_finished(runs, tmp_path, monkeypatch):
    folder = made(runs, "mine")
    folder.set_launch(replace(folder.launch(), words=("count", "5")))
    script = interpreter(tmp_path / "python", "echo 'error: epochs is 3; give more than 5.' >&2; exit 2")
    monkeypatch.setattr(run_control.sys, "executable", script)
    start(["count", "3"], folder.path)
    found = wait_for(folder.path, ended)
    assert found.command == "python -m xai count 5 --out DIR"  # that of the run as it stands
    assert any(line.endswith("begun: python -m xai count 3 --out DIR") for line in folder.tail())
    assert found.status.state == "done"
    assert found.status.error == "it could not go on: epochs is 3; give more than 5."


def test_damaged_runs_are_listed_with_one_sentence_and_hide_nothing(runs):
    made(runs, "a-good", title="Good", asked=10.0)
    for name, file, text in [
        ("b-status", "status.json", "{"),
        ("c-status", "status.json", "[1]"),
        ("d-state", "status.json", '{"state": "asleep"}'),
        ("e-type", "status.json", '{"state": "done", "done": "three"}'),
        ("f-launch", "launch.json", "\x00"),
        ("g-times", "times.json", "no"),
        ("h-config", "config.json", "17"),
        ("k-config", "config.json", '{"kind": "count", "share": NaN}'),
    ]:
        (made(runs, name).path / file).write_text(text)
    (made(runs, "i-gone").path / "config.json").unlink()
    (made(runs, "j-gone").path / "status.json").unlink()
    (runs / "thesis").mkdir()
    (runs / "thesis" / "config.json").write_text("{}")  # somebody else's: no run
    (runs / ".hidden").mkdir()
    found = {each.id: each for each in list_runs()}
    assert sorted(found) == sorted(path.name for path in runs.iterdir() if path.name not in ("thesis", ".hidden"))
    assert found.pop("a-good").fault == ""
    faults = {run_id: each.fault.replace(f"{runs}{os.sep}", "") for run_id, each in found.items()}
    assert faults["b-status"].startswith("b-status/status.json cannot be read: ")
    assert faults["c-status"] == "c-status/status.json is damaged: it holds no settings."
    assert faults["d-state"] == "d-state/status.json says state 'asleep', which is none; delete the run."
    assert faults["e-type"] == (
        "e-type/status.json is damaged: done is 'three', not a whole number; put the file back from a copy, or make "
        "the run again."
    )
    assert faults["f-launch"].startswith("f-launch/launch.json cannot be read: ")
    assert faults["g-times"].startswith("g-times/times.json cannot be read: ")
    assert faults["h-config"] == "h-config/config.json is damaged: it holds no settings."
    assert faults["k-config"] == "k-config/config.json cannot be read: NaN is no number in JSON."
    assert faults["i-gone"] == "i-gone/config.json is missing; the run cannot be read without it."
    assert faults["j-gone"] == "j-gone/status.json is missing; the run cannot be read without it."
    assert all(each.status == Status("failed", error=each.fault) for each in found.values())
    with pytest.raises(InputError, match=r"the run h-config cannot go on: .*is damaged"):
        resume("h-config")
    delete("h-config")
    assert "h-config" not in {each.id for each in list_runs()}


def test_newest_first_and_by_kind(runs):
    for name, asked in (("old", 100.0), ("new", 300.0), ("middle", 200.0)):
        made(runs, name, asked=asked)
    other = RunFolder.create(runs / "other", {"kind": "evaluate", "recipe": {}})
    assert [each.id for each in list_runs()] == ["other", "new", "middle", "old"]
    assert [each.id for each in list_runs("evaluate")] == ["other"]
    assert other.status() == Status("queued")


def test_no_folder_of_runs_and_one_that_is_a_file(runs, monkeypatch, tmp_path):
    assert list_runs() == []
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the folder of runs .*file cannot be listed \(Not a directory\)"):
        list_runs()
    with pytest.raises(StorageError, match="cannot be written"):
        new_run("count")


def test_an_id_is_a_name_and_no_path(runs, tmp_path):
    made(runs, "train-1")
    made(tmp_path, "outside")
    for wrong in ("../outside", "", "..", "train-1/", str(tmp_path / "outside"), "train-9"):
        with pytest.raises(InputError, match=r"there is no run .* in .*runs; "):
            get_run(wrong)
    with pytest.raises(InputError, match=r"there is no run 'train-2' .*; did you mean train-1\?"):
        get_run("train-2")
    assert (tmp_path / "outside" / "config.json").is_file()


def test_renaming(runs):
    folder = made(runs, "r", asked=5.0)
    assert rename("r", "  Brain,\n VGG19 ").title == "Brain, VGG19"
    assert folder.launch() == Launch("count", "Brain, VGG19", ("count", "3"), asked=5.0)
    for wrong, count in ((" ", 0), ("x" * 121, 121)):
        with pytest.raises(InputError, match=f"the title has {count} characters; give 1 to 120"):
            rename("r", wrong)
    with pytest.raises(InputError, match="the title has 121 characters; give 1 to 120"):
        new_run("count", "x" * 121)
    assert [path.name for path in runs.iterdir()] == ["r"]  # no folder that nothing lists


def test_only_runs_are_deleted(runs, tmp_path):
    made(tmp_path, "elsewhere")
    runs.mkdir()
    (runs / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link to another folder; remove the link by hand"):
        delete("link")
    (runs / "thesis").mkdir()
    (runs / "thesis" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="there is no run 'thesis'"):
        delete("thesis")
    inside = made(runs, "inside")
    (inside.path / "data").symlink_to(tmp_path / "elsewhere")
    delete("inside")
    assert (tmp_path / "elsewhere" / "config.json").is_file()
    assert not inside.path.exists()


def test_a_folder_that_is_gone_or_a_command_that_nobody_knows(runs):
    with pytest.raises(StorageError, match=r"the folder .*gone of the run is gone; start the run again"):
        start(["count", "3"], runs / "gone")
    folder = RunFolder.create(runs / "api", {"kind": "count"})
    with pytest.raises(InputError, match="nobody knows the command of the run api; go on with it in the terminal"):
        resume("api")
    cancel("api")
    assert folder.status() == Status("cancelled", error="it was never begun.")


def test_a_prepared_folder_is_taken_with_resume_only(runs):
    path = new_run("count")
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        RunFolder.create(path, {"kind": "count"})
    assert RunFolder.create(path, {"kind": "count"}, resume=True).launch().kind == "count"


def test_the_place_is_no_part_of_the_words():
    words = ["train", "--out", "a b", "x", "--out=c", "--resume", "--output", "y"]
    assert without_place(words) == ("train", "x", "--output", "y")
