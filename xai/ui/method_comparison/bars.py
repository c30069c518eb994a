"""The likeliest classes of each network as bars; a click on one explains that class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from xai.ui.browser import component
from xai.ui.jobs import BOARD
from xai.ui.session import Choice
from xai.ui.work import Scene, look_key

_bars = component("olhar_bars", ("method_comparison/bars.js",), "method_comparison/bars.css")


def bars(key: str, choice: Choice, scenes: Sequence[Scene]) -> None:
    """Mount the bars for these scenes, which the live slots "row0", "row1", ... look at."""

    def said(name: str) -> dict[str, Any]:
        value: dict[str, Any] | None = getattr(st.session_state.get(key), name, None)
        return value or {}

    def scene() -> tuple[int, Scene]:
        place = int((said("random") or said("again"))["slot"].removeprefix("row"))
        return place, scenes[place]

    def explain_class() -> None:
        if said("target"):
            choice.target = int(said("target")["index"])

    def use_random() -> None:
        if said("random"):
            place, _ = scene()
            nets = list(choice.nets)
            nets[place] = replace(nets[place], weights="random:0")
            choice.nets = tuple(nets)

    def try_again() -> None:
        if said("again"):
            BOARD.forget(look_key(scene()[1]))

    _bars(
        key=key,
        data={"rows": [{"slot": f"row{i}", "title": scene.net.title} for i, scene in enumerate(scenes)]},
        on_target_change=explain_class,
        on_random_change=use_random,
        on_again_change=try_again,
    )
