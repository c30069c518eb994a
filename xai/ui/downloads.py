"""Downloads: each file is made when it is asked for, of what stands on the page at the moment of the click.

Streamlit hands a page's files out as they were when the button was drawn: a number typed just before the click is not
in them, nor in their names. Files made beforehand are also fetched by the browser as soon as they are drawn, when the
next run may have replaced them already. So a button made here holds a function instead of a file, and `guard.js` holds
the click back until the server has read the fields and the page shows what it drew from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from xai.errors import XaiError
from xai.ui.browser import HIDDEN, component
from xai.ui.runs import plain

_KEY = "olhar_download_guard"
_FAILED = "olhar_download_failed"
_ANSWERED = "olhar_download_answered"

_guard = component("olhar_download_guard", ("guard.js",))


def button(label: str, make: Callable[[], bytes | str], name: str, mime: str, *, key: str, **looks: Any) -> None:
    """A button that downloads what `make` returns. Where that fails, the page says why.

    make: runs in a thread of its own, without the session; so it takes what it needs along. looks: other arguments of
    `st.download_button`.
    """
    failed: list[str] = st.session_state.setdefault(_FAILED, [])

    def made() -> bytes | str:
        try:
            return make()
        except XaiError as error:
            failed.append(f"“{label}” was not made: {error}")
            raise
        except Exception as error:
            failed.append(f"“{label}” was not made ({type(error).__name__}: {error}); the server's log tells more.")
            raise

    st.download_button(label, made, name, mime, key=key, on_click="ignore", **looks)


def guard() -> None:
    """At the end of every page: answers each click on a download once all that was done before it is drawn.

    No fragment: one drawn while its page is drawn anew breaks the page (Streamlit 1.67, "Bad delta path index").
    """
    asked: dict[str, Any] = getattr(st.session_state.get(_KEY), "asked", None) or {}
    done, again = st.session_state.get(_ANSWERED, (0, False))
    if asked.get("id", 0) != done:
        failed: list[str] = st.session_state.setdefault(_FAILED, [])
        # It failed without a reason: the button was replaced in the very moment of the click, and is pressed once more.
        again = asked["failed"] and not failed and not asked["again"]
        if asked["failed"] and not failed and not again:
            failed.append("The file was not made, since the page changed meanwhile; press the button again.")
        while failed:
            st.toast(plain(failed.pop()), icon=":material/info:", duration="long")
        st.session_state[_ANSWERED] = asked["id"], again
    with st.container(key=f"{HIDDEN}-guard"):
        _guard(key=_KEY, data={"answered": asked.get("id", 0), "again": again}, on_asked_change=lambda: None)
