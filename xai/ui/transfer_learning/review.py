"""Going through the validation images: gallery, filter, one image explained, tags and notes, export."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial

import streamlit as st
from PIL import ImageOps

from xai.data.spec import DataSet, Item
from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.studies.transfer.review import ORDERS, TAGS, Seen, chosen, packed, seen
from xai.ui import downloads, runs
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.maps import caution, explain, look, pick_methods, pictures, sees
from xai.ui.transfer_learning.state import KEY, Shown
from xai.ui.transfer_learning.watched import Watched
from xai.ui.work import Recent
from xai.words import counted

PAGE = 24
"""Images of the gallery at first, and more of at a time."""
THUMBNAIL = 150
FIRST_METHODS = ("gradcam", "lrp")
EXPLAINED = "explained"
"""The anchor of the image that is explained."""

_thumbnails: Recent[str] = Recent(600)


def panel(live: Watched, shown: Shown, threshold: float) -> None:
    """The gallery of a run's validation images, and the one that was clicked."""
    data = transfer.tried(shown)
    if data is None:
        return
    rows = seen(shown.result, threshold)
    kept = _filtered(shown, rows)
    wrong = sum(not row.correct for row in rows)
    st.caption(
        f"{len(kept)} of {len(rows)} validation images; {wrong} of all are wrong. Under each: what was said, with its "
        f"probability, and the label. {runs.plain(_from(shown, threshold))}"
        + ("Synthetic images." if data.synthetic else "")
    )
    if not kept:
        st.info("No image is in this cell with this confidence; widen the filter.", icon=":material/filter_alt:")
        return
    picked = st.session_state.get(f"{KEY}_open_{shown.id}")
    row = next((each for each in rows if each.place == picked), kept[0])
    count = st.session_state.setdefault(f"{KEY}_gallery_count", PAGE)
    _gallery(kept[:count], data, shown, row)
    if len(kept) > count:
        st.button(
            f"Show more ({len(kept) - count})",
            key=f"{KEY}_gallery_more",
            on_click=lambda: st.session_state.update({f"{KEY}_gallery_count": count + PAGE}),
        )
    one(live, shown, row, data.items[row.index])
    _export(shown, kept, data, threshold)


def _from(shown: Shown, threshold: float) -> str:
    """From which probability on the second of two classes is said; "" where there are more."""
    classes = shown.result.classes
    return f"“{classes[1]}” is said from a probability of {threshold:.2f} on. " if len(classes) == 2 else ""


def _filtered(shown: Shown, rows: Sequence[Seen]) -> list[Seen]:
    """What the filters let through."""
    names = shown.result.classes
    places: list[int | None] = [None, *range(len(names))]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        only = st.segmented_control(
            "Show",
            ("wrong", "right", "all"),
            default="wrong",
            key=f"{KEY}_only",
            persist_state="session",
            required=True,
            format_func={"wrong": "Errors", "right": "Right", "all": "All"}.__getitem__,
        )
        label = st.selectbox(
            "Label",
            places,
            format_func=lambda k: "any" if k is None else names[k],
            key=f"{KEY}_label_{shown.id}",
            persist_state="session",
        )
        said = st.selectbox(
            "Predicted",
            places,
            format_func=lambda k: "any" if k is None else names[k],
            key=f"{KEY}_said_{shown.id}",
            persist_state="session",
        )
        low, high = st.slider(
            "Confidence", 0.0, 1.0, (0.0, 1.0), 0.01, key=f"{KEY}_confidence", persist_state="session"
        )
        order = st.selectbox("Order", ORDERS, key=f"{KEY}_order", persist_state="session")
    return chosen(rows, label, said, (low, high), only or "all", order)


def words(row: Seen, classes: Sequence[str]) -> str:
    """What is said under a picture."""
    sign = ":material/check:" if row.correct else ":material/close:"
    kind = {"false positive": " **FP**", "false negative": " **FN**"}.get(row.kind, "")
    said, label = runs.plain(classes[row.predicted]), runs.plain(classes[row.label])
    return f"{sign}{kind} {said} {row.confidence:.2f}  \n:gray[label {label}]"


def _gallery(rows: Sequence[Seen], data: DataSet, shown: Shown, opened: Seen) -> None:
    """Thumbnails with what was said; the one that is explained has a link down to its maps."""
    with st.container(horizontal=True, gap="small", key=f"{KEY}_gallery"):
        for row in rows:
            with st.container(width=THUMBNAIL + 12, gap="xsmall", key=f"{KEY}_tile_{row.place}"):
                picture = thumbnail(shown, row.index, data.items[row.index])
                if picture:
                    st.html(
                        f'<img alt="{_alt(row, shown)}" src="{picture}" style="width:{THUMBNAIL}px;border-radius:4px">'
                    )
                else:
                    st.caption(":material/broken_image: cannot be read")
                st.markdown(words(row, shown.result.classes))
                if row.place == opened.place:
                    st.markdown(f":material/arrow_downward: [Explained below](#{EXPLAINED})")
                    continue
                st.button(
                    "Explain",
                    key=f"{KEY}_explain_{row.place}",
                    type="tertiary",
                    icon=":material/search:",
                    on_click=lambda place=row.place: st.session_state.update({f"{KEY}_open_{shown.id}": place}),
                )


def _alt(row: Seen, shown: Shown) -> str:
    text = f"{row.key}: said {shown.result.classes[row.predicted]}, label {shown.result.classes[row.label]}"
    return "".join(letter if letter not in '"&<>' else " " for letter in text)


def thumbnail(shown: Shown, index: int, item: Item) -> str:
    """An image as a data address, square; "" where it cannot be read."""

    def make() -> str:
        try:
            image = item.open()
        except XaiError:
            return ""
        sink = io.BytesIO()
        ImageOps.pad(image, (THUMBNAIL, THUMBNAIL)).save(sink, "PNG")
        return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"

    return _thumbnails.get((shown.result.config["data_fingerprint"], index), make)


def one(live: Watched, shown: Shown, row: Seen, item: Item) -> None:
    """An image with explanations of the class that was said and of the label, by the methods chosen."""
    classes = shown.result.classes
    st.subheader(runs.plain(row.key), anchor=EXPLAINED)
    st.markdown(words(row, classes))
    methods = pick_methods(f"{KEY}_methods", FIRST_METHODS)
    how = look(f"{KEY}_look")
    other = row.label if not row.correct else next((k for k in range(len(classes)) if k != row.predicted), row.label)
    titles = {
        row.predicted: f"“{classes[row.predicted]}”, predicted" + (" and true" if row.correct else ""),
        other: f"“{classes[other]}”, " + ("the label" if not row.correct else "another class"),
    }
    left, right = st.columns([1, 3], gap="large")
    with left:
        sees(live, shown, row, item)
        _notes(shown, row)
    with right:
        for method in methods:
            said = [f"{METHODS.get(method).title}: {title}" for title in titles.values()]
            show = partial(pictures, how=how, captions=dict(enumerate(said)), width="stretch")
            explain(live, shown, row, item, method, tuple(titles), show)
            caution(method)
        st.caption(
            f"Maps of the logit of each class; {how.colors}, {how.opacity:.2f} map and {1 - how.opacity:.2f} picture."
        )


def notes(shown: Shown) -> dict[str, tuple[str, str]]:
    """(tag, note) by key, of this visitor."""
    kept: dict[str, tuple[str, str]] = st.session_state.setdefault(f"{KEY}_notes_{shown.id}", {})
    return kept


def _notes(shown: Shown, row: Seen) -> None:
    before = notes(shown).get(row.key, ("", ""))
    places = [f"{KEY}_{name}_{shown.id}_{row.place}" for name in ("tag", "note")]

    def keep() -> None:
        tag, note = (st.session_state[place] for place in places)
        if tag or note:
            notes(shown)[row.key] = (tag, note)
        else:
            notes(shown).pop(row.key, None)

    # Kept as it is given: a click on another image, without leaving the field first, takes the fields away.
    st.selectbox("Tag", TAGS, TAGS.index(before[0]), format_func=lambda t: t or "none", key=places[0], on_change=keep)
    st.text_input("Note", before[1], key=places[1], max_chars=300, on_change=keep)


def _export(shown: Shown, rows: Sequence[Seen], data: DataSet, threshold: float) -> None:
    told = shown.result.summary
    about = {
        "run": shown.name,
        "made by": shown.command,
        "validation": told["protocol"]["validation"],
        "confidence": f"softmax probability of the class that was said. {_from(shown, threshold)}".strip(),
    }
    downloads.button(
        f"Export this list ({counted(len(rows), 'image')}, CSV with pictures)",
        partial(packed, rows, data, shown.result.classes, notes(shown), about),
        f"review-{safe_name(shown.title)}.zip",
        "application/zip",
        key=f"{KEY}_export",
        icon=":material/download:",
    )
