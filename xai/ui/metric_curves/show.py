"""The figures and tables of the metric curves page."""

from __future__ import annotations

import math
import re
import textwrap
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.files import safe_name
from xai.metrics.curves import CURVES
from xai.metrics.protocol import PROTOCOLS, get_protocol
from xai.metrics.spec import METRICS
from xai.stats.intervals import Interval
from xai.studies.faithfulness.result import WHITE_NOISE, Against
from xai.studies.faithfulness.seen import BASELINES, rank_flips
from xai.ui import downloads, figures
from xai.ui.live import sentence
from xai.ui.metric_curves.scrub import axis, direction, inks
from xai.ui.metric_curves.state import CurvesChoice, Pictures, command, to_query
from xai.ui.metric_curves.work import SetFound
from xai.ui.session import link_of
from xai.ui.uploads import left_out

VERBS = {"insertion": "put in", "deletion": "taken away"}
FORMATS = ("svg", "png")
LEGEND_ROW = 30
"""Pixels of a line of a legend."""

WRAP = 52
"""Letters in a line of a figure's own caption: it fits a telephone."""


def shown(network: str) -> str:
    """A network's name for people: of weights in a file, the file's name without its folders."""
    return re.sub(r"\(file:.*/([^/]*)\)$", r"(\1)", network)


def title(found: SetFound, network: str, method: str) -> str:
    """What a line or row is called."""
    name = METHODS.get(method).title if method in METHODS else method.capitalize().replace(" x ", " × ")
    return f"{name}, {shown(network)}" if len(found.result.networks) > 1 else name


def figure(found: SetFound, metric: str, baselines: bool) -> go.Figure:
    """Mean curves with intervals; what was measured, and random weights, are said in the figure itself."""
    shown = [
        (network, method)
        for network in found.result.networks
        for method in found.result.methods(network)
        if baselines or method not in BASELINES
    ]
    means = [found.means[network, method, metric] for network, method in shown]
    if baselines:
        rivals = [mean for mean in found.rivals if mean.protocol.settings["metric"] == metric]
        shown += [(mean.network, mean.method) for mean in rivals]
        means += rivals
    names = [title(found, *pair) for pair in shown]
    grey = {name: method in BASELINES or method not in METHODS for name, (_, method) in zip(names, shown, strict=True)}
    style = inks(names, grey)
    drop = get_protocol(found.request.terms.protocol).drop
    up = found.result.better_up(metric)
    made = figures.bands(
        (100 * means[0].x).tolist(),
        [(name, mean.band) for name, mean in zip(names, means, strict=True)],
        f"pixels {VERBS[metric]}, % of the picture",
        axis(metric, drop),
        (0.0, 1.02),
    )
    dense = max(len(mean.x) for mean in means) > 40
    current = iter(zip(names, means, strict=True))
    name, mean = next(current)
    for trace in made.data:
        ink, _, dash = style[name]
        trace.x = (100 * mean.x).tolist()  # networks of another input size have other positions
        trace.legendgroup = name
        if trace.fillcolor:
            trace.fillcolor = f"rgba({ink}, {0.04 if dash != 'solid' else 0.12})"
        elif trace.name:
            trace.line = {"color": f"rgb({ink})", "width": 1.6 if dash != "solid" else 2.4, "dash": dash}
            trace.marker = {"size": 5}
            trace.mode = "lines" if dense else "lines+markers"
            trace.hovertemplate = "%{y:.3f}"
            name, mean = next(current, (name, mean))
    _caption(made, found, metric, up)
    return made


def _caption(made: go.Figure, found: SetFound, metric: str, up: bool) -> None:
    """Direction above; the protocol, what the band is, and the number of images below: they travel with the file."""
    n = len(found.result.images)
    fewer = [
        f"{title(found, network, method)} {mean.band.n}"
        for (network, method, of), mean in found.means.items()
        if of == metric and mean.band.n < n
    ]
    about = f"Mean of {n} pictures; the band is the bootstrap 95 % interval." if n > 1 else "One picture: no interval."
    about += f" Pictures with a score: {', '.join(fewer)}." if fewer else ""
    networks = [shown(network) for network in found.result.networks]
    whose = f" Network: {networks[0]}." if len(networks) == 1 else ""  # of several, each line says its own
    lines = textwrap.wrap(f"{about}{whose} {found.sentence(metric)}", WRAP)
    names = [trace.name for trace in made.data if trace.name]
    rows = math.ceil(len(names) / max(1, 270 // (40 + 5 * max(map(len, names)))))
    foot, head = 62 + 15 * len(lines), 44 + LEGEND_ROW * rows
    heading = f"<b>{METRICS.get(metric).title}</b>: {direction(up)} {'↑' if up else '↓'}"
    random = any("random:" in name for name in found.result.networks)
    synthetic = any(piece.synthetic for piece in found.request.pictures.pieces)
    marks = ["RANDOM WEIGHTS"] * random + ["SYNTHETIC IMAGES"] * synthetic
    if marks:
        heading += f'  <span style="color:#d13b30"><b>{", ".join(marks)}</b></span>'
    made.update_layout(
        height=300 + foot + head,
        margin={"l": 8, "r": 8, "t": head, "b": foot},
        title={
            "text": heading,
            "x": 0,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
            "font": {"size": 16},
        },
        legend={
            "orientation": "h",
            "x": 0,
            "yref": "container",  # below the heading, at whatever width
            "y": 1 - 36 / (300 + foot + head),
            "yanchor": "top",
            "font": {"size": 12},
            "maxheight": LEGEND_ROW * rows,  # else at most half of the figure, where it scrolls
        },
    )
    made.add_annotation(
        text="<br>".join(lines),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        yshift=-52,
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 11},
    )


def curves(found: SetFound, choice: CurvesChoice, key: str, turn: str) -> None:
    """The two figures side by side, and how they are drawn."""
    with st.container(horizontal=True, vertical_alignment="center"):
        choice.baselines = st.toggle("Baselines", value=choice.baselines, key=choice.fresh(f"{key}_baselines"))
        kind = st.segmented_control(
            "Figures as files", FORMATS, default=FORMATS[0], format_func=str.upper, key=f"{key}_format", required=True
        )
        st.caption("The camera in a figure's corner saves it.")
    for place, metric in zip(st.columns(2, gap="large"), CURVES, strict=True):
        name = safe_name(f"{metric}-{found.request.terms.protocol}-{found.request.pictures.name}")
        place.plotly_chart(
            figure(found, metric, choice.baselines),
            width="stretch",
            key=f"{key}_{metric}_{turn}",
            config={
                "displaylogo": False,
                "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
                "toImageButtonOptions": {"format": kind or FORMATS[0], "filename": name, "scale": 2},
            },
        )
    for network in found.result.networks:
        share = found.result.correct(network)
        if share is not None:
            st.caption(f"{shown(network)} names {share} of these images as they are labelled.")


def number(value: Interval) -> str:
    """A mean with its interval, short."""
    if not value.n:
        return "no score"
    return f"{value.mean:.3f}" if math.isnan(value.low) else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def ranks(found: SetFound) -> None:
    """AUC with intervals and ranks; average drop and increase; how often a method beats random order."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    n = len(found.result.images)
    for metric, scores in found.scores.items():
        up = found.result.better_up(metric)
        name = METRICS.get(metric).title
        head = f"{name}{' AUC, rank' if metric in CURVES else ''} {'↑' if up else '↓'}"
        for score in scores:
            row = rows.setdefault((score.network, score.method), {"": title(found, score.network, score.method)})
            row[head] = number(score.mean) + (f" (n={score.mean.n})" if score.mean.n < n else "")
            if metric in CURVES:
                row[head] = row[head] if score.rank is None else f"**{score.rank}** · {row[head]}"
                row[f"{name} against random"] = _against(score.against) if score.against else ""
    place = {(s.network, s.method): s.rank or len(rows) for s in found.scores["insertion"]}
    ordered = sorted(rows, key=lambda pair: (found.result.networks.index(pair[0]), place[pair]))
    st.table([rows[pair] for pair in ordered], border="horizontal", hide_index=True)
    said = " ".join(f"**{METRICS.get(metric).title}.** {found.sentence(metric)}" for metric in found.scores)
    st.caption(
        f"Mean over {n} picture{'s' * (n > 1)} with its bootstrap 95 % interval; ↑ higher is better, ↓ lower is "
        f"better; 1 is the best rank. {said}"
    )
    st.caption(" ".join(filter(None, (found.result.about_random, WHITE_NOISE))))
    for words in (*found.result.without_order, *found.result.given_away):
        st.warning(words, icon=":material/info:")
    for each in found.result.refused:
        st.caption(f"{METHODS.get(each.method).title} is left out on {shown(each.network)}: {each.reason}")
    left_out(found.result.problems)


def _against(found: Against) -> str:
    """The comparison with random maps in a cell: the finding in bold, then its figures."""
    beside = f"{found.grid[0]} × {found.grid[1]}"
    figures = f"{number(found.paired.difference)}, {found.paired.finding}"
    return f"**{found.verdict}** ({beside}): {figures}"


def pair(found: SetFound, key: str) -> None:
    """Two methods over the same pictures."""
    with st.container(horizontal=True):
        network = found.result.networks[0]
        if len(found.result.networks) > 1:
            network = st.selectbox("Classifier", found.result.networks, format_func=shown, key=f"{key}_pair_net")
        names = list(found.result.methods(network))
        other = names.index("random") if "random" in names else len(names) - 1
        one = st.selectbox("First", names, 0, format_func=lambda n: METHODS.get(n).title, key=f"{key}_pair_a")
        two = st.selectbox("Second", names, other, format_func=lambda n: METHODS.get(n).title, key=f"{key}_pair_b")
    if one == two:
        st.caption("Choose two different methods.")
        return
    rows = []
    for metric in CURVES:
        try:
            paired = found.result.compare(network, one, two, metric)
        except InputError as error:  # maps that are not finite, each on other pictures
            st.caption(sentence(str(error)))
            return
        up = found.result.better_up(metric)
        rows.append(
            {
                "": f"{METRICS.get(metric).title} AUC, {direction(up)}",
                "mean difference [95 %]": number(paired.difference),
                "first against second": paired.sentence,
                "Wilcoxon p": paired.p_text,
            }
        )
    st.table(rows, border="horizontal", hide_index=True)
    st.caption(
        f"{METHODS.get(one).title} minus {METHODS.get(two).title}, picture by picture; two-sided signed-rank test, "
        f"{'exact' if paired.exact else 'normal approximation'}. "
        f"{get_protocol(found.request.terms.protocol).title}, {shown(network)}."
    )


def flips(results: dict[str, SetFound]) -> None:
    """Ranks by protocol, and which pairs of methods change places."""
    if len(results) < 2:
        st.caption("One protocol is done. Compute another one to see whether the ranks hold.")
        return
    first = next(iter(results.values())).result
    rows = []
    for network in first.networks:
        for metric in CURVES:
            for name in (name for name in PROTOCOLS if name in results):
                known = {(score.network, score.method): score.rank for score in results[name].scores[metric]}
                head = f"{METRICS.get(metric).title}, {name}"
                row = {"": f"{shown(network)}: {head}" if len(first.networks) > 1 else head}
                for method in dict.fromkeys(each for net in first.networks for each in first.methods(net)):
                    row[METHODS.get(method).title] = str(known.get((network, method)) or "no score")
                rows.append(row)
    st.table(rows, border="horizontal", hide_index=True)
    done = [results[name] for name in PROTOCOLS if name in results]
    found = [
        flip.sentence
        for metric in CURVES
        for i, one in enumerate(done)
        for two in done[i + 1 :]
        for flip in rank_flips(one.result, two.result, metric)
    ]
    st.caption("Ranks, 1 is best.")
    if not found:
        st.success("The ranking is the same by every protocol that is done.", icon=":material/check:")
    else:
        pairs = f"{len(found)} pair{'s' * (len(found) > 1)} of methods change{'s' * (len(found) == 1)} places"
        st.warning(f"The ranking depends on the protocol: {pairs}.", icon=":material/swap_vert:")
        with st.expander("Which"):
            st.markdown("\n".join(f"- {sentence}" for sentence in found))


def save(found: SetFound, choice: CurvesChoice, pictures: Pictures, key: str) -> None:
    """Rows as CSV and Parquet, the link, the command."""
    left, right = st.columns([2, 3], gap="large")
    name = safe_name(f"curves-{found.request.terms.protocol}-{pictures.name}")
    with left:
        st.markdown("**The rows**")
        st.caption("One row for each picture, classifier and method: scores, curves, and the protocol in every row.")
        with st.container(horizontal=True):
            downloads.button("CSV", found.result.csv, f"{name}.csv", "text/csv", key=f"{key}_csv")
            kind = "application/octet-stream"
            packed = partial(found.result.parquet, command(choice, pictures))
            downloads.button("Parquet", packed, f"{name}.parquet", kind, key=f"{key}_parquet")
    with right:
        st.markdown("**A link that restores these choices**")
        if choice.source == "upload":
            st.caption("Your own pictures are not in the link: they stay on this machine. Drop them in again.")
        if any(net.of_file for net in choice.nets):
            st.caption("Your own weights are not in the link; it names the network with its ImageNet weights.")
        st.code(link_of(to_query(choice)), language=None, wrap_lines=True)
        st.markdown("**The same in the terminal**")
        if not pictures.data:
            st.caption("FOLDER is a folder with these pictures.")
        st.code(command(choice, pictures), language=None, wrap_lines=True)
