"""Curves, tables and figures of the transfer page."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from xai import run_control
from xai.files import safe_name
from xai.models.exported import export_network
from xai.studies.transfer import comparison
from xai.training.figures import PROTOCOL, at_threshold, precision_recall, roc
from xai.ui import figures, runs, transfer, transfer_form
from xai.ui.transfer import KEY, PACKED, Shown, chart, sized

MORE = 30
"""Epochs that a finished run is offered to learn on, as study 4 did."""

LAST = {
    "epoch": "Epoch",
    "train_accuracy": "Accuracy",
    "validation_accuracy": "Validation accuracy",
    "train_loss": "Loss",
    "validation_loss": "Validation loss",
    "seconds": "Seconds",
}
COMPARED = {
    "title": "Run",
    "model": "Network",
    "head": "Head",
    "trainable": "What learns",
    "accuracy": "Validation accuracy",
    "loss": "Validation loss",
    "seconds": "Time, s",
    "epochs": "Epochs",
    "parameters": "Parameters",
    "trained_parameters": "Trained parameters",
    "marks": "Marks",
}


def headline(shown: Shown) -> None:
    """What came out, in four numbers with their protocol."""
    told = shown.result.summary
    places = st.container(horizontal=True, gap="small")
    places.metric("Validation accuracy", f"{told['accuracy']:.1%}", border=True)
    places.metric("Validation loss", f"{told['loss']:.3f}", border=True)
    places.metric("AUC", "none" if told["auc"] is None else f"{told['auc']:.3f}", border=True)
    places.metric("Trained parameters", f"{told['trained_parameters']:,}", border=True)
    places.metric("Time", f"{told['seconds']['all']:.0f} s", border=True)
    marks = "".join(f" :orange-badge[{mark}]" for mark in shown.marks)
    st.markdown(f"**{runs.plain(shown.title)}**{marks}")
    st.caption(
        f"{told['images']['training']} images for training, "
        f"{told['images']['validation']} for validation; {told['epochs']} epochs{_early(told)} on {told['device']}; "
        f"{runs.plain(told['protocol']['validation'])}. Accuracy: {PROTOCOL['accuracy']}."
    )
    if repeated := told.get("repeated", 0):
        st.warning(f"{repeated} of these are {runs.plain(told['protocol']['repeated'])}.", icon=":material/warning:")
    if told["left_out"]:
        with st.expander(f"{len(told['left_out'])} files were left out"):
            st.dataframe(told["left_out"], hide_index=True)


def _early(told: Mapping[str, Any]) -> str:
    """Whether patience ended a run, and which epoch's weights it has."""
    if not told["recipe"]["patience"]:
        return ""
    return f" ({'stopped early, ' if told['stopped_early'] else ''}weights of epoch {told['kept_epoch']})"


def curves(several: Sequence[Shown]) -> None:
    """Accuracy and loss of every run, the last five epochs, the comparison, the folds."""
    lines = [(each.name, each.result.history) for each in several]
    left, right = st.columns(2, gap="large")
    with left:
        chart(transfer.learning(lines, "accuracy"), "accuracy")
    with right:
        chart(transfer.learning(lines, "loss"), "loss")
    st.caption(
        "Training figures are means over an epoch's steps while it learns, with dropout; validation figures follow it."
    )
    main = several[0]
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**The last five epochs**")
        rows = [{LAST[name]: row[name] for name in LAST} for row in main.result.summary["last_epochs"]]
        st.dataframe(rows, hide_index=True, column_config=_decimals(LAST.values(), "%.4f", whole=("Epoch",)))
    with right:
        st.markdown("**Every epoch as a file**")
        st.download_button(
            "CSV",
            _history_csv(main),
            f"{safe_name(main.title)}-epochs.csv",
            "text/csv",
            key=f"{KEY}_csv",
            on_click="ignore",
        )
        st.caption("The command that makes this run again")
        st.code(main.command, language=None, wrap_lines=True)
        if main.id not in PACKED:
            _go_on(main)
    st.markdown("**Runs compared**" if len(several) > 1 else "**In one row**")
    compared(several)
    folds(main)


def _go_on(shown: Shown) -> None:
    """More epochs for a finished run, and its network as a file for elsewhere."""
    total = shown.result.config["recipe"]["epochs"]
    early = shown.result.summary["stopped_early"]
    record = run_control.record(shown.result.path)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.number_input("More epochs", 1, 1000, MORE, key=f"{KEY}_more_{shown.id}", width=130)
        st.button(
            "Learn on",
            icon=":material/play_arrow:",
            key=f"{KEY}_learn_on_{shown.id}",
            disabled=not record.words or record.active or early,
            help="Its patience has run out: more epochs would not be learned." if early else None,
            on_click=transfer_form.more,
            args=(shown.id, total + count, record.words),
        )
        st.download_button(
            "The network as a file",
            lambda: _network_file(shown),
            f"{safe_name(shown.title)}.zip",
            "application/zip",
            key=f"{KEY}_network_{shown.id}",
            on_click="ignore",
            icon=":material/download:",
        )
    if refused := st.session_state.pop("tlf_refused", ""):
        st.warning(runs.plain(refused), icon=":material/info:")
    st.caption(f"On every page and in every command it is the classifier run:{runs.plain(shown.id)}.")


def _network_file(shown: Shown) -> bytes:
    """The trained network with its labels, preprocessing and card."""
    with tempfile.TemporaryDirectory() as folder:
        return export_network(str(shown.result.path), Path(folder) / "network.zip").read_bytes()


def compared(several: Sequence[Shown]) -> None:
    """Study 3's table."""
    rows = []
    for each, row in zip(several, comparison([each.result for each in several]), strict=True):
        row |= {"title": each.title, "marks": ", ".join(each.marks)}
        rows.append({COMPARED[name]: row[name] for name in COMPARED})
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "Validation accuracy": st.column_config.NumberColumn(format="%.4f"),
            "Validation loss": st.column_config.NumberColumn(format="%.4f"),
            "Time, s": st.column_config.NumberColumn(format="%.1f"),
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Trained parameters": st.column_config.NumberColumn(format="localized"),
        },
    )


def folds(shown: Shown) -> None:
    """Mean and deviation over folds, and each fold."""
    told = shown.result.summary
    if not told["folds"]:
        return
    st.markdown(f"**{len(told['folds'])} folds**: mean and standard deviation (n - 1) over the folds")
    over = [
        {"figure": name.replace("_", " "), "mean": found["mean"], "deviation": found["deviation"]}
        for name, found in told["over_folds"].items()
    ]
    left, right = st.columns(2, gap="large")
    left.dataframe(over, hide_index=True, column_config=_decimals(("mean", "deviation"), "%.4f"))
    names = ("fold", "images", "accuracy", "loss", "auc", "macro_f1", "epochs")
    right.dataframe(
        [{name: fold[name] for name in names} for fold in told["folds"]],
        hide_index=True,
        column_config=_decimals(("accuracy", "loss", "auc", "macro_f1"), "%.4f"),
    )


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
        positive = names.index(st.selectbox("Curves of the class, against the rest", names, key=f"{KEY}_positive"))
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
        st.dataframe(rows, hide_index=True, column_config=_decimals(("value",), "%.4f"))
        st.caption(
            f"At {told['threshold']:.2f}: {told['tp']} true positives, {told['fp']} false positives, {told['tn']} true "
            f"negatives, {told['fn']} false negatives."
        )
        return
    names = ("precision", "recall", "specificity", "f1", "auc")
    rows = [
        {"class": each.name, "images": each.support, **{n: getattr(each, n) for n in names}} for each in found.by_class
    ]
    rows.append({"class": "mean over classes", "images": found.count, **{n: found.macro[n] for n in names}})
    st.dataframe(rows, hide_index=True, column_config=_decimals(names, "%.3f"))


def _roc(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in enumerate(several):
        if positive < len(each.result.classes):
            found = roc(each.result.labels, each.result.probabilities[:, positive], positive)
            auc = each.result.figures().by_class[positive].auc
            _line(figure, found, place, f"AUC {auc:.3f}" if auc is not None else "AUC none", each, len(several))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "gray", "dash": "dot", "width": 1},
        name="chance",
        hoverinfo="skip",
    )
    if told is not None and told["recall"] is not None and told["specificity"] is not None:
        _point(figure, 1 - told["specificity"], told["recall"], told["threshold"])
    return _square(figure, "false positive rate (1 - specificity)", "true positive rate (recall)", len(several))


def _precision_recall(several: Sequence[Shown], positive: int, told: Mapping[str, Any] | None) -> go.Figure:
    figure = go.Figure()
    for place, each in enumerate(several):
        if positive < len(each.result.classes):
            found = precision_recall(each.result.labels, each.result.probabilities[:, positive], positive)
            area = each.result.figures().by_class[positive].average_precision
            _line(figure, found, place, f"AP {area:.3f}" if area is not None else "AP none", each, len(several))
    if told is not None and told["recall"] is not None and told["precision"] is not None:
        _point(figure, told["recall"], told["precision"], told["threshold"])
    return _square(figure, "recall", "precision", len(several))


def _calibration(several: Sequence[Shown]) -> go.Figure:
    figure = go.Figure()
    for place, each in enumerate(several):
        found = each.result.figures()
        known = [each_bin for each_bin in found.bins if each_bin.count]
        points = {"x": [b.confidence for b in known], "y": [b.accuracy for b in known]}
        _line(figure, points, place, f"ECE {found.ece:.3f}", each, len(several), [b.count for b in known])
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "gray", "dash": "dot", "width": 1},
        name="perfect",
        hoverinfo="skip",
    )
    return _square(figure, "mean winning probability of the bin", "accuracy of the bin", len(several))


def _line(
    figure: go.Figure,
    found: Mapping[str, Any],
    place: int,
    measure: str,
    shown: Shown,
    several: int,
    counts: Any = None,
) -> None:
    color = f"rgb({figures.COLORS[place % len(figures.COLORS)]})"
    figure.add_scatter(
        x=found["x"],
        y=found["y"],
        name=f"{measure}, {shown.name}" if several > 1 else measure,
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


def _square(figure: go.Figure, x: str, y: str, lines: int) -> go.Figure:
    figure.update_xaxes(title=x, range=[-0.02, 1.02])
    figure.update_yaxes(title=y, range=[-0.02, 1.04])
    sized(figure, lines, 350)
    figure.update_layout(hovermode="closest")
    return figure


def _history_csv(shown: Shown) -> str:
    sink = io.StringIO()
    sink.write(f"# {shown.name}; {shown.result.summary['protocol']['validation']}\n")
    rows = shown.result.history
    writer = csv.DictWriter(sink, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _decimals(names: Any, form: str, whole: Sequence[str] = ()) -> dict[str, Any]:
    return {name: st.column_config.NumberColumn(format="%d" if name in whole else form) for name in names}
