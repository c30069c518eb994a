"""The epsilon slider and what follows it, drawn in the browser from studies that arrive as packets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from xai.studies.adversarial.study import POSITIONS
from xai.ui.browser import component
from xai.ui.tiles import DISPLAY, colormaps, words

START = POSITIONS.index(4 / 255)
"""Where the slider stands at first."""

_sweep = component("olhar_sweep", ("paint.js", "chart.js", "adversarial_attack/sweep.js"), "tiles.css", "sweep.css")


def mount(key: str, ids: Sequence[str], view: str, clean: str) -> None:
    """Mount the slider. ids: packets that it may show, the best first; the first that has arrived is shown.

    view, clean: slots of the picture and of its map, which are shown until the first packet is there.
    """
    data = {
        "slots": {"view": view, "map": clean},
        "ids": list(ids),
        "count": len(POSITIONS),
        "place": place(key),
        "display": dict(DISPLAY),
        "colormaps": colormaps(),
        "words": words(),
    }
    _sweep(key=key, data=data, on_place_change=partial(_let_go, key))


def place(key: str) -> int:
    """Where the slider was let go, also while another tab or page hid it."""
    return int(st.session_state.get(f"{key}_place", START))


def _let_go(key: str) -> None:
    """Note it before the page runs: another tab that is opened in the same moment leaves that run no time."""
    value = getattr(st.session_state.get(key), "place", None)
    if value is not None:
        st.session_state[f"{key}_place"] = int(value)
