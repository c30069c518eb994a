"""One's own photograph: draw a box, recolour what is inside, ask again, and see where the network looks both times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st
import torch
from PIL import Image

from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.images import render
from xai.images.decode import SUPPORTED_SUFFIXES, image_digest
from xai.images.recolour import box_mask, lightness, mirrored, recolour
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.settings import MAX_UPLOAD_BYTES
from xai.types import Attribution
from xai.ui import downloads, figures, held, runs
from xai.ui.bias_audit.pictures import explained, over, pick_method, seen_part, told
from xai.ui.bias_audit.state import KEY, Result
from xai.ui.browser import component
from xai.ui.nets import net_names, net_title
from xai.ui.picture import preview
from xai.ui.work import Photo, samples

FIRST = "chelsea"
AUDITED = "audited"
"""The choice of the network whose audit is shown."""

VIEW_SIDE = 640
SHOWN = 300

_box = component("olhar_box", ("bias_audit/box.js",), "bias_audit/box.css")


@dataclass(frozen=True)
class Change:
    """What is recoloured: the box in percent of the sides, lightness inside before and after, and degrees of hue."""

    across: tuple[int, int]
    down: tuple[int, int]
    mean: float
    to: int
    turn: int


def photograph(found: Result) -> None:
    """What would the network say were this part the other colour? A box on a photograph, before and after."""
    st.markdown("**Your own photograph: recolour a box and ask again**")
    left, right = st.columns([2, 3], gap="large")
    try:
        with left:
            photo, network = _choice(found)
            image = photo.decoded()
            change = _change(photo, image)
        mask = box_mask(_pixels(change, image), image.size)
        changed = recolour(image, mask, float(change.to), float(change.turn))
        with right:
            _show(network, image, changed, change, photo.sha)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")


def _choice(found: Result) -> tuple[Photo, Classifier]:
    """The photograph and the classifier; raises what reading and loading raise."""
    names = list(samples())
    own = f"{KEY}_photo_taken"  # the uploader forgets when another tab is looked at
    name = st.selectbox(
        "Photograph",
        names,
        index=names.index(FIRST) if FIRST in names else 0,
        key=f"{KEY}_photo",
        persist_state="session",
        on_change=lambda: st.session_state.pop(own, None),
    )

    def take() -> None:
        file: Any = st.session_state.get(f"{KEY}_photo_own")
        st.session_state[own] = file and (file.name, file.getvalue())

    kinds = [suffix.removeprefix(".") for suffix in SUPPORTED_SUFFIXES]
    most = MAX_UPLOAD_BYTES // 2**20
    st.file_uploader("or your own", type=kinds, max_upload_size=most, key=f"{KEY}_photo_own", on_change=take)
    held.keep(own, "picture", (st.session_state.get(own) or ("",))[0], name)
    nets = [*net_names(), AUDITED]
    chosen = str(
        st.selectbox(
            "Classifier",
            nets,
            format_func=lambda each: "The network of the audit above" if each == AUDITED else net_title(each),
            key=f"{KEY}_photo_model",
            persist_state="session",
        )
    )
    photo = samples()[str(name)]
    if taken := st.session_state.get(own):
        called, data = taken
        st.caption(runs.plain(f"{called}, until another photograph is chosen"))
        photo = Photo(image_digest(data), called, "", data)
    photo.decoded()
    network = found.classifier() if chosen == AUDITED else load_model(chosen)
    if network.random:
        st.caption(":red-background[Random weights]: its answers mean nothing; only the mechanics are shown.")
    return photo, network


def _change(photo: Photo, image: Image.Image) -> Change:
    """The box, drawn or by sliders, and what happens inside."""
    across_key, down_key = f"{KEY}_across", f"{KEY}_down"
    st.session_state.setdefault(across_key, (25, 75))
    st.session_state.setdefault(down_key, (20, 90))
    (left, right), (top, bottom) = st.session_state[across_key], st.session_state[down_key]

    def drawn() -> None:
        box = getattr(st.session_state.get(f"{KEY}_box"), "box", None)
        if taken := percents(box):
            st.session_state[across_key], st.session_state[down_key] = taken

    _box(
        key=f"{KEY}_box",
        data={
            "picture": preview(photo, VIEW_SIDE),
            "alt": f"The photograph, {photo.name}",
            "ratio": image.width / image.height,
            "box": [left / 100, top / 100, right / 100, bottom / 100],
        },
        on_box_change=drawn,
    )
    across: Any = st.slider("Box, left to right", 0, 100, format="%d %%", key=across_key, persist_state="session")
    down: Any = st.slider("Box, top to bottom", 0, 100, format="%d %%", key=down_key, persist_state="session")
    empty = Change(across, down, 0.0, 0, 0)
    mean = lightness(image, box_mask(_pixels(empty, image), image.size))
    name = f"{KEY}_lightness_{photo.sha[:12]}_{across}_{down}"
    to = st.slider("Lightness L* inside", 0, 100, round(mirrored(mean)), key=name, persist_state="session")
    turn = st.slider("Hue, turned by degrees", -180, 180, 0, key=f"{KEY}_turn", persist_state="session")
    return Change(across, down, mean, to, turn)


def percents(box: Any) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """((left, right), (top, bottom)) in whole percent from what the browser sent; None for what is no box."""
    if not isinstance(box, Sequence) or len(box) != 4 or not all(isinstance(each, int | float) for each in box):
        return None
    left, top, right, bottom = (round(100 * min(max(float(each), 0.0), 1.0)) for each in box)
    return ((left, right), (top, bottom)) if left < right and top < bottom else None


def _pixels(change: Change, image: Image.Image) -> tuple[float, float, float, float]:
    (left, right), (top, bottom) = change.across, change.down
    width, height = image.width / 100, image.height / 100
    return left * width, top * height, right * width, bottom * height


def _show(network: Classifier, image: Image.Image, changed: Image.Image, change: Change, sha: str) -> None:
    """Both pictures with the map of each below, the probabilities, and how it was done."""
    method = pick_method(network, 1, f"{KEY}_photo_method")
    first = explained(network, [image], method, (sha,))
    then = explained(network, [changed], method, (sha, repr(change)))
    st.markdown(told(network, first, then, 0))
    if torch.equal(*(network.preprocess(each) for each in (image, changed))):
        st.info("The box lies outside what the network sees of this photograph: for it nothing has changed.")
    for place, picture, maps, word in zip(
        st.columns(2), (image, changed), (first, then), ("As it is", "Recoloured"), strict=True
    ):
        _column(place, network, picture, maps, word)
    st.caption(
        f"Inside the box mean lightness L* {change.mean:.0f} → {change.to}, hue turned by {change.turn}°, in CIE Lab; "
        f"texture kept, other pixels equal. Below, {METHODS.get(method).title} of the predicted class of each, on its "
        f"own scale, over the part that the network sees. {runs.plain(network.title)}, weights "
        f"{runs.plain(network.weights)}."
    )


def _column(place: Any, network: Classifier, picture: Image.Image, maps: Attribution, word: str) -> None:
    shown = picture.copy()
    shown.thumbnail((2 * SHOWN, 2 * SHOWN))
    answer = int(maps.logits[0].argmax())
    called = f"{network.labels[answer]} {float(maps.probabilities()[0, answer]):.0%}"
    title = METHODS.get(maps.method).title
    with place:
        st.markdown(f"{word}: {runs.plain(called)}")
        st.image(shown, output_format="PNG", width="stretch", alt=f"The photograph, {word.lower()}, called {called}")
        mapped = over(seen_part(picture, network, "crop"), maps, 0, SHOWN)
        st.image(mapped, output_format="PNG", width="stretch", alt=f"{title}, {word.lower()}")
        figures.color_bar(maps.signed, sentence=render.scale_for([maps]).sentence)
        downloads.button(
            "Map, PNG",
            partial(render.png_bytes, mapped),
            f"olhar-bias-{word.lower().replace(' ', '-')}.png",
            "image/png",
            key=f"{KEY}_png_{word}",
        )
