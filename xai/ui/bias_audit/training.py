"""How the bias audit's networks learn: live curves of what is under way, and those of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from xai.runs import control as run_control
from xai.studies.bias.train import VALIDATION
from xai.ui import runs
from xai.ui.bias_audit import state as bias
from xai.ui.bias_audit.state import Result
from xai.ui.figures import COLORS
from xai.words import counted


def live() -> None:
    """Curves of the audits that are being trained, as they learn."""

    def draw(record: run_control.Record, rows: Sequence[Mapping[str, Any]]) -> None:
        last = [row for row in rows if row["network"] == rows[-1]["network"]]
        bias.show(learning(last, f"How {rows[-1]['network']} learns"), f"live-{record.id}")

    runs.watched("audit-bias", draw)


def learning(rows: Sequence[Mapping[str, Any]], title: str) -> go.Figure:
    """Training and validation accuracy of one network by epoch."""
    figure = go.Figure()
    for index, (name, field) in enumerate((("training", "train_accuracy"), ("validation", "validation_accuracy"))):
        figure.add_scatter(
            x=[row["epoch"] for row in rows],
            y=[100 * row[field] for row in rows],
            name=name,
            mode="lines+markers",
            line={"color": f"rgb({COLORS[index]})"},
        )
    figure.update_xaxes(title="Epoch", dtick=1 if len(rows) <= 10 else None)  # no half epochs
    figure.update_yaxes(title="Accuracy, %", range=[0, 103])
    return bias.styled(figure, title, 260)


def finished(found: Result) -> None:
    """How the audited network learned; nothing for one that was not trained here."""
    if rows := found.summary["base"]["curves"]:
        st.markdown("**How it learned**")
        others = f"{2 * VALIDATION} other images drawn alike" if found.drawn else "the images held out"
        bias.show(learning(rows, f"Accuracy on the training set and on {others}"), "curves")
        took, epochs = sum(row["seconds"] for row in rows), len(rows)
        st.caption(f"{counted(epochs, 'epoch')}, validation included, took {took:.0f} s where it was trained.")
