"""The grid of equal tiles, drawn in the browser: what is sent to it and what comes back.

Python sends the picture the network sees, each map with its scales, and the colour maps of `xai.images.render`;
opacity, colours, scale, split and the value under the pointer are the browser's work and recompute nothing here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.images.render import COLORMAPS, OPACITY, PIXEL_PERCENTILE, Scale, ends, relief, scale_for, scale_of
from xai.types import Attribution
from xai.ui.browser import component, packet, quantised
from xai.ui.work import Look, Shown, png, short

Picture = NDArray[np.float32]

DISPLAY: Mapping[str, Any] = {
    "mode": "overlay",
    "opacity": OPACITY,
    "colors": "jet",
    "diverging": next(each.name for each in COLORMAPS.values() if each.kind == "diverging"),
    "signed": "signed",
    "scale": "own",
    "smooth": True,
    "split": 0.5,
}
"""How the tiles are drawn at first."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "mode": ("overlay", "map", "split"),
    "colors": tuple(each.name for each in COLORMAPS.values() if each.kind == "sequential"),
    "diverging": tuple(each.name for each in COLORMAPS.values() if each.kind == "diverging"),
    "signed": ("signed", "strength", "relief"),
    "scale": ("own", "shared"),
}

_grid = component("olhar_tiles", ("paint.js", "tile.js", "tiles.js"), "tiles.css")


@dataclass(frozen=True)
class Row:
    """A row of tiles: its title ("" for none) and (slot, title) of each tile."""

    title: str
    tiles: tuple[tuple[str, str], ...]


def checked_display(values: Mapping[str, Any]) -> dict[str, Any]:
    """The display settings among `values` that are usable, over the first ones: links are written by people."""
    display = dict(DISPLAY)
    for name, options in CHOICES.items():
        if values.get(name) in options:
            display[name] = values[name]
    for name in ("opacity", "split"):
        with suppress(TypeError, ValueError):
            value = float(values.get(name, display[name]))
            display[name] = display[name] if math.isnan(value) else min(1.0, max(0.0, value))
    display["smooth"] = values.get("smooth", True) not in (False, "0", "false")
    return display


def grid(
    key: str,
    rows: Sequence[Row],
    display: Mapping[str, Any],
    on_act: Callable[[], None],
    on_display: Callable[[], None],
    controls: bool = True,
    jump: tuple[str, str] | None = None,
) -> None:
    """Mount a grid; a shared scale is one for the maps in one unit.

    jump: (words, container key) of controls that a narrow page shows below the grid. The callbacks find what happened
    in `acted(key)` and `displayed(key)`.
    """
    data = {
        "rows": [
            {"title": row.title, "tiles": [{"slot": slot, "title": title} for slot, title in row.tiles]} for row in rows
        ],
        "display": dict(display),
        "colormaps": colormaps(),
        "words": words(),
        "controls": controls,
        "jump": {"text": jump[0], "key": jump[1]} if jump else None,
    }
    _grid(key=key, data=data, on_act_change=on_act, on_display_change=on_display)


def acted(key: str) -> Mapping[str, str] | None:
    """What a person asked of a tile: {"slot": ..., "what": "run", "cancel" or "retry"}."""
    value: Mapping[str, str] | None = getattr(st.session_state.get(key), "act", None)
    return value


def displayed(key: str) -> Mapping[str, Any] | None:
    """The display settings after a person changed one."""
    value: Mapping[str, Any] | None = getattr(st.session_state.get(key), "display", None)
    return value


def colormaps() -> list[dict[str, str]]:
    """Every colour map for the browser: its name, title, kind, and 256 RGB colours (base64)."""
    return [
        {"name": m.name, "title": m.title, "kind": m.kind, "lut": base64.b64encode(m.lut.tobytes()).decode()}
        for m in COLORMAPS.values()
    ]


def words() -> dict[str, tuple[str, ...]]:
    """The words at the ends of a colour bar, of maps without a sign and of signed ones."""
    return {"plain": ends(False), "signed": ends(True)}


def class_words(look: Look, index: int) -> str:
    """A class and its probability, as it stands below a tile: "tabby cat, 38 %"."""
    return f"{look.labels[index]}, {percent(float(look.probabilities[index]))}"


def percent(p: float) -> str:
    """A probability for people."""
    if p >= 0.9995:
        return "100 %"
    if p < 0.0001:
        return "< 0.01 %"
    return f"{100 * p:.0f} %" if p >= 0.1 else f"{100 * p:.1f} %" if p >= 0.01 else f"{100 * p:.2f} %"


def entry(look: Look, index: int) -> dict[str, Any]:
    """A class for the bars: index, label, probability, place."""
    return {
        "index": index,
        "label": look.labels[index],
        "p": float(look.probabilities[index]),
        "rank": look.order.index(index) + 1,
    }


def view_id(look: Look) -> str:
    """Packet id of the picture that a network sees."""
    return short("view", *look.scene.key, look.fingerprint)


def view_packet(look: Look) -> bytes:
    """The picture as the network sees it, and its likeliest classes."""
    h, w = look.input_size
    head = {
        "id": view_id(look),
        "kind": "view",
        "caption": f"says {class_words(look, look.order[0])}",
        "detail": f"{w} × {h} pixels",
        "random": look.random,
        "box": look.box,
        "top": [entry(look, index) for index in look.order[:5]],
        "file": safe_name(f"{look.scene.photo.name}-{look.scene.net.name}-input"),
    }
    return packet(head, png(look.picture))


def map_id(shown: Shown) -> str:
    """Packet id of a map."""
    return short("map", *shown.ask.key, shown.look.fingerprint)


def map_packet(shown: Shown) -> bytes:
    """One map: its values, its scales, and what the tile says about it."""
    att, look = shown.attribution, shown.look
    values = (att.values.sum(1) if att.values.dim() == 4 else att.values)[0].numpy()
    head, body = _map(map_id(shown), look, values, _scales(shown))
    index = int(att.target[0])
    head |= {
        "method": att.method,
        "unit": METHODS.get(att.method).scale_unit,
        "signed": att.signed,
        "caption": f"for {class_words(look, index)}",
        "seconds": att.seconds,
        "coverage": {"status": att.coverage.status, "sentence": "; ".join((att.coverage.sentence, *_facts(att)))},
        "caution": METHODS.get(att.method).caution,
        "blank": att.notice(),
        "file": safe_name(f"{look.scene.photo.name}-{look.scene.net.name}-{att.method}-{index}"),
    }
    if att.values.dim() == 4:
        head["relief"] = len(body)
        body += np.asarray(relief(att.values[0])).tobytes()
    return packet(head, body)


def plain_packet(name: str, look: Look, values: Picture, signed: bool, caption: str, blank: str = "") -> bytes:
    """A map that is no explanation by itself: values (H,W) at the size of the network's input, and one caption."""
    kind = "signed" if signed else "plain"
    scales = {kind: _scale(scale_of(values, signed, PIXEL_PERCENTILE))}
    if signed:
        scales["strength"] = _scale(scale_of(np.abs(values), False, PIXEL_PERCENTILE))
    head, body = _map(name, look, values, scales)
    file = safe_name(f"{look.scene.photo.name}-{look.scene.net.name}-{name}")
    return packet(
        head | {"method": "", "unit": "", "signed": signed, "caption": caption, "blank": blank, "file": file}, body
    )


def _map(name: str, look: Look, values: Picture, scales: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What every map's packet holds: where it belongs, its numbers, its scales."""
    kind, peak, body = quantised(values)
    head = {
        "id": name,
        "kind": "map",
        "view": view_id(look),
        "net": look.title,
        "random": look.random,
        "h": values.shape[0],
        "w": values.shape[1],
        "dtype": kind,
        "peak": peak,
        "coarse": values.shape != look.input_size,
        "scales": scales,
        "alt": _where(values),
    }
    return head, body


def _facts(att: Attribution) -> list[str]:
    """What a relevance method says about its own bookkeeping."""
    words = {"ratio": "relevance sums to {:.2f} of the score", "bias_share": "biases absorb {:.2f} of it"}
    values = {name: att.facts[name][0] for name in words if name in att.facts}
    return [words[name].format(value) for name, value in values.items() if value is not None]


def _scales(shown: Shown) -> dict[str, Any]:
    att = shown.attribution
    if not att.signed:
        return {"plain": _scale(scale_for([att]))}
    fine = tuple(att.values.shape[-2:]) == att.input_size
    strength = scale_of(att.maps()[0].abs(), False, PIXEL_PERCENTILE if fine else 100.0)
    return {"signed": _scale(scale_for([att])), "strength": _scale(strength)}


def _scale(scale: Scale) -> dict[str, Any]:
    return {"low": scale.low, "high": scale.high, "sentence": scale.sentence}


def _where(values: Picture) -> str:
    """Where the map is highest, in words, for people who do not see it."""
    finite = np.where(np.isfinite(values), values, -np.inf)
    if not (finite > 0).any():
        return "No value is above zero."
    y, x = np.unravel_index(int(finite.argmax()), finite.shape)
    rows, columns = ("top", "middle", "bottom"), ("left", "centre", "right")
    row, column = rows[3 * int(y) // values.shape[0]], columns[3 * int(x) // values.shape[1]]
    return f"Highest at the {row} {column}."
