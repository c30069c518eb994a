"""Messages about what a click asked for: shown beside the choice that they are about, and never beside another one.

They lie in one place of the session, apart from the keys of widgets.
"""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st

_SAID = "olhar_said"


def say(place: str, text: str) -> None:
    """Have `text` shown in `place`, or nothing there any more where it is ""."""
    st.session_state.setdefault(_SAID, {})[place] = (text, None)


def told(place: str, about: Hashable) -> str:
    """What is to be shown in `place`; "" from when `about`, the choice that stands beside it, is another one."""
    said: dict[str, tuple[str, Hashable]] = st.session_state.get(_SAID, {})
    text, first = said.get(place, ("", None))
    if first is None:
        if text:
            said[place] = (text, about)
        return text
    if first != about:
        del said[place]
        return ""
    return text
