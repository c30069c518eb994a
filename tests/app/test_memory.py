"""What the server keeps in memory: within a bound, and given back."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from PIL import Image
from streamlit.proto.Common_pb2 import FileURLs as FileURLsProto
from streamlit.runtime.uploaded_file_manager import DeletedFile, UploadedFile, UploadedFileRec

from xai.types import Run
from xai.ui import memory, work
from xai.ui.jobs import Board
from xai.ui.memory import drop_upload, give_back, held, new_uploads
from xai.ui.work import Recent


@dataclasses.dataclass(frozen=True)
class Parts:
    picture: Image.Image
    values: Any


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"abcd", 4),
        (np.zeros((10, 10), np.float32), 400),
        (torch.zeros(1000)[:10], 4000),  # a view keeps all of it
        (Image.new("RGB", (20, 10)), 600),
        (Image.new("F", (20, 10)), 800),
        (torch.nn.Linear(9, 10), 400),
        ([b"abcd"] * 5000, 20000),
        (Parts(Image.new("L", (5, 5)), (b"ab", {"x": torch.zeros(5)})), 25 + 2 + 20 + 64),
    ],
)
def test_the_size_of_what_is_held(value: Any, size: int) -> None:
    assert held(value) == size


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories of this test alone, with room for 100 bytes."""
    Recent.forget_all()
    monkeypatch.setattr(work, "RECENT_BYTES", 100)


@pytest.mark.usefixtures("own")
def test_all_memories_share_one_bound() -> None:
    first: Recent[bytes] = Recent(50)
    second: Recent[bytes] = Recent(50)
    for key in "ab":
        first.get(key, lambda: bytes(40))
    first.get("a", lambda: pytest.fail("it is there"))
    second.get("c", lambda: bytes(30))  # "b" was used longest ago
    assert Recent.nbytes() == 70
    made: list[str] = []
    first.get("a", lambda: made.append("a") or bytes(1))  # type: ignore[func-returns-value]
    second.get("c", lambda: made.append("c") or bytes(1))  # type: ignore[func-returns-value]
    assert not made
    second.get("large", lambda: bytes(500))  # the last one stays, whatever its size
    assert Recent.nbytes() == 500
    second.get("d", lambda: bytes(1))
    assert Recent.nbytes() == 1
    Recent.forget_all()
    assert Recent.nbytes() == 0


@pytest.mark.usefixtures("own")
def test_the_bound_holds_with_many_threads() -> None:
    memories: list[Recent[bytes]] = [Recent(20) for _ in range(3)]

    def fill(number: int) -> None:
        for turn in range(200):
            memories[(number + turn) % 3].get((number, turn % 30), lambda: bytes(7))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert Recent.nbytes() <= 100
    for each in memories:
        each.get("more", lambda: bytes(7))
    assert Recent.nbytes() <= 100


def test_a_job_that_has_ended_holds_its_result_alone() -> None:
    class Holder:
        def __call__(self, run: Run) -> bytes:
            return bytes(1000)

    board = Board(workers=1)
    job = board.submit("me", "key", "title", Holder())
    seen = board.version
    while job.active:
        seen = board.wait(seen, 5)
    assert board.nbytes() == 1000
    assert not isinstance(job.work, Holder)
    board.forget_all(lambda key: True)
    assert board.nbytes() == 0


@pytest.mark.skipif(memory._trim() is None, reason="the C library cannot give memory back: it is not glibc")
def test_what_was_freed_goes_back_to_the_system() -> None:
    """Small pieces freed between others that stay: the C library keeps their pages until it is asked."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    pieces = [np.ones(8000, np.uint8) for _ in range(40_000)]  # 320 MB
    kept = pieces[::20]
    full = resident()
    del pieces
    give_back(at_once=True)
    assert full - resident() > 150 * 2**20
    assert len(kept) == 2000


def test_a_file_that_was_taken_is_not_kept_by_streamlit(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[tuple[str, str]] = []

    class Files:
        def remove_file(self, session_id: str, file_id: str) -> None:
            removed.append((session_id, file_id))

    context = type("Context", (), {"uploaded_file_mgr": Files(), "session_id": "s"})()
    monkeypatch.setattr(memory, "get_script_run_ctx", lambda: context)
    drop_upload(type("File", (), {"file_id": "f"})())
    assert removed == [("s", "f")]
    monkeypatch.setattr(memory, "get_script_run_ctx", lambda: None)
    drop_upload(type("File", (), {"file_id": "f"})())
    assert len(removed) == 1


def test_a_file_that_was_taken_is_not_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit calls `on_change` once more where the run after it was interrupted."""
    whole = UploadedFile(UploadedFileRec("b", "b.png", "image/png", b"b"), FileURLsProto())
    monkeypatch.setattr(st, "session_state", {"one": DeletedFile("a"), "many": [DeletedFile("a"), whole], "none": None})
    assert [new_uploads(key) for key in ("one", "many", "none", "never drawn")] == [[], [whole], [], []]
