"""Questions that follow a first look: which layer, which class, do the methods agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import streamlit as st
from torch import Tensor

from xai.explain.spec import METHODS
from xai.stats.similarity import is_constant
from xai.studies import comparison
from xai.ui import figures, tiles
from xai.ui.controls import layer
from xai.ui.grids import ask, grid
from xai.ui.live import Live
from xai.ui.session import Choice
from xai.ui.tiles import Row, class_words
from xai.ui.work import Look, Recent, Shown


def wait_for_look() -> None:
    """Said where a network has not been loaded yet."""
    st.caption("This opens when the network has been loaded.")


def one_of(looks: Sequence[Look], key: str) -> Look:
    """The network that a panel is about."""
    if len(looks) == 1:
        return looks[0]
    texts = [look.scene.net.text for look in looks]
    titles = {look.scene.net.text: look.title for look in looks}
    picked = st.selectbox("Classifier", texts, format_func=lambda text: titles[text], key=key, persist_state="session")
    return looks[texts.index(picked)]


def one_method(choice: Choice, names: Sequence[str], key: str) -> str:
    """Which of these methods a panel is about: at first one that is chosen on the page."""
    first = next((name for name in choice.methods if name in names), names[0])
    picked = st.selectbox(
        "Method",
        names,
        names.index(first),
        format_func=lambda name: METHODS.get(name).title,
        key=key,
        persist_state="session",
    )
    return str(picked)


def layers(choice: Choice, live: Live, looks: Sequence[Look]) -> None:
    """Every stage of a network at once, for one of the methods that have a layer."""
    names = [spec.name for spec in METHODS if spec.uses_layer]
    if not looks or not names:
        return wait_for_look()
    left, right = st.columns([1, 1])
    with left:
        look = one_of(looks, "mc_layers_net")
        method = one_method(choice, names, "mc_layers_method")
    with right:
        layer(choice, look, "mc_layers_layer", "Layer of the maps above")
    shown = []
    for index, info in enumerate(look.stages):
        mark = " · default" if info.path == look.default_layer else ""
        name = f"stage{index}"
        shown.append((name, f"{info.size[0]} × {info.size[1]} · {info.path}{mark}"))
        live.explain(name, ask(choice, look.scene, method, info.path, choice.target))
    grid(choice, live, "mc_layers", [Row("", tuple(shown))])
    st.caption(
        f"**{look.default_layer}** is the default in {look.title}: it is the last block that still has a place for "
        "everything, so its maps are what the class score is made from. Earlier stages have finer cells, but answer to "
        "edges and textures of any class; their maps say less about this one."
    )
    return None


def classes(choice: Choice, live: Live, looks: Sequence[Look]) -> None:
    """The same methods for two classes side by side, and how alike the two maps are."""
    if not looks:
        return wait_for_look()
    look = one_of(looks, "mc_classes_net")
    one = look.order[0] if choice.target is None else choice.target
    others = [index for index in look.order if index != one]
    unrelated = others[len(others) // 2]
    names = [spec.name for spec in METHODS if spec.family != "baseline"]
    left, right = st.columns(2)
    two = left.selectbox(
        f"Beside {look.labels[one]}",
        others,
        others.index(unrelated),
        format_func=lambda index: class_words(look, index),
        key=f"mc_classes_{look.scene.photo.sha[:8]}_{one}",
        persist_state="session",
    )
    first = [name for name in names if name in choice.methods or name in HARDLY]
    wanted = right.multiselect(
        "Methods", names, first, lambda n: METHODS.get(n).title, key="mc_classes_methods", persist_state="session"
    )
    st.caption(
        "A map that explains a class is another map for a class that is not there. At first that is the class in the "
        f"middle of the network's order, place {look.order.index(unrelated) + 1:,} of {len(look.order):,}: the picture "
        "speaks neither for it nor against it. The likeliest other class, first in the list, is often nearly a "
        "synonym. The number is Spearman's rank correlation of the two maps, signed where the method is: 1 the same "
        "order of pixels, 0 none."
    )
    columns = st.columns(2, gap="large")
    for place, name in enumerate(wanted):
        slots = (f"class.{name}.1", f"class.{name}.2")
        for slot, index in zip(slots, (one, two), strict=True):
            live.explain(slot, ask(choice, look.scene, name, choice.layers.get(look.scene.net.text), index))
        titles = (look.labels[one], look.labels[two])
        with columns[place % 2]:
            row = Row(METHODS.get(name).title, tuple(zip(slots, titles, strict=True)))
            grid(choice, live, f"mc_class_{name}", [row])
            live.find(slots, partial(_say_alike, name))
    return None


ALIKE = 0.9
"""Rank correlation from which two maps are called nearly the same."""

HARDLY = ("guided_backprop", "deconvnet")
"""Methods known to depend little on the class, offered here whether they were chosen or not."""


def _say_alike(name: str, found: Sequence[Shown]) -> None:
    value = float(alike(found, signed=True)[0, 1])
    title = METHODS.get(name).title
    if math.isnan(value):
        st.caption(f"No correlation: {_blank(found)}")
    elif value >= ALIKE:
        st.warning(f"Correlation {value:.2f}: {title} hardly depends on the class here.", icon=":material/warning:")
    else:
        st.markdown(f"Correlation {value:.2f}")


_alike: Recent[Tensor] = Recent(64)


def alike(found: Sequence[Shown], signed: bool) -> Tensor:
    """Rank correlation of every two of these maps, computed once; NaN beside a blank one."""
    key = (signed, *(tiles.map_id(each) for each in found))
    return _alike.get(key, lambda: comparison.agreement([each.attribution for each in found], signed)[0])


def _blank(found: Sequence[Shown]) -> str:
    """A sentence on the maps that have one value everywhere, "" without any."""
    flat = [_title(each, found) for each in found if bool(is_constant(each.attribution.maps())[0])]
    if not flat:
        return ""
    verb = "is blank or has" if len(flat) == 1 else "are blank or have"
    return f"{' and '.join(dict.fromkeys(flat))} {verb} one value everywhere, which is no order of pixels."


COMPARED = {"size": "Size", "sign": "Sign and size"}
"""What two maps are compared by, with its title."""


def agreement(choice: Choice, live: Live, names: Sequence[str]) -> None:
    """Do the methods agree? Rank correlation of each pair of maps on one picture."""
    if len(names) < 2:
        st.caption("Choose two methods or more to compare their maps.")
        return

    def show(found: Sequence[Shown]) -> None:
        if len(found) < 2:
            return
        titles = [_title(each, found) for each in found]
        table = alike(found, signed).tolist()
        st.plotly_chart(figures.matrix(table, titles, "Rank correlation"), width="stretch", key="mc_agreement")
        if blank := _blank(found):
            st.caption(f"Empty cells: {blank}")

    by = st.segmented_control(
        "Compare by", COMPARED, format_func=COMPARED.__getitem__, default="size", key="mc_agreement_by", required=True
    )
    signed = by == "sign"
    what = (
        "the maps as they are (signed where the method is signed)"
        if signed
        else "the sizes of the maps' values, without their sign: where both say much, for the class or against it"
    )
    st.caption(
        f"Spearman's rank correlation between {what}, at the size of the network's input: 1 the same order of pixels, "
        "0 none, -1 the reverse. Agreement is no proof that either is right."
    )
    live.find(names, show, whole=False)


def _title(one: Shown, found: Sequence[Shown]) -> str:
    several = len({each.look.title for each in found}) > 1
    return f"{one.ask.title}, {one.look.title}" if several else one.ask.title
