"""The figures of trained networks: confusion, rates, curves, calibration, and the threshold that moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from xai.training.figures import PROTOCOL, at_threshold, precision_recall, roc
from xai.ui import figures, runs
from xai.ui.transfer import KEY, Shown, called, chart, decimals, sized

WHOLE = 25
"""Rows of the rates that are shown without scrolling."""


def measured(several: Sequence[Shown]) -> float:
    """Confusion matrix, rates, ROC, precision-recall, calibration; the threshold that the slider says."""
    main = several[0]
    pair = len(main.result.classes) == 2
    threshold = 0.5
    if pair:
        threshold = st.slider(
            f"Say “{main.result.classes[1]}” from this probability on",
            0.0,
            1.0,
            0.5,
            0.01,
            key=f"{KEY}_threshold",
            help="Moves the confusion matrix, the rates, the points on the curves and the gallery of the review.",
            persist_state="session",
        )
    told = at_threshold(main.result.labels, main.result.probabilities[:, 1], threshold) if pair else None
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Confusion matrix**")
        chart(_confusion(main, told), "confusion")
    with right:
        st.markdown("**Rates**")
        _rates(main, told)
        st.caption(
            " ".join(f"{name.capitalize()}: {PROTOCOL[name]}." for name in ("precision", "recall", "specificity", "f1"))
        )
    positive = 1
    if not pair:
        names = list(main.result.classes)
        positive = names.index(
            st.selectbox("Curves of the class, against the rest", names, key=f"{KEY}_positive", persist_state="session")
        )
    left, middle, right = st.columns(3)
    with left:
        chart(_roc(several, positive, told), "roc")
    with middle:
        chart(_precision_recall(several, positive, told), "precision-recall")
    with right:
        chart(_calibration(several), "calibration")
    st.caption(
        f"ROC and precision-recall of “{runs.plain(main.result.classes[positive])}”, with area (AUC) and average "
        f"precision (AP). Calibration error (ECE): {PROTOCOL['ece']}."
        + "".join(
            f" {runs.plain(each.title)} has other classes: only in the calibration."
            for each in several
            if each.result.classes != main.result.classes
        )
    )
    return threshold


def _confusion(shown: Shown, told: Mapping[str, Any] | None) -> go.Figure:
    names = list(shown.result.classes)
    if told is None:
        table = np.array(shown.result.figures().confusion)
    else:
        table = np.array([[told["tn"], told["fp"]], [told["fn"], told["tp"]]])
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            colorscale="Blues",
            text=table,
            texttemplate="%{text}",
            hovertemplate="label %{y}, predicted %{x}: %{text} images, %{z:.1%} of the label's<extra></extra>",
            colorbar={"title": "share of<br>the label", "thickness": 12},
        )
    )
    figure.update_xaxes(title="predicted", type="category")
    figure.update_yaxes(title="label", autorange="reversed", type="category")
    figure.update_layout(height=150 + 40 * max(4, len(names)), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def _rates(shown: Shown, told: Mapping[str, Any] | None) -> None:
    found = shown.result.figures()
    if told is not None:
        names = ("accuracy", "precision", "recall", "specificity", "f1")
        rows = [
            {"figure": f"{name} of {shown.result.classes[1]}" if name != "accuracy" else name, "value": told[name]}
            for name in names
        ]
        rows += [
            {"figure": "AUC", "value": found.auc},
            {"figure": "average precision", "value": found.average_precision},
        ]
        rows += [{"figure": "calibration error", "value": found.ece}]
        st.dataframe(rows, hide_index=True, column_config=decimals(("value",), "%.4f"))
        st.caption(
            f"At {told['threshold']:.2f}: {told['tp']} true positives, {told['fp']} false positives, {told['tn']} true "
            f"negatives, {told['fn']} false negatives."
        )
        return
    names = ("precision", "recall", "specificity", "f1", "auc")
    rows = [
        {"class": each.name, "images": each.support, **{n: getattr(each, n) for n in names}} for each in found.by_class
    ]
    rows.append({"class": "mean", "images": found.count, **{n: found.macro[n] for n in names}})
    height: Any = "content" if len(rows) <= WHOLE else "auto"
    st.dataframe(rows, hide_index=True, height=height, column_config=decimals(names, "%.3f"))


def _alike(several: Sequence[Shown]) -> list[tuple[int, Shown]]:
    """The runs with the classes of the first, each with its place, which gives its colour in every figure."""
    return [pair for pair in enumerate(several) if pair[1].result.classes == several[0].result.classes]


def _roc(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in _alike(several):
        found = roc(each.result.labels, each.result.probabilities[:, positive], positive)
        auc = each.result.figures().by_class[positive].auc
        _line(figure, found, place, f"AUC {auc:.3f}" if auc is not None else "AUC none", several)
    _diagonal(figure, "chance")
    if told is not None and told["recall"] is not None and told["specificity"] is not None:
        _point(figure, 1 - told["specificity"], told["recall"], told["threshold"])
    return _square(figure, "false positive rate (1 - specificity)", "true positive rate (recall)", several)


def _precision_recall(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in _alike(several):
        found = precision_recall(each.result.labels, each.result.probabilities[:, positive], positive)
        area = each.result.figures().by_class[positive].average_precision
        _line(figure, found, place, f"AP {area:.3f}" if area is not None else "AP none", several)
    if told is not None and told["recall"] is not None and told["precision"] is not None:
        _point(figure, told["recall"], told["precision"], told["threshold"])
    return _square(figure, "recall", "precision", several)


def _calibration(several: Sequence[Shown]) -> go.Figure:
    figure = go.Figure()
    for place, each in enumerate(several):
        found = each.result.figures()
        known = [each_bin for each_bin in found.bins if each_bin.count]
        points = {"x": [b.confidence for b in known], "y": [b.accuracy for b in known]}
        _line(figure, points, place, f"ECE {found.ece:.3f}", several, [b.count for b in known])
    _diagonal(figure, "perfect")
    return _square(figure, "mean winning probability of the bin", "accuracy of the bin", several)


def _diagonal(figure: go.Figure, name: str) -> None:
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "gray", "dash": "dot", "width": 1},
        name=name,
        hoverinfo="skip",
    )


def _line(
    figure: go.Figure,
    found: Mapping[str, Any],
    place: int,
    measure: str,
    several: Sequence[Shown],
    counts: Any = None,
) -> None:
    color = f"rgb({figures.COLORS[place % len(figures.COLORS)]})"
    figure.add_scatter(
        x=found["x"],
        y=found["y"],
        name=f"{measure}, {called(several)[0][place]}" if len(several) > 1 else measure,
        mode="lines+markers" if counts else "lines",
        line={"color": color, "width": 2},
        customdata=counts or found.get("threshold"),
        hovertemplate="%{x:.3f}, %{y:.3f} ("
        + ("%{customdata} images" if counts else "threshold %{customdata:.2f}")
        + ")<extra></extra>",
    )


def _point(figure: go.Figure, x: float, y: float, threshold: float) -> None:
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"size": 11, "color": f"rgb({figures.COLORS[1]})"},
        name=f"at {threshold:.2f}",
        hovertemplate="%{x:.3f}, %{y:.3f}<extra></extra>",
    )


def _square(figure: go.Figure, x: str, y: str, several: Sequence[Shown]) -> go.Figure:
    figure.update_xaxes(title=x, range=[-0.02, 1.02])
    figure.update_yaxes(title=y, range=[-0.02, 1.04])
    sized(figure, len(several), 350, called(several)[1])
    figure.update_layout(hovermode="closest")
    return figure
