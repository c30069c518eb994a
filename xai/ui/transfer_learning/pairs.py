"""Between runs: images that some get right and others wrong, explained by every network side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from xai.data.spec import DataSet
from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.studies.transfer.review import Flip, difference_of, flips
from xai.ui import runs
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.maps import Look, caution, explain, look, pick_methods, pictures, sees
from xai.ui.transfer_learning.review import words
from xai.ui.transfer_learning.state import KEY, Shown
from xai.ui.transfer_learning.watched import Watched
from xai.words import counted

METHODS_OF_STUDY = ("gradcam", "lrp", "deconvnet")

FEWEST_COLUMNS = 3
"""Columns of the page at least, so that two networks' maps do not become larger than they are."""


def flipped(live: Watched, several: Sequence[Shown]) -> None:
    """Images that some runs get right and others wrong, with the maps of all."""
    if len(several) < 2:
        st.info(
            "Choose a run beside this one, on the same images, to see where they differ.", icon=":material/compare:"
        )
        return
    try:
        every = flips(*(each.result for each in several), every=True)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    found = [flip for flip in every if 0 < flip.right < len(several)]
    alone = [sum(flip.right == 1 and flip.rows[place].correct for flip in found) for place in range(len(several))]
    told = ", ".join(f"{count} by {runs.plain(each.title)}" for each, count in zip(several, alone, strict=True))
    st.markdown(
        f"**{counted(len(found), 'image flips', 'images flip')}** of {len(every)} that all were "
        f"validated on. Got right by one run alone: {told}. "
        "What a network says is its most probable class here, wherever the threshold of the figures stands."
    )
    st.markdown("  \n".join(_verdicts(several)))
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        methods = pick_methods(f"{KEY}_flip_methods", METHODS_OF_STUDY)
    shown = (
        every
        if right.toggle("Any image, not only those that flip", key=f"{KEY}_flip_every", persist_state="session")
        else found
    )
    data = transfer.tried(several[0])
    if not shown or data is None:
        return
    labels = {flip.index: _named(flip, several) for flip in shown}
    index = st.selectbox(
        "Image", list(labels), format_func=labels.__getitem__, key=f"{KEY}_flip", persist_state="session"
    )
    how = look(f"{KEY}_flip_look")
    _side_by_side(live, next(flip for flip in shown if flip.index == index), several, data, methods, how)


def _verdicts(several: Sequence[Shown]) -> list[str]:
    """Whether the first run is shown to be more accurate than each of the others, or less."""
    first = several[0]
    found = [difference_of(first.result, each.result).verdict(first.title, each.title) for each in several[1:]]
    return [runs.plain(each) for each in found]


def _named(flip: Flip, several: Sequence[Shown]) -> str:
    """What the list of images calls one."""
    if flip.right in (0, len(several)):
        everywhere = "both" if len(several) == 2 else "all"
        return f"{flip.key}: {'right' if flip.right else 'wrong'} in {everywhere}"
    right = [each.title for each, row in zip(several, flip.rows, strict=True) if row.correct]
    return f"{flip.key}: right in {', '.join(right)}"


def _side_by_side(
    live: Watched, flip: Flip, several: Sequence[Shown], data: DataSet, methods: Sequence[str], how: Look
) -> None:
    """A column a run: what it sees and says, and below a row of maps for each method."""
    item, wide = data.items[flip.index], max(FEWEST_COLUMNS, len(several))
    runs_of = tuple(zip(several, flip.rows, strict=True))
    for place, (shown, row) in zip(st.columns(wide), runs_of, strict=False):
        with place:
            badges = "".join(f" :orange-badge[{mark}]" for mark in shown.marks)
            st.markdown(f"**{runs.plain(shown.title)}**{badges}  \n{words(row, shown.result.classes)}")
            sees(live, shown, row, item)
    for method in methods:
        caution(method)
        for place, (shown, row) in zip(st.columns(wide), runs_of, strict=False):
            with place:
                answer = shown.result.classes[row.predicted]
                said = f"{METHODS.get(method).title}, {shown.title}: “{answer}”, what was said"
                show = partial(pictures, how=how, captions={0: said}, width="stretch")
                explain(live, shown, row, item, method, (row.predicted,), show)
