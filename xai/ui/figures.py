"""Charts that several pages draw, with axes, units and legends; colours come from the theme."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import streamlit as st

from xai.images.render import AUTO, colors_for, ends
from xai.stats.intervals import Band

COLORS = ("0, 114, 178", "213, 94, 0", "110, 120, 130", "0, 128, 93", "176, 86, 138", "168, 116, 0")
"""Line colours as RGB that hold on light and dark ground and for people who do not tell red from green."""

CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg", "scale": 2},
}
"""Of a figure that is saved by the camera in its corner."""


SIGNED = colors_for(AUTO, True)
"""The colours of signed maps, which correlations have too: 1 is red, 0 white, -1 blue."""


def color_bar(signed: bool, colors: str = AUTO, sentence: str = "") -> None:
    """The colours of the maps above it, from first to last, with words at the ends; `sentence` says the scale."""
    stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in colors_for(colors, signed).lut[::15].tolist())
    words = "".join(f"<span>{word}</span>" for word in ends(signed))
    st.html(
        f'<div title="{escape(sentence)}" style="max-width: 20rem; font-size: 13px">'
        f'<div style="height: 6px; border-radius: 3px; background: linear-gradient(to right, {stops})"></div>'
        f'<div style="display: flex; justify-content: space-between">{words}</div></div>'
    )


def matrix(values: Sequence[Sequence[float]], names: Sequence[str], measure: str) -> go.Figure:
    """A symmetric matrix of `measure` (-1 to 1) between named things, with its numbers; NaN stays empty.

    Rows have names and columns their places, so that the cells stay legible on a telephone.
    """
    places = [f"{place}" for place in range(1, len(names) + 1)]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if value != value else value for value in row] for row in values],
            x=places,
            y=[f"{name}  {place}" for name, place in zip(names, places, strict=True)],
            customdata=[[f"{one} and {two}" for two in names] for one in names],
            zmin=-1,
            zmax=1,
            colorscale=[[place / 255, f"rgb({r}, {g}, {b})"] for place, (r, g, b) in enumerate(SIGNED.lut.tolist())],
            texttemplate="%{z:.2f}",
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            colorbar={
                "title": {"text": measure, "side": "top"},
                "thickness": 10,
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
            },
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=170 + 44 * len(names), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def curves(
    x: Sequence[float] | Sequence[str],
    lines: Sequence[tuple[str, Sequence[float | None]]],
    x_title: str,
    y_title: str,
    y_range: tuple[float, float] | None = None,
) -> go.Figure:
    """Lines with markers over shared positions: (name, values) each."""
    figure = go.Figure()
    for name, values in lines:
        figure.add_scatter(x=list(x), y=list(values), name=name, mode="lines+markers")
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, range=list(y_range) if y_range else None)
    figure.update_layout(
        height=360, margin={"l": 8, "r": 8, "t": 24, "b": 8}, legend={"orientation": "h", "y": 1.12}, hovermode="x"
    )
    return figure


def bands(
    x: Sequence[float],
    lines: Sequence[tuple[str, Band]],
    x_title: str,
    y_title: str,
    y_range: tuple[float, float] | None = None,
) -> go.Figure:
    """Means over images with their intervals: (name, band) each; the interval is the shaded area."""
    figure = go.Figure()
    for index, (name, band) in enumerate(lines):
        color = COLORS[index % len(COLORS)]
        known = not bool(band.low.isnan().all())
        if known:
            figure.add_scatter(
                x=list(x), y=band.high.tolist(), mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False
            )
            figure.add_scatter(
                x=list(x),
                y=band.low.tolist(),
                mode="lines",
                line={"width": 0},
                fill="tonexty",
                fillcolor=f"rgba({color}, 0.18)",
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=list(x),
            y=band.mean.tolist(),
            name=name,
            mode="lines+markers",
            line={"color": f"rgb({color})", "width": 2},
        )
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, range=list(y_range) if y_range else None)
    figure.update_layout(
        height=360, margin={"l": 8, "r": 8, "t": 24, "b": 8}, legend={"orientation": "h", "y": 1.14}, hovermode="x"
    )
    return figure


def chart(made: go.Figure, title: str, foot: str, key: str) -> None:
    """A figure with its title and protocol in it, which can be saved as SVG with both."""
    lines = textwrap.wrap(foot, 60)
    made.update_layout(
        title={"text": f"<b>{title}</b>", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}},
        height=418 + 15 * len(lines),
        margin={"l": 8, "r": 8, "t": 110, "b": 68 + 15 * len(lines)},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12}, "traceorder": "normal"},
    )
    made.add_annotation(
        text="<br>".join(lines), xref="paper", yref="paper", x=0, y=0, yshift=-56, xanchor="left", yanchor="top",
        align="left", showarrow=False, font={"size": 11},
    )  # fmt: skip
    st.plotly_chart(made, width="stretch", key=key, config=CONFIG)
