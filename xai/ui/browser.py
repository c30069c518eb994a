"""The components drawn in the browser: their files, and the packets of bytes that reach them.

Everything that is found while a script runs travels as packets through invisible carriers to a bus in the browser
tab, where grids and bars listen. A component is so mounted once a run, and its data never twice: streamlit sends an
unchanged packet as its hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st
from numpy.typing import NDArray

UI = Path(__file__).resolve().parent
FRONTEND = UI / "frontend"

HIDDEN = "olhar-hidden"
"""Key of the containers that hold carriers; the shell's style sheet hides them."""


@cache
def text(name: str) -> str:
    """A file of the front end: of `frontend/`, or of one page ("metric_curves/scrub.js")."""
    return (UI / name if "/" in name else FRONTEND / name).read_text(encoding="utf-8")


def component(name: str, scripts: tuple[str, ...], *styles: str) -> Callable[..., Any]:
    """A component made of files that `text` reads: the scripts become one module, the bus first; styles in order."""
    script = "\n".join(text(each) for each in ("bus.js", *scripts))
    style = "\n".join(map(text, styles)) or None
    mount: Callable[..., Any] = st.components.v2.component(name, js=script, css=style)
    return mount


_carrier = component("olhar_carrier", ("carrier.js",))


def packet(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One packet: length of the header (uint32), the header as JSON, the body."""
    written = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return len(written).to_bytes(4, "little") + written + body


def carry(data: bytes, key: str | None = None) -> None:
    """Send a packet to the browser from the current container; without a key its content is its identity."""
    _carrier(data=data, key=key)


def address(page: str, query: Mapping[str, str]) -> None:
    """Keep `query` in the browser's address while the page of that name is shown."""
    written = urlencode(query, safe=",:@.")
    with st.container(key=f"{HIDDEN}-address"):
        carry(packet({"kind": "address", "page": page, "query": written}), key=f"address-{page}")


def quantised(values: NDArray[np.float32]) -> tuple[str, float, bytes]:
    """(type, peak, bytes) of a map: float32 where it is small, else 16-bit steps of the largest absolute value.

    The lowest step, -32768, stands for values that are not finite.
    """
    if values.size <= 64 * 64:
        return "f4", 1.0, values.astype("<f4").tobytes()
    finite = np.isfinite(values)
    peak = float(np.abs(values[finite]).max()) if finite.any() else 0.0
    steps = np.rint(np.where(finite, values, 0) * (32767 / peak if peak else 0.0))
    return "i2", peak, np.where(finite, steps, -32768).astype("<i2").tobytes()
