"""The figures of trained networks: confusion, rates, curves, calibration, and the threshold that moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from xai.training.figures import PROTOCOL, Bin, Ends, at_threshold, precision_recall, rate_ends, roc, share_ends
from xai.ui import figures, runs
from xai.ui.transfer_learning.state import KEY, Shown, called, chart, decimals, number_words, sized

COUNTS_ROW = 0.08
"""Height of a row of counts above the calibration, a run each, in units of the accuracy."""

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
            + f" Intervals: {PROTOCOL['intervals']}."
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
        f"precision (AP). Calibration error (ECE): {PROTOCOL['ece']}; the numbers along the "
        "top count the images of each bin, the bars are 95 % intervals."
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
        counted = rate_ends(*(told[name] for name in ("tp", "fp", "tn", "fn")))
        of = {name: f"{name} of {shown.result.classes[1]}" if name != "accuracy" else name for name in names}
        rows = [_row(of[name], told[name], counted[name]) for name in names]
        rows.append(_row("AUC", found.auc, found.intervals["auc"]))
        rows.append(_row("average precision", found.average_precision, found.intervals["average_precision"]))
        rows.append(_row("calibration error", found.ece, None))
        st.dataframe(rows, hide_index=True, column_config=decimals(("value",), "%.3f"))
        st.caption(
            f"At {told['threshold']:.2f}: {told['tp']} true positives, {told['fp']} false positives, {told['tn']} true "
            f"negatives, {told['fn']} false negatives."
        )
        return
    names = ("precision", "recall", "specificity", "f1", "auc")
    lines: list[tuple[str, int, Any, Any]] = [
        (each.name, each.support, {n: getattr(each, n) for n in names}, each.intervals) for each in found.by_class
    ]
    lines.append(("mean", found.count, found.macro, {n: found.intervals[f"macro_{n}"] for n in names}))
    rows = [
        {"class": name, "images": count, **{n: _with_ends(values[n], ends[n]) for n in names}}
        for name, count, values, ends in lines
    ]
    right = found.intervals["accuracy"]
    st.caption(f"Accuracy {_with_ends(found.accuracy, right)}; in brackets 95 % intervals.")
    height: Any = "content" if len(rows) <= WHOLE else "auto"
    st.dataframe(rows, hide_index=True, height=height)


def _row(name: str, value: Any, ends: Ends | None) -> dict[str, Any]:
    """A figure with its interval."""
    return {"figure": name, "value": value, "95 % interval": number_words(ends)}


def _with_ends(value: float | None, ends: Ends | None) -> str:
    """A figure with its interval in brackets; "none" where there is nothing to divide by."""
    if value is None:
        return "none"
    return f"{value:.3f}" if ends is None else f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _alike(several: Sequence[Shown]) -> list[tuple[int, Shown]]:
    """The runs with the classes of the first, each with its place, which gives its colour in every figure."""
    return [pair for pair in enumerate(several) if pair[1].result.classes == several[0].result.classes]


def _roc(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in _alike(several):
        found = roc(each.result.labels, each.result.probabilities[:, positive], positive)
        own = each.result.figures().by_class[positive]
        _line(figure, found, place, f"AUC {_with_ends(own.auc, own.intervals['auc'])}", several)
    _diagonal(figure, "chance")
    if told is not None and told["recall"] is not None and told["specificity"] is not None:
        _point(figure, 1 - told["specificity"], told["recall"], told["threshold"])
    return _square(figure, "false positive rate (1 - specificity)", "true positive rate (recall)", several)


def _precision_recall(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in _alike(several):
        found = precision_recall(each.result.labels, each.result.probabilities[:, positive], positive)
        own = each.result.figures().by_class[positive]
        area = _with_ends(own.average_precision, own.intervals["average_precision"])
        _line(figure, found, place, f"AP {area}", several)
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
        _counts(figure, known, place)
    _diagonal(figure, "perfect")
    _square(figure, "mean winning probability of the bin", "accuracy of the bin", several)
    return figure.update_yaxes(range=[-0.02, 1.14 + COUNTS_ROW * len(several)], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1])


def _counts(figure: go.Figure, known: Sequence[Bin], place: int) -> None:
    """How far each bin's accuracy is known (Wilson's 95 % interval), and above it the number of its images."""
    color = f"rgb({figures.COLORS[place % len(figures.COLORS)]})"
    accuracy = [each.accuracy or 0.0 for each in known]
    ends = [
        share_ends(value * each.count, each.count) or (0.0, 1.0) for value, each in zip(accuracy, known, strict=True)
    ]
    figure.data[-1].update(
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - value) for value, (_, high) in zip(accuracy, ends, strict=True)],
            "arrayminus": [max(0.0, value - low) for value, (low, _) in zip(accuracy, ends, strict=True)],
            "thickness": 1,
            "width": 3,
        }
    )
    figure.add_scatter(
        x=[each.confidence for each in known],
        y=[1.1 + COUNTS_ROW * place] * len(known),
        mode="text",
        text=[str(each.count) for each in known],
        textfont={"color": color, "size": 12},
        showlegend=False,
        hoverinfo="skip",
    )


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
