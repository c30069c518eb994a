"""Runs in the pages: what is under way, with its time left and a way to stop it; what is over; the list of all.

Everything is read from the run folders, so every session sees the same, whichever started a run, and a page that is
opened after a switch, a closed tab or a restarted server finds it as it is. While something is under way a fragment
looks every second; when something ends, the whole page runs once more.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from xai.errors import InputError, XaiError
from xai.runs import control as run_control
from xai.runs.control import Record
from xai.runs.folder import RunFolder, duration
from xai.ui import said

POLL_SECONDS = 1.0

RECENT = 3
"""Runs without a result that a panel shows; the page of all runs has the others."""

SHOWN = 10
"""Runs that the page of all runs shows at first, and more of at a time."""

BADGES = {
    "queued": ("blue", ":material/schedule:"),
    "running": ("blue", ":material/play_arrow:"),
    "stopping": ("orange", ":material/stop:"),
    "done": ("green", ":material/check:"),
    "cancelled": ("gray", ":material/cancel:"),
    "failed": ("red", ":material/error:"),
    "damaged": ("red", ":material/broken_image:"),
}
"""Colour and sign of each state; the word stands beside them."""

EXAMPLE = ("evaluate", "sample:photos", "--method", "gradcam", "layercam", "--protocol", "rise", "--images", "4")
"""What the page of all runs offers to begin where there is no run yet."""

Picked = Callable[[Record], None]


def panel(kind: str, key: str, on_pick: Picked | None = None) -> Record | None:
    """The runs of one kind, for a page that begins them; the finished one that is picked, the newest unless chosen.

    key: names the widgets; a page with two panels gives two. on_pick: called when a person picks another one. Begin a
    run by `run_control.new_run` and `start`; what is under way then stands here, for all sessions.
    """
    try:
        found = run_control.list_runs(kind)
    except InputError as error:
        st.error(str(error), icon=":material/error:")
        return None
    with st.container(border=True, key=f"{key}_runs"):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown("**Runs**")
        head.page_link("pages/runs.py", label="All runs", icon=":material/list:")
        for each in [each for each in found if each.active]:
            _card(each, key, ("cancel",))
        over = [each for each in found if not each.active]
        for each in [each for each in over if each.status.state != "done"][:RECENT]:
            _card(each, key, ("resume",))
        return _pick([each for each in found if each.finished], key, on_pick, bool(found))


def await_run(key: str, run_id: str) -> None:
    """Have the panel of this key pick a run that was just begun when it is done, unless a person picks one before."""
    st.session_state[f"{key}_awaited"] = run_id


def labels(key: str, names: Mapping[str, str]) -> Callable[[str], str]:
    """What the widget of this key calls a run, of its id: no two the same, as a browser sends the label that is picked.

    Call it before the widget: what is picked then stays so where it is called something else now.
    """
    found = apart(names)
    if st.session_state.get(f"{key}_labels") != found:
        st.session_state[f"{key}_labels"] = found
        now = st.session_state.get(key)
        if isinstance(now, list):
            st.session_state[key] = [each for each in now if each in found]
        elif now in found:
            st.session_state[key] = now
    return lambda each: found.get(each, each)


def apart(names: Mapping[str, str]) -> dict[str, str]:
    """What things are called, by id: those of one name with their ids."""
    often = Counter(names.values())
    return {each: name if often[name] == 1 else f"{name} · {each}" for each, name in names.items()}


def _pick(done: Sequence[Record], key: str, on_pick: Picked | None, some: bool) -> Record | None:
    if not done:
        st.caption("No finished run yet." if some else "No run yet; what you begin appears here.")
        return None
    by_id = {each.id: each for each in done}
    name, awaited = f"{key}_picked", f"{key}_awaited"
    if st.session_state.get(awaited) in by_id:
        st.session_state[name] = st.session_state.pop(awaited)

    def changed() -> None:
        st.session_state.pop(awaited, None)
        chosen = by_id.get(st.session_state[name])
        if on_pick is not None and chosen is not None:
            on_pick(chosen)

    called = labels(name, {each.id: _label(each) for each in done})
    chosen = st.selectbox(
        "Finished runs",
        list(by_id),
        format_func=called,
        key=name,
        on_change=changed,
        persist_state="session",
    )
    found = by_id.get(chosen, done[0])
    if found.status.state == "done":  # of others their card says it
        _progress(found)  # why it could not go on
    return found


def _label(run: Record) -> str:
    return f"{run.title} · {when(run.asked)} · {duration(run.seconds)}"


def _card(run: Record, key: str, offered: Sequence[str]) -> None:
    """A run and what can be done with it; one that is under way is looked at every second until it has ended."""

    def draw() -> None:
        now = _read(run.id) if run.active else run
        if run.active and (now is None or not now.active):
            st.rerun()
        if now is not None:
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                _head(now)
                _actions(now, key, offered)
            _progress(now)
            warn(f"{key}_{run.id}", (state(now), now.title))

    with st.container(key=f"{key}_card_{run.id}", gap="xsmall"):
        if run.active:
            st.fragment(draw, run_every=POLL_SECONDS)()
        else:  # what its buttons do changes the page
            draw()


def _read(run_id: str) -> Record | None:
    try:
        return run_control.get_run(run_id)
    except InputError:  # another session deleted it
        return None


def state(run: Record) -> str:
    """The word for a run's state: one of `BADGES`."""
    return "damaged" if run.fault else "stopping" if run.stopping else run.status.state


def when(seconds: float) -> str:
    """A time of day as people say it, with the year only where it is another."""
    then = time.localtime(seconds)
    this_year = then.tm_year == time.localtime().tm_year
    return time.strftime("%d %b %H:%M" if this_year else "%d %b %Y", then).lstrip("0")


def plain(text: str) -> str:
    """A person's text in markdown, shown as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()<>#+-.!|~:$&" else letter for letter in text)


def _head(run: Record) -> None:
    """Title and state, and what it is."""
    colour, icon = BADGES[state(run)]
    parts = [run.kind, when(run.asked), f"worked {duration(run.seconds)}" if run.started else ""]
    st.markdown(
        f"**{plain(run.title)}** :{colour}-badge[{icon} {state(run)}]  \n"
        f":gray[:small[{plain(' · '.join(filter(None, parts)))}]]",
        width="content",
    )


def _progress(run: Record) -> None:
    """How far it is, or why it ended."""
    status = run.status
    if status.active:
        share = min(1.0, status.done / status.total) if status.total else 0.0
        told = f"{share:.1%}, {status.note}" if status.total else status.note or status.state
        st.progress(share, plain(told))
    elif status.error and status.state != "cancelled":
        st.markdown(plain(status.error.replace(f"{run.path}{os.sep}", "")))


def _actions(run: Record, key: str, offered: Sequence[str]) -> None:
    """Buttons for what can be done with a run now."""
    with st.container(horizontal=True, gap="small", width="content"):
        if "cancel" in offered and run.active:
            _button("Cancel", ":material/stop:", run, key, run_control.cancel, disabled=run.stopping)
        if "resume" in offered and run.resumable:
            _button("Resume", ":material/play_arrow:", run, key, run_control.resume)
        if "rename" in offered:
            _rename(run, key)
        if "delete" in offered and not run.active:
            _delete(run, key)


def _button(
    label: str,
    icon: str,
    run: Record,
    key: str,
    act: Callable[[str], Any],
    disabled: bool = False,
    primary: bool = False,
) -> None:
    st.button(
        label,
        icon=icon,
        key=f"{key}_{label.lower()}_{run.id}",
        disabled=disabled,
        type="primary" if primary else "secondary",
        on_click=_do,
        args=(f"{key}_{run.id}", partial(act, run.id)),
    )


def _do(place: str, act: Callable[[], Any]) -> None:
    """Do what a button says; why it was refused is shown in `place`."""
    said.say(place, "")
    try:
        act()
    except XaiError as error:
        said.say(place, str(error))


def warn(place: str, about: Hashable) -> None:
    """Show why what was asked for in `place` was refused, beside what it is about."""
    if text := said.told(place, about):
        st.warning(plain(text), icon=":material/info:")


def _rename(run: Record, key: str) -> None:
    name = f"{key}_title_{run.id}"
    with st.popover("Rename", icon=":material/edit:", key=f"{key}_rename_{run.id}", type="tertiary"):
        st.text_input("Title", run.title, max_chars=run_control.TITLE_LENGTH, key=name)
        st.button(
            "Save",
            key=f"{key}_save_{run.id}",
            on_click=lambda: _do(f"{key}_{run.id}", lambda: run_control.rename(run.id, st.session_state[name])),
        )


def _delete(run: Record, key: str) -> None:
    with st.popover("Delete", icon=":material/delete:", key=f"{key}_ask_{run.id}", type="tertiary"):
        st.markdown(f"Delete **{plain(run.title)}** and all files of it? This cannot be undone.")
        _button("Delete for good", ":material/delete:", run, key, run_control.delete, primary=True)


def all_runs(key: str = "runs") -> None:
    """The list of all runs: settings, command, log; rename, delete, resume, cancel."""
    try:
        found = run_control.list_runs()
    except InputError as error:
        st.error(str(error), icon=":material/error:")
        return
    if not found:
        _none_yet(key)
        return
    kinds = sorted({each.kind for each in found} - {""})
    if len(kinds) > 1:
        chosen = st.pills("Kinds", kinds, selection_mode="multi", key=f"{key}_kinds", label_visibility="collapsed")
        found = [each for each in found if not chosen or each.kind in chosen]
    over = [each for each in found if not each.active]
    count = st.session_state.setdefault(f"{key}_count", SHOWN)
    for each in [each for each in found if each.active] + over[:count]:
        with st.container(border=True, key=f"{key}_run_{each.id}", gap="small"):
            _card(each, key, ("cancel", "resume", "rename", "delete"))
            _details(each, key)
    if len(over) > count:
        st.button(
            f"Show more ({len(over) - count} older)",
            key=f"{key}_more",
            on_click=lambda: st.session_state.update({f"{key}_count": count + SHOWN}),
        )


def _none_yet(key: str) -> None:
    st.info(
        "Nothing has been run yet. Training, audits and evaluations of whole data sets become runs: they go on when "
        "this page is closed, and stand here with their settings and results.",
        icon=":material/info:",
    )

    warn(key, "example")
    st.button(
        "Begin an example", key=f"{key}_example", icon=":material/play_arrow:", on_click=_do, args=(key, _example)
    )
    st.caption("Grad-CAM and LayerCAM measured on 4 of the sample photographs by insertion and deletion. The same as:")
    st.code(" ".join(["python -m xai", *EXAMPLE, "--out runs/example"]), language=None, wrap_lines=True)


def _example() -> None:
    run_control.begin("evaluate", "Example: are two methods faithful?", EXAMPLE)


def _details(run: Record, key: str) -> None:
    """Settings, figures, command and log; read only where a person looks."""
    failed, done = state(run) == "failed", state(run) == "done"
    figures = done and (run.path / "summary.json").is_file()
    parts = {"Settings": True, "command": bool(run.command), "log": failed, "figures": figures}
    name = ", ".join(part for part, there in parts.items() if there)
    box = st.expander(name, key=f"{key}_details_{run.id}", on_change="rerun", type="compact")
    if not box.open:
        return
    folder = RunFolder(run.path)
    with box:
        if run.config:
            rows = settings(run.config)
            st.table({"Setting": [row[0] for row in rows], "Value": [row[1] for row in rows]}, hide_index=True)
        if run.command:
            st.markdown("**The command that makes it again**")
            st.code(run.command, language=None, wrap_lines=True)
        size = run_control.folder_bytes(run.path)
        told = f"{size / 2**20:,.1f} MB" if size >= 2**20 else f"{size / 1024:.0f} kB"
        st.caption(f"Folder: {plain(str(run.path))} ({told})")
        if failed and (lines := folder.tail()):
            st.markdown("**The end of its log**")
            st.code("\n".join(lines), language=None, wrap_lines=True)
        if figures:
            st.markdown("**Figures, with their protocol**")
            try:
                st.json(folder.summary(), expanded=1)
            except InputError as error:  # it is damaged
                st.warning(plain(str(error)), icon=":material/info:")


def watched(kind: str, draw: Callable[[Record, Sequence[Mapping[str, Any]]], None]) -> None:
    """Draw what each run of this kind has measured so far, anew while one is under way; nothing where none is."""
    try:
        active = [each for each in run_control.list_runs(kind) if each.active]
    except InputError:  # the panel says it
        return
    if not active:
        return

    def each() -> None:
        for run in active:
            try:
                if rows := RunFolder(run.path).metrics():
                    draw(run, rows)
            except InputError as error:  # a file of it is damaged
                st.warning(plain(str(error)), icon=":material/info:")

    st.fragment(each, run_every=POLL_SECONDS)()


def settings(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Settings as (name, value) texts: those inside another are named "outer.inner"; what is not set is left out."""
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            rows += settings(value, f"{before}{name}.")
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for place, each in enumerate(value, 1):
                rows += settings({f"{name} {place}": each}, before)
        elif isinstance(value, list):
            rows += [(before + name, ", ".join(map(str, value)))] if value else []
        elif value is not None and value != "":
            rows.append((before + name, f"{value:g}" if isinstance(value, float) else str(value)))
    return rows
