"""What the server has to answer a browser is not lost when a run begins."""

from __future__ import annotations

import time

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

from tests.app.conftest import OpenPage
from xai.ui.answers import BUTTON_SECONDS, FETCH_SECONDS


def message(kind: str, ident: str = "") -> ForwardMsg:
    made = ForwardMsg()
    part = getattr(made, kind)
    part.SetInParent()
    if kind == "file_urls_response":
        part.response_id = ident
    return made


@pytest.mark.parametrize("fragments", [None, ["a"]])
def test_answers_outlive_the_beginning_of_a_run_once_and_drawings_do_not(
    open_page: OpenPage, fragments: list[str] | None
) -> None:
    open_page()
    open_page()  # a second visitor changes nothing
    queue = ForwardMsgQueue()
    delta = message("delta")
    delta.delta.fragment_id = "a"
    for each in (delta, message("file_urls_response", "one"), message("backend_operation_response")):
        queue.enqueue(each)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=fragments)
    kept = queue.flush()
    assert sorted(str(each.WhichOneof("type")) for each in kept) == ["backend_operation_response", "file_urls_response"]
    assert {each.file_urls_response.response_id for each in kept} == {"one", ""}
    assert queue.is_empty()  # what was sent is not sent again
    queue.enqueue(message("file_urls_response", "two"))
    queue.clear()
    assert queue.is_empty()


def test_a_button_and_its_file_outlive_the_runs_that_end_before_the_browser_asks(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page()
    storage = MemoryMediaFileStorage("/media")
    files = MediaFileManager(storage)
    now = time.monotonic()
    old = files.add_deferred(lambda: b"old", "text/plain", "1.2")
    files.add_deferred(lambda: b"new", "text/plain", "1.2")  # drawn anew in the same place
    for _ in range(3):
        files.remove_orphaned_files()
    address = files.execute_deferred(old)
    for _ in range(3):
        files.remove_orphaned_files()
    assert storage.get_file(address.rpartition("/")[2]).content == b"old"
    monkeypatch.setattr(time, "monotonic", lambda: now + BUTTON_SECONDS + 1)
    files.remove_orphaned_files()
    with pytest.raises(MediaFileStorageError, match="not found"):
        files.execute_deferred(old)
    monkeypatch.setattr(time, "monotonic", lambda: now + BUTTON_SECONDS + FETCH_SECONDS + 2)
    for _ in range(2):
        files.remove_orphaned_files()
    with pytest.raises(MediaFileStorageError):
        storage.get_file(address.rpartition("/")[2])
