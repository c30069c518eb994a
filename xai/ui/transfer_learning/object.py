"""Do the networks look at the object? Share of their maps inside its mask against chance, for every run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import plotly.graph_objects as go
import streamlit as st

from xai.data.spec import DataSet
from xai.explain.spec import METHODS
from xai.studies.transfer.review import Inside, inside_run
from xai.types import Run
from xai.ui import runs
from xai.ui.jobs import SLOW_SECONDS, Job
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.maps import failed, stopped
from xai.ui.transfer_learning.state import KEY, Shown, chart
from xai.ui.transfer_learning.watched import Watched
from xai.words import counted

FEWEST, MOST, USUAL = 8, 200, 24


def panel(live: Watched, several: Sequence[Shown]) -> None:
    """Choose a method, how many images and which folds; measure every run; figure, table and protocol."""
    st.markdown(
        "Where the objects' masks are known, “looks at the background” is a number: the share of a map's positive mass "
        "inside the mask, less the mask's share of the picture, which is what a map without a clue would have."
    )
    left, middle, right = st.columns(3)
    names = [spec.name for spec in METHODS if spec.family != "baseline"]
    method = left.selectbox(
        "Method",
        names,
        names.index("gradcam"),
        format_func=lambda n: METHODS.get(n).title,
        key=f"{KEY}_inside",
        persist_state="session",
    )
    count = middle.slider(
        "Validation images with an object", FEWEST, MOST, USUAL, key=f"{KEY}_inside_count", persist_state="session"
    )
    folds = max(len(each.result.summary["folds"]) for each in several)
    fold: int | None = None
    if folds:
        fold = right.selectbox(
            "Networks of a run with folds",
            [None, *range(1, folds + 1)],
            format_func=lambda k: "all, each on its own fold" if k is None else f"fold {k}",
            key=f"{KEY}_inside_fold",
            persist_state="session",
        )
    measured: dict[str, tuple[Shown, Inside]] = {}
    live.gather(partial(_show, several, measured))
    for shown in several:
        data = transfer.tried(shown)
        if data is not None:
            _ask(live, shown, data, method, count, fold if shown.result.summary["folds"] else None, measured)


def _ask(
    live: Watched,
    shown: Shown,
    data: DataSet,
    method: str,
    count: int,
    fold: int | None,
    measured: dict[str, tuple[Shown, Inside]],
) -> None:
    """Have a run measured; what comes out goes to `measured`, and why nothing does is said."""
    key = ("transfer inside", *shown.ident, method, count, fold)
    if stopped(live, key, f"Measure {shown.title}"):
        return

    def work(run: Run) -> Inside:
        return inside_run(shown.result, data.items, partial(transfer.network, shown), method, count, fold, run)

    def told(job: Job) -> None:
        if isinstance(job.result, Inside):
            measured[shown.id] = shown, job.result
        else:
            failed(job)

    live.work(key, f"Explaining {counted(count, 'image')} with {shown.title}", work, told, cost=SLOW_SECONDS)


def _show(several: Sequence[Shown], by_id: Mapping[str, tuple[Shown, Inside]]) -> None:
    """Figure, table and protocol of the runs that are measured."""
    measured = [by_id[each.id] for each in several if each.id in by_id]
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
                "Blank maps": found.blank,
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
