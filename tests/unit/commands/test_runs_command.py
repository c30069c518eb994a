"""`python -m xai runs`: what it lists and says, its exit codes, and that it only does what was meant."""

import json
import subprocess
import sys

import pytest

from tests.dummy.command import at, ended, offered, wait_for
from xai.cli import main
from xai.runs.control import new_run, record, start
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    with offered(monkeypatch, tmp_path) as place:
        yield place


@pytest.fixture
def xai(capsys):
    """Runs the command: (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main(["runs", *words])
        return (code, *capsys.readouterr())

    return call


def made(place, name: str, state: str = "done", **launch) -> RunFolder:
    folder = RunFolder(place / name)
    folder.path.mkdir(parents=True)
    folder.set_launch(Launch(words=("count", "3"), **launch))
    folder.write("config.json", {"kind": "count", "steps": 3, "data": "x" * 200})
    folder.set_status(Status(state, 3, 4, "counting", error="the counter broke" if state == "failed" else ""))
    return folder


def test_the_list_for_people_and_for_machines(runs, xai):
    assert xai() == (0, f"no runs in {runs}\n", "")
    assert xai("--json") == (0, "[]\n", "")
    made(runs, "one", title="Numbers", asked=1e9, kind="count")
    made(runs, "two", "failed", asked=2e9, kind="gan").log("Traceback: the counter broke")
    (made(runs, "three", asked=1.5e9, kind="count").path / "config.json").write_text("{")
    code, text, _ = xai()
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["ID", "KIND", "STATE", "DONE", "ASKED", "TIME", "TITLE", "NOTE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["two", "gan", "failed"],
        ["three", "count", "damaged"],
        ["one", "count", "done"],
    ]
    assert ["75 %" in line for line in lines[1:]] == [True, False, True]
    assert lines[1].endswith("two      the counter broke")
    assert "config.json cannot be read" in lines[2]
    found = json.loads(xai("--json", "--kind", "gan")[1])
    assert [each["id"] for each in found] == ["two"]
    assert found[0]["status"] == {
        "state": "failed",
        "done": 3,
        "total": 4,
        "note": "counting",
        "error": "the counter broke",
    }
    assert found[0]["settings"]["steps"] == 3
    assert found[0]["command"] == "python -m xai count 3 --out DIR"


def test_one_run_in_full(runs, xai):
    folder = made(runs, "one", title="Numbers", kind="count")
    folder.write("summary.json", {"sum": 1.5})
    _, text, _ = xai("show", "one")
    for line in ("title    Numbers", "state    done", "done     3 of 4", "command  python -m xai count 3 --out DIR"):
        assert line in text
    assert "  steps  3" in text
    assert f"  data   {'x' * 99}…" in text
    assert '"sum": 1.5' in text
    assert json.loads(xai("show", "one", "--json")[1])["title"] == "Numbers"
    made(runs, "two", "failed").log("the last line")
    assert xai("show", "two")[1].rstrip().endswith("the last line")


def test_rename_and_delete(runs, xai):
    folder = made(runs, "one")
    assert xai("rename", "one", "Brain") == (0, "Brain: done\n", "")
    code, out, told = xai("delete", "one")
    assert (code, out) == (2, "")
    assert told == "error: deleting Brain (one) cannot be undone; add --yes if it is meant.\n"
    assert folder.path.is_dir()
    assert xai("delete", "one", "--yes") == (0, "deleted one\n", "")
    assert not folder.path.exists()
    code, _, told = xai("show", "one")
    assert code == 2
    assert "there is no run 'one' in" in told


def test_cancel_and_resume_from_another_process(runs, xai):
    path = new_run("count", "Numbers")
    start(["count", "4", "--hold-at", "2"], path)
    wait_for(path, at(2))
    assert xai("cancel", path.name)[0] == 0
    assert wait_for(path, ended).status.state == "cancelled"
    (path / "go").touch()
    words = [sys.executable, "-m", "xai", "runs", "resume", path.name, "--json"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["status"]["state"] in ("queued", "running")
    assert wait_for(path, ended).status.state == "done"
    code, _, said = xai("resume", path.name)
    assert code == 2
    assert "is done; there is nothing left to go on with" in said
    assert record(path).title == "Numbers"
