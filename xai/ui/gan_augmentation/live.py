"""A generator's training on the GAN page: samples as they come, losses, KID; and the units of a study under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from xai.gan.train import Pace
from xai.gan.watch import FLAT, collapse_warning, looks, plateau
from xai.runs.control import Record
from xai.ui import figures, runs
from xai.ui.figures import chart

LOSSES = {
    "d_real": "discriminator, real",
    "d_fake": "discriminator, generated",
    "g": "generator",
    "reconstruction": "reconstruction",
}

POINTS = 400
"""Averages of losses that are drawn, at most: the others between them are left out."""


def generators() -> None:
    """What the trainings under way have drawn and measured so far."""

    def draw(run: Record, rows: Sequence[Mapping[str, Any]]) -> None:
        st.markdown(f"**{runs.plain(run.title)}**, as it learns")
        newest(run.path, run.config.get("look", Pace.look))
        training(rows, f"live_{run.id}")

    runs.watched("gan", draw)


def studies() -> None:
    """The units that the studies under way have finished."""

    def draw(run: Record, rows: Sequence[Mapping[str, Any]]) -> None:
        st.markdown(f"**{runs.plain(run.title)}**, unit by unit")
        told = [
            {
                "unit": row["unit"],
                "validation %": round(100 * row["validation"], 1),
                "test %": round(100 * row["test"], 1),
                "seconds": round(row["seconds"]),
            }
            for row in rows
        ]
        st.dataframe(told, hide_index=True, width="stretch", key=f"live_units_{run.id}")
        st.caption(
            "Accuracy after the last step on real images. A unit is the share of the real images, the arm, the seed."
        )

    runs.watched("augment", draw)


def newest(path: Path, look: int) -> None:
    """The newest grid of samples of a training in the run folder `path`, which draws one every `look` steps."""
    grids = sorted((path / "artifacts").glob("samples-*.png"))
    if not grids:
        st.caption(f"Samples appear here every {look:,} steps, and at the end.")
        return
    step = int(grids[-1].stem.removeprefix("samples-"))
    st.image(
        grids[-1].read_bytes(),
        output_format="PNG",
        width="stretch",
        caption=f"Samples of the averaged generator at step {step:,}, a row a class",
        alt=f"Generated pictures at step {step:,}",
    )


def training(rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """Losses and KID of a training; whether it is collapsing."""
    drawn, seen = looks(rows, "loss"), looks(rows)
    if seen and (warning := collapse_warning(seen[-1]["distance_ratio"])):
        st.warning(f"Step {seen[-1]['step']:,}: {warning}", icon=":material/warning:")
    if drawn:
        words = f"hinge losses, and the error of what is reconstructed; averaged over {Pace.log} steps"
        chart(losses(drawn), "Losses", words, f"{key}_loss")
    if seen:
        words = f"{seen[-1]['kid_name']}, against held-out real images; 0 is as alike as two draws of one set"
        if flat := plateau(seen):
            words += (
                f"; plateau from step {flat['step']:,} on, after {flat['seconds']:,.0f} s of training (within "
                f"{FLAT:.0%} of the best)"
            )
        chart(quality(seen), "Quality by step", words, f"{key}_kid")


def losses(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """The losses that there are, by step."""
    some = rows[:: max(1, len(rows) // POINTS)]
    made = go.Figure()
    for place, (name, title) in enumerate(LOSSES.items()):
        if name in some[-1]:
            made.add_scatter(
                x=[row["step"] for row in some],
                y=[row.get(name) for row in some],
                name=title,
                mode="lines" if len(some) > 2 else "lines+markers",  # one point makes no line
                line={"color": f"rgb({figures.COLORS[place]})", "width": 1.5},
            )
    made.update_xaxes(title="training steps")
    made.update_yaxes(title="loss")
    return made


def quality(seen: Sequence[Mapping[str, Any]]) -> go.Figure:
    """KID by step."""
    made = go.Figure()
    made.add_scatter(
        x=[row["step"] for row in seen],
        y=[row["kid"] for row in seen],
        customdata=[[row["seconds"], row["distance_ratio"]] for row in seen],
        mode="lines+markers",
        line={"color": f"rgb({figures.COLORS[0]})", "width": 2},
        hovertemplate="KID %{y:.0f}, %{customdata[0]:.0f} s, distance within a class %{customdata[1]:.2f}"
        "<extra></extra>",
    )
    made.update_xaxes(title="training steps")
    made.update_yaxes(title="KID × 1000, lower is better", rangemode="tozero")
    return made
