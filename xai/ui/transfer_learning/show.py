"""Curves, tables and figures of the transfer page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from xai.errors import XaiError
from xai.files import safe_name
from xai.models.exported import network_zip
from xai.runs import control as run_control
from xai.studies.transfer.result import is_flattered, told_of_sides
from xai.studies.transfer.review import difference_of
from xai.studies.transfer.train import comparison
from xai.training.difference import PROTOCOL as DIFFERENCES
from xai.training.figures import PROTOCOL, caution, share_ends
from xai.ui import clicks, downloads, runs
from xai.ui.transfer_learning import forms as transfer_form
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.state import KEY, PACKED, Shown, chart, decimals, number_words
from xai.ui.uploads import left_out
from xai.words import counted

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
    "interval": "95 % interval",
    "images": "Images",
    "loss": "Loss",
    "seconds": "Time, s",
    "epochs": "Epochs",
    "parameters": "Parameters",
    "trained_parameters": "Trained",
    "marks": "Marks",
}


def headline(shown: Shown) -> None:
    """What came out, in four numbers with their protocol."""
    told, ends = shown.result.summary, shown.result.figures().intervals
    places = st.container(horizontal=True, gap="small")
    _metric(places, "Validation accuracy", f"{told['accuracy']:.1%}", share_words(ends["accuracy"]))
    if tested := told.get("test"):
        _metric(places, "Test accuracy", f"{tested['accuracy']:.1%}", share_words(tested["intervals"]["accuracy"]))
    places.metric("Validation loss", f"{told['loss']:.3f}", border=True)
    auc = "none" if told["auc"] is None else f"{told['auc']:.3f}"
    _metric(places, "AUC", auc, number_words(ends["auc"]))
    places.metric("Trained parameters", f"{told['trained_parameters']:,}", border=True)
    places.metric("Time", f"{told['seconds']['all']:.0f} s", border=True)
    marks = "".join(f" :orange-badge[{mark}]" for mark in shown.marks)
    st.markdown(f"**{runs.plain(shown.title)}**{marks}")
    first = " in fold 1" * bool(told["folds"])
    st.caption(
        f"{counted(told['images']['training'], 'image')} for training{first}, "
        f"{told['images']['validation']} for validation"
        f"{_tested(told)}; {counted(told['epochs'], 'epoch')}{_early(told)}{first} on {told['device']}; "
        f"{runs.plain(told['protocol']['validation'])}. Accuracy: {PROTOCOL['accuracy']}. "
        f"Below each figure: {_INTERVALS}. Always predicting the most frequent class would give "
        f"{shown.result.commonest:.1%}.{transfer.CHOSEN.get(shown.id, '')}"
    )
    if few := caution(told["images"]["validation"]):
        st.warning(few, icon=":material/warning:")
    if sides := told_of_sides(told):
        text = runs.plain(" ".join(sides))
        if is_flattered(told):
            st.warning(text, icon=":material/warning:")
        else:
            st.caption(text)
    left_out(told["left_out"])


_INTERVALS = "its 95 % interval over other images of the same kind"


def _metric(place: Any, label: str, value: str, ends: str) -> None:
    """A figure with its interval below."""
    off: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off"} if ends else {}
    place.metric(label, value, ends or None, border=True, **off)


def _tested(told: Mapping[str, Any]) -> str:
    return f", {told['test']['images']} for the test" if told.get("test") else ""


def share_words(ends: Sequence[float] | None) -> str:
    """An interval of shares as people read it; "" for none."""
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


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
        downloads.button(
            "CSV",
            partial(_history_csv, main),
            f"{safe_name(main.title)}-epochs.csv",
            "text/csv",
            key=f"{KEY}_csv",
        )
        if main.command:
            st.caption("The command that makes this run again")
            st.code(main.command, language=None, wrap_lines=True)
        if main.id not in PACKED:
            _go_on(main)
    st.markdown("**Runs compared**" if len(several) > 1 else "**In one row**")
    compared(several)
    _differences(several)
    folds(main)


def _go_on(shown: Shown) -> None:
    """More epochs for a finished run, and its network as a file for elsewhere."""
    recipe = shown.result.config["recipe"]
    total = shown.result.summary["recipe"]["epochs"]
    record = run_control.record(shown.result.path)
    why = (
        "Training stopped early (its patience ran out), so more epochs would change nothing."
        * shown.result.summary["stopped_early"]
    )
    if record.status.state in ("failed", "cancelled"):
        why = "This run was stopped before it reached its last epoch. Resume it first."
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.number_input("More epochs", 1, 1000, MORE, key=f"{KEY}_more_{shown.id}", width=130)
        clicks.button(
            "Continue training",
            partial(transfer_form.more, shown.id, total + count, record.words),
            icon=":material/play_arrow:",
            key=f"{KEY}_learn_on_{shown.id}",
            disabled=not record.words or record.active or bool(why),
            help=why or None,
        )
        networks = len(shown.result.summary["folds"])
        fold = (
            st.selectbox("Network of fold", range(1, networks + 1), key=f"{KEY}_fold_{shown.id}", width=130)
            if networks
            else 1
        )
        place = f"{shown.id}/fold-{fold}" if fold > 1 else shown.id
        downloads.button(
            "The network as a file",
            lambda: network_zip(place),
            f"{safe_name(shown.title)}{f'-fold-{fold}' if networks else ''}.zip",
            "application/zip",
            key=f"{KEY}_network_{shown.id}",
            icon=":material/download:",
        )
    runs.warn(f"{transfer_form.KEY}_more", (shown.id, count))
    rises = f"With more epochs the {recipe['schedule']} schedule becomes longer, so the learning rate rises again. "
    st.caption(
        f"{rises if recipe['schedule'] != 'constant' else ''}"
        f"Every page and command can use this network as run:{runs.plain(place)}."
    )


def compared(several: Sequence[Shown]) -> None:
    """Study 3's table."""
    rows = []
    for each, row in zip(several, comparison([each.result for each in several]), strict=True):
        interval = number_words(row["accuracy_interval"])
        row |= {"title": each.title, "marks": ", ".join(each.marks), "interval": interval}
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


def _differences(several: Sequence[Shown]) -> None:
    """What the first run's figures differ by from the others', with paired intervals; why not where they cannot be."""
    rows, told = [], []
    first = several[0]
    for each in several[1:]:
        try:
            found = difference_of(first.result, each.result)
        except XaiError as error:
            st.caption(f"{runs.plain(each.title)}: {runs.plain(str(error))}")
            continue
        told.append(runs.plain(found.verdict(first.title, each.title)))
        figures = {"accuracy": found.accuracy, "AUC": found.auc, "loss": found.loss}
        for name, value in figures.items():
            if value is not None:
                ends = f"{value.low:+.3f} to {value.high:+.3f}"
                shown = "no" if value.low <= 0 <= value.high else "yes"
                what = f"{first.title} less {each.title}"
                rows.append({"Difference": what, "of": name, "is": value.mean, "95 % interval": ends, "Shown": shown})
    if not rows:
        return
    st.markdown("**Differences on the same images**  \n" + "  \n".join(told))
    st.dataframe(rows, hide_index=True, column_config={"is": st.column_config.NumberColumn(format="%+.3f")})
    st.caption(DIFFERENCES[:1].upper() + DIFFERENCES[1:] + ".")


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
    st.markdown(
        f"**{len(told['folds'])} folds**: mean and standard deviation (n - 1) over the folds; of each fold the "
        "accuracy with its 95 % interval"
    )
    over = [
        {"figure": name.replace("_", " "), "mean": found["mean"], "deviation": found["deviation"]}
        for name, found in told["over_folds"].items()
    ]
    left, right = st.columns(2, gap="large")
    left.dataframe(over, hide_index=True, column_config=decimals(("mean", "deviation"), "%.4f"))
    names = ("fold", "images", "accuracy", "95 % interval", "loss", "auc", "macro_f1", "epochs")
    rows = [{**fold, "95 % interval": number_words(_fold_ends(fold))} for fold in told["folds"]]
    right.dataframe(
        [{name: fold[name] for name in names} for fold in rows],
        hide_index=True,
        column_config=decimals(("accuracy", "loss", "auc", "macro_f1"), "%.4f"),
    )


def _fold_ends(fold: Mapping[str, Any]) -> Sequence[float] | None:
    return share_ends(fold["accuracy"] * fold["images"], fold["images"])


def _history_csv(shown: Shown) -> str:
    sink = io.StringIO()
    sink.write(f"# {shown.name}; {shown.result.summary['protocol']['validation']}\n")
    rows = shown.result.history
    writer = csv.DictWriter(sink, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()
