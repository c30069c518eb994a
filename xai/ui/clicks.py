"""Buttons that act on what the page shows at the moment of the click.

Streamlit calls an `on_click` before the script has read the fields of the page, with the arguments that the run before
gave it: a number typed just before the click is not among them. A button made here notes the click, lets the script
read the page, takes the work as this run gives it, and does it at the start of the next run, where `on_click` would
have been called. A click is noted even where the run is interrupted before it reaches the button.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession

_NOTED = "olhar_clicks"
_DUE = "olhar_click_due"


def keep() -> None:
    """Have what a person does in a fragment run the whole page; a second call changes nothing.

    A run of the page may take a fragment away while the browser still shows it. Streamlit 1.67 then drops a click in
    it without a word, or does what was clicked and does not show it.
    """
    request = AppSession.request_rerun
    if hasattr(request, "__wrapped__"):
        return

    @functools.wraps(request)
    def whole(session: AppSession, client_state: ClientState | None) -> None:
        if client_state and not client_state.is_auto_rerun:
            client_state.fragment_id = ""
        request(session, client_state)

    AppSession.request_rerun = whole  # type: ignore[method-assign, assignment]


def button(label: str, act: Callable[[], object], *, key: str, disabled: bool = False, **looks: Any) -> None:
    """A button that does `act` as it is in the run that has read what stands on the page when it is clicked.

    The key must not depend on what a person can change just before the click. Where the change takes the button away
    or disables it, nothing is done: the page shows why. looks: other arguments of `st.button`.
    """
    st.button(label, key=key, disabled=disabled, on_click=_note, args=(key,), **looks)
    if _noted().pop(key, None) is not None and not disabled:
        st.session_state[_DUE] = act
        st.rerun()


def do_due() -> float:
    """Do what was clicked, before the page is drawn; the time from which clicks belong to this run or a later one."""
    if act := st.session_state.pop(_DUE, None):
        act()
    return time.monotonic()


def forget(before: float) -> None:
    """At the end of a whole run: forget clicks noted before it began, whose buttons are no longer there."""
    for key in [key for key, when in _noted().items() if when < before]:
        del _noted()[key]


def _note(key: str) -> None:
    _noted()[key] = time.monotonic()


def _noted() -> dict[str, float]:
    noted: dict[str, float] = st.session_state.setdefault(_NOTED, {})
    return noted
