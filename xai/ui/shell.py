"""What every page stands in: page settings, navigation, style, and the sidebar that says what computes.

Streamlit runs a page's file *instead of* the entry file for the first visitor after a server's start, if that visitor
asks for the page's own address. So every page begins with `shell.enter()`: run through the entry file it does
nothing; run alone it runs the entry file, which shows the page in its place.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
import torch
from streamlit.runtime.scriptrunner import get_script_run_ctx

from xai.models.store import loaded_models, unload_models
from xai.settings import ASSETS, HOME, resolve_device
from xai.ui import answers, clicks, downloads, held
from xai.ui.browser import HIDDEN, text
from xai.ui.jobs import BOARD
from xai.ui.memory import JOB_BYTES, RECENT_BYTES, give_back
from xai.ui.work import Recent


@dataclass(frozen=True)
class Page:
    """A page in the navigation: its file in `pages/`, title, icon, and the question that it answers."""

    file: str
    title: str
    icon: str
    question: str = ""
    default: bool = False

    @property
    def slug(self) -> str:
        """Its address, which is the file's name."""
        return Path(self.file).stem


_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("olhar_inside", default=False)
_pages: contextvars.ContextVar[Sequence[Page]] = contextvars.ContextVar("olhar_pages", default=())


def run(sections: Mapping[str, Sequence[Page]]) -> None:
    """The entry file's work: settings, navigation, sidebar, and the page that was asked for."""
    answers.keep()
    clicks.keep()
    keep = _asked()
    began = clicks.do_due()
    st.set_page_config(page_title="Olhar", page_icon="👁️", layout="wide")
    with st.container(key=f"{HIDDEN}-style"):
        # A style alone goes to a place of its own, which every second visit in the same process finds empty.
        st.html(f"<style>{text('app.css')}</style><i></i>")
    st.logo(str(ASSETS / "logo.svg"), size="large")
    offered = {
        section: [st.Page(p.file, title=p.title, icon=p.icon, default=p.default) for p in pages]
        for section, pages in sections.items()
    }
    keep()
    chosen = st.navigation(offered)
    inside = _inside.set(True)
    listed = _pages.set([page for pages in sections.values() for page in pages if page.question])
    try:
        with st.sidebar:
            status()
        chosen.run()
        clicks.forget(began)
        held.remember()
        downloads.guard()
    finally:
        _inside.reset(inside)
        _pages.reset(listed)


def _asked() -> Callable[[], None]:
    """What to call just before `st.navigation`, so that it takes the page that this run was asked for.

    It takes the page that the session notes, and a session's runs share that note. A run that ends by `st.rerun` as
    the visitor goes to another page writes its own page there once more, after the new run has written the other:
    the visitor would be thrown back (Streamlit 1.67; 4 of 30 clicks away from a page that reruns all the time). The
    request itself is each run's own, but a fragment of the page before may still be asked for in its place: so it is
    read first of all. Streamlit hides both; where they are not as known, nothing is done.
    """
    context = get_script_run_ctx()
    request = getattr(getattr(context, "script_requests", None), "_rerun_data", None)
    page = getattr(request, "page_script_hash", "")
    of_a_fragment = getattr(request, "fragment_id_queue", None)
    note = getattr(getattr(context, "pages_manager", None), "set_script_intent", None)
    if not page or of_a_fragment or note is None:
        return lambda: None

    def keep() -> None:
        with contextlib.suppress(TypeError):  # it takes other arguments
            note(page, "")

    return keep


def enter() -> None:
    """First line of every page: makes a page that was asked for first stand in the app as any other."""
    if not _inside.get():
        runpy.run_path(str(HOME / "streamlit_app.py"), run_name="__main__")
        st.stop()


def pages() -> Sequence[Page]:
    """The pages that answer a question, in the order of the navigation."""
    return _pages.get()


def status() -> None:
    """What computes: device, classifiers in memory and their weights, and a way to free the memory."""
    with st.container(border=True, key="olhar-status"):
        place = st.empty()
        st.session_state[_STATUS] = place
        refresh_status()
        st.button("Free the memory", key="olhar_unload", on_click=_unload, width="stretch", help=_UNLOAD_HELP)


_STATUS = "olhar_status_place"
_UNLOAD_HELP = "Unloads the classifiers and forgets the maps computed so far; they are loaded again when needed."


def refresh_status() -> None:
    """Bring the sidebar up to date, from anywhere in a script."""
    place = st.session_state.get(_STATUS)
    if place is None:
        return
    device = resolve_device()
    lines = [f"**Device** {_device(device)}"]
    loaded = loaded_models()
    lines.append("**Classifiers in memory**" + ("" if loaded else " none yet"))
    for classifier in reversed(loaded):
        mark = ":red-background[random]" if classifier.random else f":gray[{classifier.weights}]"
        lines.append(f"{classifier.title} {mark}")
    memory = _memory(device)
    if memory:
        lines.append(f"**Memory** {memory}")
    kept, most = BOARD.nbytes() + Recent.nbytes(), JOB_BYTES + RECENT_BYTES
    lines.append(f"**Results kept** {kept / 2**20:,.0f} of at most {most / 2**20:,.0f} MB")
    place.markdown("  \n".join(lines))


def _unload() -> None:
    BOARD.forget_all(lambda key: True)  # those under way stay
    Recent.forget_all()
    unload_models()
    give_back(at_once=True)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}"


def _memory(device: torch.device) -> str:
    """Memory of this process, and of the device if it has its own."""
    parts = []
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages_used = int(statm.read_text().split()[1])
        parts.append(f"{pages_used * os.sysconf('SC_PAGE_SIZE') / 2**20:,.0f} MB")
    if device.type == "cuda":
        parts.append(f"{torch.cuda.memory_allocated(device) / 2**20:,.0f} MB on the GPU")
    return ", ".join(parts)
