"""Between runs: images that flip, their maps side by side, and how much of the maps lies on the object."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from xai.data._spec import DataSet
from xai.errors import XaiError
from xai.explain._spec import METHODS
from xai.explain.call import applicability
from xai.studies.review import Flip, Inside, flips, inside, seen
from xai.ui import runs, transfer
from xai.ui.transfer import KEY, Shown, chart
from xai.ui.transfer_review import Look, drawn, explained, look, words
from xai.ui.work import Recent

METHODS_OF_STUDY = ("gradcam", "lrp", "deconvnet")
FEWEST, MOST = 8, 200

_inside: Recent[Inside] = Recent(64)


def flipped(several: Sequence[Shown]) -> None:
    """Images that one run gets right and another wrong, with the maps of both."""
    if len(several) < 2:
        st.info(
            "Choose a run beside this one, on the same images, to see where they differ.", icon=":material/compare:"
        )
        return
    first = several[0]
    titles = {each.id: each.name for each in several[1:]}
    second_id = st.selectbox("Against", list(titles), format_func=titles.__getitem__, key=f"{KEY}_against")
    second = next(each for each in several if each.id == second_id)
    every = st.toggle("Any image, not only those that flip", key=f"{KEY}_flip_every")
    try:
        found = flips(first.result, second.result)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    gained = sum(flip.first.correct for flip in found)
    st.markdown(
        f"**{len(found)} images flip**: {gained} only {runs.plain(first.name)} gets right, {len(found) - gained} only "
        f"{runs.plain(second.name)}."
    )
    data = transfer.tried(first)
    shown = flips(first.result, second.result, every=True) if every else found
    if not shown or data is None:
        return
    names = {flip.index: _named(flip, first, second) for flip in shown}
    index = st.selectbox("Image", list(names), format_func=names.__getitem__, key=f"{KEY}_flip")
    how = look(f"{KEY}_flip_look")
    _side_by_side(next(flip for flip in shown if flip.index == index), (first, second), data, how)


def _named(flip: Flip, first: Shown, second: Shown) -> str:
    """What the list of images calls one."""
    if flip.first.correct == flip.second.correct:
        return f"{flip.key}: {'right' if flip.first.correct else 'wrong'} in both"
    return f"{flip.key}: right in {first.title if flip.first.correct else second.title}"


def _side_by_side(flip: Flip, pair: tuple[Shown, Shown], data: DataSet, how: Look) -> None:
    for place, shown, row in zip(st.columns(2, gap="large"), pair, (flip.first, flip.second), strict=True):
        with place:
            st.markdown(f"**{runs.plain(shown.name)}**  \n{words(row, shown.result.classes)}")
            try:
                with st.spinner("Explaining …"):
                    classifier = transfer.network(shown, row.fold)
                    x = classifier.preprocess(data.items[flip.index].open(), shown.result.config["view"])
                    for name in METHODS_OF_STUDY:
                        reason = applicability(classifier, name)
                        title = METHODS.get(name).title
                        if reason.status == "refused":
                            st.caption(f"**{title}** does not apply: {reason.sentence}.")
                            continue
                        found = explained(classifier, (shown.id, row.place), x, name, row.predicted)
                        said = f"{title} for “{shown.result.classes[row.predicted]}”, what was said"
                        st.image(drawn(x, found, how, [found]), caption=said, output_format="PNG", width=260)
            except (XaiError, OSError) as error:
                st.warning(runs.plain(str(error)), icon=":material/info:")


def on_object(several: Sequence[Shown]) -> None:
    """Share of the maps inside the objects' masks against chance, for each network, with its interval."""
    st.markdown(
        "Where the objects' masks are known, “looks at the background” is a number: the share of a map's positive mass "
        "inside the mask, less the mask's share of the picture, which is what a map without a clue would have."
    )
    left, right = st.columns(2)
    names = [spec.name for spec in METHODS if spec.family != "baseline"]
    method = left.selectbox(
        "Method", names, names.index("gradcam"), format_func=lambda n: METHODS.get(n).title, key=f"{KEY}_inside"
    )
    count = right.slider("Validation images with an object", FEWEST, MOST, 24, key=f"{KEY}_inside_count")
    measured: list[tuple[Shown, Inside]] = []
    for shown in several:
        data = transfer.tried(shown)
        if data is None:
            continue
        try:
            measured.append((shown, _measured(shown, data, method, count)))
        except XaiError as error:
            st.caption(f"**{runs.plain(shown.name)}**: {runs.plain(str(error))}")
    if not measured:
        return
    chart(_bars(measured), "inside")
    st.dataframe(
        [
            {
                "Run": shown.name,
                "Inside the object": float(found.share.mean()),
                "Chance": float(found.chance.mean()),
                "Above chance": found.above.mean,
                "from": found.above.low,
                "to": found.above.high,
                "Images": found.above.n,
            }
            for shown, found in measured
        ],
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.3f")
            for name in ("Inside the object", "Chance", "Above chance", "from", "to")
        },
    )
    st.caption(runs.plain(measured[0][1].protocol) + ".")


def _measured(shown: Shown, data: DataSet, method: str, count: int) -> Inside:
    """Over the first `count` validation images whose class has an object, spread over the set."""
    rows = [row for row in seen(shown.result) if row.fold == 1]
    masked = [row for row in rows if data.items[row.index].open_mask is not None]
    if set(shown.result.classes) == {"no", "yes"}:
        masked = [row for row in masked if shown.result.classes[row.label] == "yes"]
    items = [data.items[row.index] for row in masked[:count]]

    def make() -> Inside:
        with st.spinner(f"Explaining {len(items)} images with {shown.title} …"):
            return inside(transfer.network(shown), items, method, shown.result.config["view"])

    return _inside.get((str(shown.result.path), method, tuple(item.key for item in items)), make)


def _bars(measured: Sequence[tuple[Shown, Inside]]) -> go.Figure:
    names = ["<br>".join(textwrap.wrap(shown.name, 22)) for shown, _ in measured]
    figure = go.Figure(
        go.Bar(
            x=[found.above.mean for _, found in measured],
            y=names,
            orientation="h",
            marker={"color": "rgb(0, 114, 178)"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [found.above.high - found.above.mean for _, found in measured],
                "arrayminus": [found.above.mean - found.above.low for _, found in measured],
            },
            hovertemplate="%{y}: %{x:.3f} above chance<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": "gray", "dash": "dot"})
    figure.update_xaxes(title="share inside the object above chance,<br>with 95 % interval")
    figure.update_yaxes(title="run", autorange="reversed", type="category", automargin=True)
    figure.update_layout(height=150 + 60 * len(names), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure
