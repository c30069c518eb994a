"""Curves, tables and figures of the transfer page."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from xai import run_control
from xai.files import safe_name
from xai.models.exported import export_network
from xai.studies.transfer import comparison
from xai.training.figures import PROTOCOL
from xai.ui import runs, transfer, transfer_form
from xai.ui.transfer import KEY, PACKED, Shown, chart, decimals

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
    "accuracy": "Accuracy",
    "loss": "Loss",
    "seconds": "Time, s",
    "epochs": "Epochs",
    "parameters": "Parameters",
    "trained_parameters": "Trained",
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
    first = " in fold 1" * bool(told["folds"])
    st.caption(
        f"{told['images']['training']} images for training{first}, {told['images']['validation']} for validation; "
        f"{told['epochs']} epochs{_early(told)}{first} on {told['device']}; "
        f"{runs.plain(told['protocol']['validation'])}. Accuracy: {PROTOCOL['accuracy']}. "
        f"Saying the commonest class to all would give {shown.result.commonest:.1%}.{transfer.CHOSEN.get(shown.id, '')}"
    )
    if repeated := told.get("repeated", 0):
        have = "has" if repeated == 1 else "have"
        st.warning(
            f"{repeated} of these {have} the very pixels of a training image: the figures flatter.",
            icon=":material/warning:",
        )
    if told["left_out"]:
        count = len(told["left_out"])
        with st.expander(f"{count} file{'s' * (count > 1)} left out"):
            st.dataframe(told["left_out"], hide_index=True)


def _early(told: Mapping[str, Any]) -> str:
    """Whether patience ended a run, and which epoch's weights it has."""
    if not told["recipe"]["patience"]:
        return ""
    return f" ({'stopped early, ' if told['stopped_early'] else ''}weights of epoch {told['kept_epoch']})"


def curves(several: Sequence[Shown]) -> None:
    """Accuracy and loss of every run, the last five epochs, the comparison, the folds."""
    names, marks = transfer.called(several)
    lines = [(name, each.result.history) for name, each in zip(names, several, strict=True)]
    left, right = st.columns(2, gap="large")
    with left:
        chart(transfer.learning(lines, "accuracy", marks), "accuracy")
    with right:
        chart(transfer.learning(lines, "loss", marks), "loss")
    main = several[0]
    of_first = (
        " Of a run with folds: fold 1; the file has all."
        if any(each.result.summary["folds"] for each in several)
        else ""
    )
    st.caption(
        "Training figures are means over an epoch's steps while it learns, with dropout; validation figures follow it."
        f"{of_first}"
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**The last five epochs**")
        rows = [{LAST[name]: row[name] for name in LAST} for row in main.result.summary["last_epochs"]]
        st.dataframe(rows, hide_index=True, column_config=decimals(LAST.values(), "%.4f", whole=("Epoch",)))
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
        if main.command:
            st.caption("The command that makes this run again")
            st.code(main.command, language=None, wrap_lines=True)
        if main.id not in PACKED:
            _go_on(main)
    st.markdown("**Runs compared**" if len(several) > 1 else "**In one row**")
    compared(several)
    folds(main)


def _go_on(shown: Shown) -> None:
    """More epochs for a finished run, and its network as a file for elsewhere."""
    recipe = shown.result.config["recipe"]
    total = shown.result.summary["recipe"]["epochs"]
    record = run_control.record(shown.result.path)
    why = "Its patience has run out: more epochs would not be learned." * shown.result.summary["stopped_early"]
    if record.status.state in ("failed", "cancelled"):
        why = "It was stopped on the way to more epochs: resume it first."
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.number_input("More epochs", 1, 1000, MORE, key=f"{KEY}_more_{shown.id}", width=130)
        st.button(
            "Learn on",
            icon=":material/play_arrow:",
            key=f"{KEY}_learn_on_{shown.id}",
            disabled=not record.words or record.active or bool(why),
            help=why or None,
            on_click=transfer_form.more,
            args=(shown.id, total + count, record.words),
        )
        networks = len(shown.result.summary["folds"])
        fold = (
            st.selectbox("Network of fold", range(1, networks + 1), key=f"{KEY}_fold_{shown.id}", width=130)
            if networks
            else 1
        )
        place = f"{shown.id}/fold-{fold}" if fold > 1 else shown.id
        st.download_button(
            "The network as a file",
            lambda: _network_file(place),
            f"{safe_name(shown.title)}{f'-fold-{fold}' if networks else ''}.zip",
            "application/zip",
            key=f"{KEY}_network_{shown.id}",
            on_click="ignore",
            icon=":material/download:",
        )
    if refused := st.session_state.pop("tlf_refused", ""):
        st.warning(runs.plain(refused), icon=":material/info:")
    rises = f"With more epochs the {recipe['schedule']} schedule becomes longer, so the learning rate rises again. "
    st.caption(
        f"{rises if recipe['schedule'] != 'constant' else ''}"
        f"On every page and in every command it is the classifier run:{runs.plain(place)}."
    )


def _network_file(place: str) -> bytes:
    """The network of `run:PLACE` with its labels, preprocessing and card."""
    with tempfile.TemporaryDirectory() as folder:
        return export_network(place, Path(folder) / "network.zip").read_bytes()


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
            "Accuracy": st.column_config.NumberColumn(format="%.4f"),
            "Loss": st.column_config.NumberColumn(format="%.4f"),
            "Time, s": st.column_config.NumberColumn(format="%.1f"),
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Trained": st.column_config.NumberColumn(format="localized"),
        },
    )
    marks = transfer.called(several)[1]
    st.caption(
        f"Accuracy and loss of the validation images; time on {_measured_on(several)}; parameters in all, and those "
        "that were trained." + f" {'All are marked' if len(several) > 1 else 'Marked'}: {marks}." * bool(marks)
    )


def _measured_on(several: Sequence[Shown]) -> str:
    """The device and threads that the runs' times are of, each said once."""
    told = [each.result.summary for each in several]
    places = [f"{each['device']} with {each['threads']} thread{'s' * (each['threads'] > 1)}" for each in told]
    if len(set(places)) == 1:
        return places[0]
    return ", ".join(f"{place} ({runs.plain(each.title)})" for place, each in zip(places, several, strict=True))


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
    left.dataframe(over, hide_index=True, column_config=decimals(("mean", "deviation"), "%.4f"))
    names = ("fold", "images", "accuracy", "loss", "auc", "macro_f1", "epochs")
    right.dataframe(
        [{name: fold[name] for name in names} for fold in told["folds"]],
        hide_index=True,
        column_config=decimals(("accuracy", "loss", "auc", "macro_f1"), "%.4f"),
    )


def _history_csv(shown: Shown) -> str:
    sink = io.StringIO()
    sink.write(f"# {shown.name}; {shown.result.summary['protocol']['validation']}\n")
    rows = shown.result.history
    writer = csv.DictWriter(sink, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()
