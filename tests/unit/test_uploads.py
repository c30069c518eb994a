"""What people send to the pages: kept within a bound, and never half written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.full_disk import full
from xai.errors import InputError, StorageError
from xai.files import write_atomic
from xai.runs.control import begin, list_runs
from xai.settings import upload_bounds
from xai.uploads import IN_USE, keep_upload, prune, touch

DAY = 86400


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))
    return tmp_path


def used(path: Path, ago: float) -> Path:
    """`path` as if it had been used last so many seconds ago."""
    os.utime(path, (time.time() - ago, time.time() - ago))
    return path


def test_an_upload_lies_under_its_digest(places: Path) -> None:
    path = keep_upload(b"zip")
    assert path == keep_upload(b"zip")
    assert path.parent == places / "cache" / "uploads"
    named = keep_upload(b"weights", "../my net.pth", "weights")
    assert named.name == "my-net.pth"
    assert named.parent.parent == places / "cache" / "weights"
    assert named.read_bytes() == b"weights"


def test_those_used_longest_ago_go_when_there_are_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = keep_upload(b"one"), keep_upload(b"two", "two.pth", "weights")
    used(first, 1.5 * IN_USE)
    used(second, 2 * IN_USE)
    monkeypatch.setenv("XAI_UPLOADS", f"{5 / 2**30},30")
    third = keep_upload(b"33")
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert not second.parent.exists()
    keep_upload(b"four")
    assert [path.exists() for path in (first, third)] == [False, True]  # the third was used a moment ago


def test_what_nobody_used_for_long_goes() -> None:
    old, young = keep_upload(b"old"), keep_upload(b"young")
    used(old, 31 * DAY)
    used(young, 29 * DAY)
    assert prune() == 3
    assert [path.exists() for path in (old, young)] == [False, True]


@pytest.mark.parametrize("name", ["config.json", "launch.json"])
def test_what_a_run_names_is_kept(places: Path, name: str) -> None:
    data, weights = keep_upload(b"data"), keep_upload(b"weights", "mine.pth", "weights")
    for index, path in enumerate((data, weights)):
        write_atomic(places / "runs" / f"a{index}" / name, f'{{"data": "{path}"}}'.encode())
    other = keep_upload(b"other")
    for path in (data, weights, other):
        used(path, 400 * DAY)
    prune()
    assert [path.exists() for path in (data, weights, other)] == [True, True, False]


def test_touching_keeps_the_time_by_which_caches_know_a_file() -> None:
    path = used(keep_upload(b"data"), 40 * DAY)
    before = path.stat().st_mtime_ns
    touch(path)
    assert path.stat().st_mtime_ns == before
    assert prune() == 0


@pytest.mark.parametrize("text", ["8", "a,b", "-1,3", "1,nan", "1,2,3"])
def test_a_bound_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("XAI_UPLOADS", text)
    with pytest.raises(InputError, match=r"^XAI_UPLOADS is .*; give gigabytes and days, such as 8,30\.$"):
        upload_bounds()


def test_a_full_disk_leaves_nothing_behind(places: Path) -> None:
    with full(places), pytest.raises(StorageError, match=r"^the disk of .*mine\.pth is full; free some space"):
        keep_upload(b"weights", "mine.pth", "weights")
    assert not list(places.rglob("*"))
    write_atomic(places / "there" / "a.txt", b"before")
    with full(places), pytest.raises(StorageError):
        write_atomic(places / "there" / "a.txt", b"after")
    assert [path.read_bytes() for path in places.rglob("*") if path.is_file()] == [b"before"]


def test_a_run_that_the_disk_has_no_room_for_leaves_no_folder(places: Path) -> None:
    with full(places), pytest.raises(StorageError, match="is full"):
        begin("evaluate", "none", ["evaluate", "sample:photos"])
    assert list_runs() == []
    assert not list(places.rglob("launch.json"))
    with full(places, allow=1), pytest.raises(StorageError, match="is full"):  # full at the second file
        begin("evaluate", "none", ["evaluate", "sample:photos"])
    assert list_runs() == []
    assert [path for path in places.rglob("*") if path.is_file()] == []
