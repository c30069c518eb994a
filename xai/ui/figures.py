"""Charts that several pages draw, with axes, units and legends; colours come from the theme."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go


def matrix(values: Sequence[Sequence[float]], names: Sequence[str], measure: str) -> go.Figure:
    """A symmetric matrix of `measure` (-1 to 1) between named things, with its numbers."""
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            zmin=-1,
            zmax=1,
            colorscale="RdBu_r",
            texttemplate="%{z:.2f}",
            hovertemplate="%{y} and %{x}: %{z:.3f}<extra></extra>",
            colorbar={"title": measure, "thickness": 12},
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=120 + 44 * len(names), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def curves(
    x: Sequence[float] | Sequence[str],
    lines: Sequence[tuple[str, Sequence[float]]],
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
