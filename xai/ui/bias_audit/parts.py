"""The bias audit's further parts: the rho slider, mitigation side by side, and the detector's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
import torch

from xai.explain.spec import METHODS
from xai.stats.intervals import Interval
from xai.studies.bias.audit import read_audit
from xai.studies.bias.findings import Audit
from xai.studies.bias.verdict import group_name, learned
from xai.ui import runs
from xai.ui.bias_audit import state as bias
from xai.ui.bias_audit.state import ARM_TITLES, KEY, Result, percent
from xai.ui.figures import COLORS

WORDS = {
    "trusted": "can be trusted",
    "some": "says something",
    "none": "says nothing",
    "reversed": "says the opposite",
}

PALE = ((0, "rgb(226, 132, 99)"), (0.5, "rgb(247, 247, 247)"), (1, "rgb(94, 160, 214)"))
"""Colours of -1 to 1 that dark numbers can be read on."""


def sweep(found: Result) -> None:
    """When does the shortcut take over? Curves over rho, and a slider that moves among the finished audits."""
    points = found.summary["sweep"]
    if not points:
        st.info("This run has no sweep; begin one in the tab New run (rho slider), or show the shipped result.")
        return
    by_rho: dict[float, list[Audit]] = {}
    seeds: dict[float, list[int]] = {}
    rows = []
    for each in points:
        rho, seed, audit = float(each["experiment"]["rho"]), each["experiment"]["seed"], read_audit(each["audit"])
        by_rho.setdefault(rho, []).append(audit)
        seeds.setdefault(rho, []).append(seed)
        rows.append(_row({"rho": rho, "seed": seed}, audit))
    rhos = sorted(by_rho)
    chosen = st.select_slider(
        "rho, share of training images whose cue agrees",
        rhos,
        value=0.9 if 0.9 in rhos else rhos[-1],
        key=f"{KEY}_rho",
        persist_state="session",
    )
    figure = go.Figure()
    for index, (name, value) in enumerate(_LINES):
        means = [[value(audit) for audit in by_rho[rho]] for rho in rhos]
        figure.add_scatter(
            x=rhos,
            y=[100 * sum(each) / len(each) for each in means],
            error_y=bias.whiskers(
                [100 * (max(each) - sum(each) / len(each)) for each in means],
                [100 * (sum(each) / len(each) - min(each)) for each in means],
                COLORS[index],
            ),
            name=name,
            mode="lines+markers",
            line={"color": f"rgb({COLORS[index]})"},
        )
    figure.add_vline(x=chosen, line={"dash": "dot", "color": f"rgb({COLORS[2]})"})
    figure.update_xaxes(title="rho")
    figure.update_yaxes(title="% of test images", range=[-3, 103])
    count = len(by_rho[rhos[0]])
    bias.show(bias.styled(figure, f"Mean of {count} trainings, whiskers from the lowest to the highest", 380), "sweep")
    st.markdown(f"**At rho = {chosen:g}**")
    for place, seed, audit in zip(st.columns(len(seeds[chosen])), seeds[chosen], by_rho[chosen], strict=True):
        place.markdown(f":gray[network of seed {seed}] {audit.verdict}")
    bias.table(sorted(rows, key=lambda row: (row["rho"], row["seed"])), "sweep")


def _flips(audit: Audit) -> float:
    cue = audit.by_factor(audit.cue)
    return cue.flips.mean if cue else 0.0


def _aligned(audit: Audit) -> float:
    return audit.aligned.mean if audit.aligned else 0.0


def _conflicting(audit: Audit) -> float:
    return audit.conflicting.mean if audit.conflicting else 0.0


def _worst(audit: Audit) -> float:
    return audit.worst.accuracy.mean


_LINES: tuple[tuple[str, Callable[[Audit], float]], ...] = (
    ("right where the cue agrees", _aligned),
    ("right where it conflicts", _conflicting),
    ("answers that flip with the cue", _flips),
)
_BARS: tuple[tuple[str, Callable[[Audit], float]], ...] = (
    ("worst group", _worst),
    ("answers that flip with the cue", _flips),
)


def _row(first: Mapping[str, Any], audit: Audit) -> dict[str, Any]:
    cue, shape = audit.by_factor(audit.cue), audit.by_factor("shape")
    return {
        **first,
        "aligned": percent(audit.aligned) if audit.aligned else "",
        "conflicting": percent(audit.conflicting) if audit.conflicting else "",
        "worst group": f"{group_name(audit.worst.value, audit.worst.label)} {percent(audit.worst.accuracy)}",
        "gap": bias.signed(audit.gap_interval),
        "flips with the cue": percent(cue.flips) if cue else "",
        "reliance on the cue": number(cue.score) if cue else "",
        "reliance on shape": number(shape.score) if shape else "",
        **{each.title: bias.signed(each.beyond) for each in audit.compared()},
    }


def number(value: Interval) -> str:
    """ "0.83 [0.79, 0.87]"; of one image there is no interval."""
    if value.low != value.low:
        return f"{value.mean:.2f} (1 image)"
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def mend(found: Result) -> None:
    """The biased network beside those with mitigation: did the flips stop, did the explanation move?"""
    points = found.summary["mend"]
    if not points:
        st.info(
            "This run has no mitigation. Start one in the tab New run (mitigation) or, for your own images, in Your "
            "own data; or show the shipped result."
        )
        return
    by_arm: dict[str, list[Audit]] = {}
    rows = []
    for each in points:
        arm, audit = each["experiment"]["arm"], read_audit(each["audit"])
        by_arm.setdefault(arm, []).append(audit)
        rows.append(_row({"training": ARM_TITLES[arm], "seed": each["experiment"]["seed"]}, audit))
        rows[-1]["verdict"] = audit.verdict
    st.markdown(mended(by_arm))
    figure = go.Figure()
    swapped = all(audit.by_factor(audit.cue) for audits in by_arm.values() for audit in audits)
    for index, (name, value) in enumerate(_BARS if swapped else _BARS[:1]):
        values = [[100 * value(audit) for audit in audits] for audits in by_arm.values()]
        means = [sum(each) / len(each) for each in values]
        figure.add_bar(
            x=[ARM_TITLES[arm] for arm in by_arm],
            y=means,
            error_y=bias.whiskers(
                [max(each) - mean for each, mean in zip(values, means, strict=True)],
                [mean - min(each) for each, mean in zip(values, means, strict=True)],
            ),
            name=name,
            marker_color=f"rgb({COLORS[index]})",
        )
    figure.update_yaxes(title="% of test images", range=[0, 108])
    count = len(next(iter(by_arm.values())))
    told = f"Mean of {count} trainings, whiskers from the lowest to the highest" if count > 1 else "One training each"
    bias.show(bias.styled(figure, told, 360), "mend")
    bias.table(sorted(rows, key=lambda row: row["training"]), "mend")
    if not found.drawn:
        place = runs.plain(str(found.path / "networks"))
        st.caption(f"The networks lie in {place}; any page and command takes one as weights file:PATH of its model.")


def mended(by_arm: Mapping[str, Sequence[Audit]]) -> str:
    """One sentence an arm: worst group, flips, and whether the map moved to the head."""
    lines = []
    for arm, audits in by_arm.items():
        worst = sum(audit.worst.accuracy.mean for audit in audits) / len(audits)
        swapped = all(audit.by_factor(audit.cue) for audit in audits)
        flips = f", answers flip in {sum(map(_flips, audits)) / len(audits):.0%}" if swapped else ""
        where = ""
        for region in ("head", "object"):
            if there := [share for audit in audits if (share := audit.share(region)) and share.beyond.n]:
                beyond = 100 * sum(share.beyond.mean for share in there) / len(there)
                where = f"; {METHODS.get(there[0].method).title} on the {region} {beyond:+.1f} points beyond chance"
        failed = sum(not learned(audit) for audit in audits)
        warned = f"; {failed} of {len(audits)} networks did not learn the task" if failed else ""
        lines.append(f"- **{ARM_TITLES[arm]}**: worst group {worst:.0%}{flips}{where}{warned}")
    return "\n".join(lines)


def detector(found: Result) -> None:
    """Which methods reveal the shortcut to somebody who has no counterfactuals?"""
    told = found.summary["detector"]
    if not told:
        st.info(
            "This run has not compared methods. Start that in the tab New run (detector), or show the shipped result."
        )
        return
    rows = told["rows"]
    cues = list(dict.fromkeys(row["cue"] for row in rows))
    mean = {
        method: sum(row["correlation"]["mean"] for row in rows if row["method"] == method) / len(cues)
        for method in {row["method"] for row in rows}
    }
    methods = sorted(mean, key=lambda name: (-mean[name], name))
    cells = {(row["method"], row["cue"]): row for row in rows}
    values = [[cells[m, c]["correlation"]["mean"] if (m, c) in cells else None for c in cues] for m in methods]
    hover = [[number(_interval(cells[m, c]["correlation"])) if (m, c) in cells else "" for c in cues] for m in methods]
    titles = [METHODS.get(m).title + (" (baseline)" if METHODS.get(m).family == "baseline" else "") for m in methods]
    st.markdown(trusted(rows))
    figure = go.Figure(
        go.Heatmap(
            z=values, x=[bias.factor_title(c) for c in cues], y=titles, zmin=-1, zmax=1,
            colorscale=PALE, showscale=False,
            texttemplate="%{z:.2f}", textfont={"color": "rgb(20, 24, 28)"},
            text=hover, hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", title="Method")
    figure.update_xaxes(title="Planted cue", tickangle=0)
    count = rows[0]["correlation"]["n"]
    named = f"Rank correlation of the mass on the cue with the true reliance, {count} networks a cue"
    bias.show(bias.styled(figure, named, 620), "detector")
    st.caption(told["protocol"])
    st.code(told.get("command", found.command), language=None, wrap_lines=True)
    _scatter(told["readings"], cues, methods)
    bias.table(
        [
            {
                "cue": bias.factor_title(row["cue"]),
                "method": METHODS.get(row["method"]).title,
                "rank correlation": number(_interval(row["correlation"])),
                "networks": row["correlation"]["n"],
                "as a detector": WORDS[row["word"]],
            }
            for row in rows
        ],
        "detector",
    )


def trusted(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a cue: which methods can be trusted, and which at least say something, be it the opposite."""
    lines = []
    for cue in dict.fromkeys(row["cue"] for row in rows):
        told = []
        for word in ("trusted", "some", "reversed"):
            names = [METHODS.get(row["method"]).title for row in rows if (row["cue"], row["word"]) == (cue, word)]
            if names or word == "trusted":
                told.append(f"{WORDS[word].capitalize()}: {', '.join(names) or 'none'}.")
        lines.append(f"- **{bias.factor_title(cue).capitalize()}.** {' '.join(told)}")
    return "\n".join(lines)


def _scatter(readings: Sequence[Mapping[str, Any]], cues: Sequence[str], methods: Sequence[str]) -> None:
    """Every network as a point: what one method showed, against the truth."""
    method = st.selectbox(
        "One method, network by network",
        methods,
        format_func=lambda name: METHODS.get(name).title,
        key=f"{KEY}_reading",
        persist_state="session",
    )
    figure = go.Figure()
    for index, cue in enumerate(cues):
        own = [each for each in readings if (each["cue"], each["method"]) == (cue, method)]
        area = float(torch.tensor([each["area"] for each in own]).mean())
        figure.add_scatter(
            x=[each["reliance"] for each in own],
            y=[each["mass"] / each["area"] for each in own],
            text=[each["network"] for each in own],
            mode="markers",
            name=f"{bias.factor_title(cue)} ({100 * area:.0f} % of the area)",
            marker={"color": f"rgb({COLORS[index]})", "size": 9},
        )
    figure.add_hline(y=1, line={"dash": "dot", "color": f"rgb({COLORS[2]})"})
    figure.update_xaxes(title="True reliance on the cue (from its interventions)")
    figure.update_yaxes(title="Mass on the cue / its share of the area")
    bias.show(bias.styled(figure, f"{METHODS.get(str(method)).title}; 1 is chance", 360), "readings")


def _interval(saved: Mapping[str, Any]) -> Interval:
    return Interval(saved["mean"], saved["low"], saved["high"], saved["n"], saved["level"])
