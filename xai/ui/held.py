"""Files that a visitor gave and the server holds for this visit: where it no longer does, the page says so.

A visit ends without a word when the server is started again or the page is loaded anew: the next one begins with the
usual choices, and another picture would silently stand in the place of one's own. The browser tab remembers what was
held (`held.js`), and tells the new visit. It also tells of files that never reached the server.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from xai.ui.browser import HIDDEN, component
from xai.ui.runs import plain

_KEY = "olhar_held"
_SERVER = secrets.token_hex(8)

_memory = component("olhar_held", ("held.js",))


@dataclass
class Held:
    """What a visit holds, by place: (what it is, its name); what an earlier one held, and which visit that was."""

    visit: str = field(default_factory=lambda: secrets.token_hex(8))
    now: dict[str, tuple[str, str]] = field(default_factory=dict)
    lost: dict[str, tuple[str, str]] = field(default_factory=dict)
    beside: dict[str, Hashable] = field(default_factory=dict)
    restarted: bool = False
    heard: str = ""


def keep(place: str, what: str, name: str, instead: Hashable = None) -> None:
    """Note that `name` was given and is held for this visit, "" for nothing; say where an earlier visit's is gone.

    place: which uploader it came by. what: what people call it ("picture"). instead: what is used without it; the
    message goes when that is another.
    """
    held = _held()
    if name:
        held.now[place] = (what, name)
        held.lost.pop(place, None)
        return
    held.now.pop(place, None)
    if place not in held.lost:
        return
    if held.beside.setdefault(place, instead) != instead:
        del held.lost[place]
        return
    kind, gone = held.lost[place]
    told = (
        f"The server was restarted and no longer has your {kind} {gone}; choose it again."
        if held.restarted
        else f"The page was loaded anew and no longer has your {kind} {gone}; choose it again."
    )
    st.warning(plain(told), icon=":material/info:")


def remember() -> None:
    """At the end of a run: have the browser tab remember what is held, and say what it remembers of another visit."""
    held = _held()

    def take() -> None:
        before: dict[str, Any] | None = getattr(st.session_state.get(_PLACE), "lost", None)
        if not before:
            return
        held.heard = str(before.get("visit", ""))
        held.restarted = before.get("server") != _SERVER
        held.lost = {str(place): (str(what), str(name)) for place, (what, name) in before.get("now", {}).items()}
        held.beside = {}

    failed: list[dict[str, Any]] = getattr(st.session_state.get(_PLACE), "failed", None) or []
    for file in failed:
        st.toast(plain(not_taken(str(file["name"]), str(file["reason"]))), icon=":material/info:", duration="long")
    with st.container(key=f"{HIDDEN}-held"):
        _memory(
            key=_PLACE,
            data={"server": _SERVER, "visit": held.visit, "heard": held.heard, "now": {**held.lost, **held.now}},
            on_lost_change=take,
            on_failed_change=lambda: None,
        )


def not_taken(name: str, reason: str) -> str:
    """Why a file did not reach the server, from Streamlit's words for it, and what to do."""
    if "AxiosError" in reason or not reason:  # the program's words for a request that failed
        return f"{name} was not taken: it did not reach the server. Choose it again."
    return f"{name} was not taken: {reason.removeprefix('Error: ').rstrip('.')}."


_PLACE = "olhar_held_memory"


def _held() -> Held:
    held: Held = st.session_state.setdefault(_KEY, Held())
    return held
