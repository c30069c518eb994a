"""How much the server keeps in memory, and how memory goes back to the system."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import streamlit as st
from PIL import Image
from streamlit.runtime.scriptrunner import get_script_run_ctx
from torch import Tensor, nn

JOB_BYTES = 256 * 2**20
"""Most bytes of finished jobs' results that are kept, of all visitors together."""

RECENT_BYTES = 256 * 2**20
"""Most bytes of decoded pictures, tensors, figures and other things made on the way that are kept."""

SENT_BYTES = 256 * 2**20
"""Most bytes of own pictures that one set of a visitor holds."""

_SAMPLED = 500
"""Of a longer sequence so many are looked at, and the rest is taken to be like them."""

_PAUSE = 2.0
"""Least seconds between two times that free memory is given back after a job."""

_given = threading.Lock()
_last = 0.0


def held(value: Any, deep: int = 6) -> int:
    """About how many bytes a value keeps from being freed: its own `nbytes` where it has one, else its parts'.

    Of a tensor the whole storage, which a view keeps too.
    """
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, nn.Module):
        return sum(held(each) for each in (*value.parameters(), *value.buffers()))
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands()) * (4 if value.mode in ("I", "F") else 1)
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    own = getattr(value, "nbytes", None)
    if isinstance(own, int):
        return own
    if not deep:
        return sys.getsizeof(value)
    if isinstance(value, Mapping):
        return _sum([*value.values()], deep) + 64 * len(value)
    if isinstance(value, list | tuple | set | frozenset):
        return _sum([*value], deep)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _sum([getattr(value, each.name) for each in dataclasses.fields(value)], deep)
    return 64


def _sum(values: list[Any], deep: int) -> int:
    some = values[:_SAMPLED]
    found = sum(held(each, deep - 1) for each in some)
    return found * len(values) // len(some) if some else 0


def give_back(at_once: bool = False) -> None:
    """Have the C library return what is free to the system: it keeps gigabytes that networks have used for a moment.

    Measured with EfficientNet-Lite0 on three threads: 1.8 GB held, of which 1.0 GB were free. Without `at_once` at most
    every `_PAUSE` seconds. Nothing is done where the library has no such function (it is not glibc).
    """
    global _last
    trim = _trim()
    if trim is None or not _given.acquire(blocking=at_once):
        return
    try:
        if at_once or time.monotonic() - _last >= _PAUSE:
            if at_once:
                gc.collect()
            trim(0)
            _last = time.monotonic()
    finally:
        _given.release()


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # TypeError: Windows has no library of no name
        return None


def new_uploads(key: str) -> list[Any]:
    """The files in an uploader that have not been taken yet, for its `on_change`.

    Streamlit calls it once more where the run that followed was interrupted; the files that were freed by then are
    marks without contents.
    """
    given = st.session_state.get(key)
    return [file for file in (given if isinstance(given, list) else [given]) if hasattr(file, "getvalue")]


def drop_upload(file: Any) -> None:
    """Free an uploaded file that has been taken: Streamlit keeps it in memory until the visitor's session ends.

    For uploaders that are replaced by a fresh one once their file is taken.
    """
    context = get_script_run_ctx()
    remove = getattr(getattr(context, "uploaded_file_mgr", None), "remove_file", None)
    if context is not None and remove is not None and hasattr(file, "file_id"):
        remove(session_id=context.session_id, file_id=file.file_id)
