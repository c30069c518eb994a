"""Answers to a browser's questions are delivered, also where a run of the script begins at that moment.

The browser asks the server where to send a file that a person gives it, and for the contents of a download. When a run
begins, Streamlit 1.67 empties the queue of what it has not sent yet, answers included, and the browser waits for ever:
the file or the download is lost without a word. It also forgets at the end of a run what a download's button of the
run before would have made, when the browser may still show that button, and a file that was made when two more runs of
anybody have ended, which may be before a slow browser has fetched it.
"""

from __future__ import annotations

import functools
import time
from typing import cast

from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.media_file_manager import MediaFileManager, MediaFileMetadata

ANSWERS = ("file_urls_response", "backend_operation_response")

BUTTON_SECONDS = 10.0
"""For so long a button that was drawn anew, or is gone, still gives its file."""

FETCH_SECONDS = 60.0
"""For so long a file that was made for a download is there in any case."""


def keep() -> None:
    """Have every session's queue keep its answers when it is emptied for a new run, and downloads stay for a while.

    A second call changes nothing.
    """
    clear, mark = ForwardMsgQueue.clear, MediaFileMetadata.mark_for_delete
    if hasattr(clear, "__wrapped__"):
        return

    @functools.wraps(clear)
    def kept(
        queue: ForwardMsgQueue, retain_lifecycle_msgs: bool = False, fragment_ids_this_run: list[str] | None = None
    ) -> None:
        waiting = list(queue._queue) if retain_lifecycle_msgs else []
        clear(queue, retain_lifecycle_msgs, fragment_ids_this_run)
        for message in waiting:
            if message.WhichOneof("type") in ANSWERS and not any(message is each for each in queue._queue):
                queue.enqueue(message)

    ForwardMsgQueue.clear = kept  # type: ignore[method-assign, assignment]

    @functools.wraps(mark)
    def marked(file: MediaFileMetadata) -> None:
        now = time.monotonic()
        if now - vars(file).setdefault("olhar_since", now) >= FETCH_SECONDS:
            mark(file)

    MediaFileMetadata.mark_for_delete = marked  # type: ignore[method-assign, assignment]

    def forget(files: MediaFileManager) -> None:
        used = {ident for places in files._files_by_session_and_coord.values() for ident in places.values()}
        now = time.monotonic()
        for ident, entry in list(files._deferred_callables.items()):
            if (
                ident not in used
                and now - cast(dict[str, float], entry).setdefault("olhar_since", now) >= BUTTON_SECONDS
            ):
                files._drop_deferred_id(ident)

    MediaFileManager._remove_orphaned_deferred_callables = forget  # type: ignore[method-assign, assignment]
