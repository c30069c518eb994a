"""The epsilon slider and what follows it, drawn in the browser from studies that arrive as packets."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from xai.studies.adversarial import POSITIONS
from xai.ui.browser import component
from xai.ui.tiles import DISPLAY, colormaps

START = POSITIONS.index(4 / 255)
"""Where the slider stands at first."""

_sweep = component("olhar_sweep", ("paint.js", "chart.js", "sweep.js"), "tiles.css", "sweep.css")


def mount(key: str, ids: Sequence[str]) -> None:
    """Mount the slider. ids: packets that it may show, the best first; the first that has arrived is shown."""
    data = {
        "ids": list(ids),
        "count": len(POSITIONS),
        "place": place(key),
        "display": dict(DISPLAY),
        "colormaps": colormaps(),
    }
    _sweep(key=key, data=data, on_place_change=lambda: None)


def place(key: str) -> int:
    """Where the slider was let go, also while another tab or page hid it."""
    value, kept = getattr(st.session_state.get(key), "place", None), f"{key}_place"
    if value is not None:
        st.session_state[kept] = int(value)
    return int(st.session_state.get(kept, START))
