"""The bias audit's page: which result is shown, its verdict, groups, interventions and explanation shares."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from xai.data.drawn.pet_factors import CUES
from xai.errors import XaiError
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier
from xai.models.exported import PLACE
from xai.models.store import load_model
from xai.runs.folder import RunFolder
from xai.settings import ASSETS, runs_dir
from xai.stats.intervals import Interval
from xai.studies.bias.audit import read_audit
from xai.studies.bias.findings import ALIGNED, Audit
from xai.studies.bias.run import network_path
from xai.studies.bias.train import Experiment
from xai.studies.bias.verdict import group_name
from xai.ui import downloads, runs
from xai.ui.figures import COLORS
from xai.ui.work import Recent
from xai.words import counted

KEY = "ba"
SHIPPED = ASSETS / "bias"
"""Summary and first network of a finished run; the command that made it is in the summary."""

DETECTOR = SHIPPED / "detector"
"""Summary of the run that tried the methods as detectors; its command is in it too."""

OTHERS = SHIPPED / "others"
"""Summary of the same study with seeds that had no part in choosing how it trains."""

ARM_TITLES = {
    "biased": "As it is",
    "balanced": "Balanced data",
    "weights": "Group weights",
    "jitter": "Colour jitter",
    "grey": "Greyscale",
}
FACTOR_TITLES = {"fur": "fur colour", "mark": "corner mark", "shape": "shape (all four parts)"}

_read: Recent[dict[str, Any]] = Recent(6)


@dataclass(frozen=True, eq=False)
class Result:
    """A finished audit: its summary and where its networks lie."""

    title: str
    path: Path
    summary: Mapping[str, Any]
    command: str
    others: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def audit(self) -> Audit:
        """Of the first network."""
        return read_audit(self.summary["base"]["audit"])

    @property
    def drawn(self) -> bool:
        """Whether its networks were trained here, on drawn pets."""
        return self.summary["base"]["experiment"] is not None

    @property
    def view(self) -> str:
        """What of a picture the network saw."""
        return "crop" if self.drawn else str(self.summary["request"]["view"])

    @property
    def stamp(self) -> str:
        """Tells this result from another in the same place."""
        return str(self.audit.provenance["fingerprint"])

    def classifier(self) -> Classifier:
        """The audited network; raises what `load_model` raises."""
        base = self.summary["base"]
        if self.drawn:
            own = Experiment(**base["experiment"])
            return self._load(own.model, own.name)
        asked = self.summary["request"]
        if base.get("network"):  # trained here, on own images
            return self._load(asked["model"], base["network"])
        return load_model(*(_from_here(RunFolder(self.path), asked[name]) for name in ("model", "weights")))

    def arms(self) -> dict[str, Callable[[], Classifier]]:
        """The networks of the first seed by the way they were trained, where their weights lie with the result."""
        own = [each["experiment"] for each in self.summary["mend"]]
        named = {each["arm"]: (each["model"], _network(each)) for each in own if each["seed"] == own[0]["seed"]}
        return {
            ARM_TITLES[arm]: partial(self._load, *each)
            for arm, each in named.items()
            if network_path(self.path, each[1]).is_file()
        }

    def _load(self, model: str, name: str) -> Classifier:
        return load_model(model, f"file:{network_path(self.path, name)}")


def _from_here(folder: RunFolder, said: str) -> str:
    """A model or weights of a run's command; file:PATH and run:PATH count from the folder that it was said in."""
    kind, _, place = said.partition(":")
    kept = runs_dir() / place
    here = kind == "run" and (kept.exists() or (kept.parent / PLACE / kept.name).exists())  # a run, or a fold's network
    return said if here or kind not in ("file", "run") else f"{kind}:{folder.from_here(place)}"


def _network(experiment: Mapping[str, Any]) -> str:
    """The file name of a network that was trained on drawn or on own images."""
    return str(experiment.get("name") or Experiment(**experiment).name)


def result() -> Result:
    """The run that is picked, or the one that comes with the software."""
    picked = runs.panel("audit-bias", KEY)
    if picked is not None and st.toggle("Show the shipped result instead", key=f"{KEY}_shipped"):
        picked = None
    if picked is not None:
        try:
            return Result(picked.title, picked.path, _summary(picked.path), picked.command)
        except (XaiError, OSError) as error:
            st.warning(runs.plain(str(error)), icon=":material/info:")
    return shipped()


def shipped() -> Result:
    """The result that comes with the software."""
    found, tried, others = (_summary(path) for path in (SHIPPED, DETECTOR, OTHERS))
    detector = {**tried["detector"], "command": tried["command"]}
    summary = {**found, "detector": detector}
    return Result("The study's set, SimpleCNN", SHIPPED, summary, found["command"], (others,))


def _summary(path: Path) -> dict[str, Any]:
    """What a run found, read once; raises `InputError` where it is damaged, and `OSError` where it is gone."""
    about = (path / "summary.json").stat()
    return _read.get((path, about.st_mtime_ns, about.st_size), RunFolder(path).summary)


def head(found: Result) -> None:
    """The verdict with what it was measured on, and the command."""
    audit = found.audit
    st.subheader(audit.verdict if found.drawn else runs.plain(audit.verdict), anchor=False)
    marks = ":orange-badge[:material/draw: drawn images]" if audit.synthetic else ""
    if str(audit.provenance["weights"]).startswith("random"):
        marks += " :red-badge[:material/casino: random weights: its answers mean nothing]"
    network = audit.provenance["model"]
    threads = f", {audit.provenance['threads']} threads" if "threads" in audit.provenance else ""
    title = f"{network}, weights {audit.provenance['fingerprint']}{threads}".replace(", 1 threads", ", one thread")
    data = f"Trained on {found.summary['data']}." if found.drawn else f"{found.title}: {found.summary['data']}."
    st.markdown(f"{marks} {runs.plain(data)}")
    aligned, conflicting = audit.aligned, audit.conflicting
    cue = audit.by_factor(audit.cue)
    columns = iter(st.columns(4))
    if aligned is not None:
        called = "Right where the cue agrees" if conflicting else "Right"  # where no group is rarer, all agree
        next(columns).metric(called, f"{aligned.mean:.0%}", help=percent(aligned))
    if conflicting is not None:
        next(columns).metric("Right where it conflicts", f"{conflicting.mean:.0%}", help=percent(conflicting))
    if cue is not None:
        next(columns).metric("Answers that flip", f"{cue.flips.mean:.0%}", help=f"{audit.how}; {percent(cue.flips)}")
    next(columns).metric(
        "Worst group",
        f"{audit.worst.accuracy.mean:.0%}",
        help=f"{_group(audit.worst)}: {percent(audit.worst.accuracy)}",
    )
    seen = ", none of them seen in training" if found.drawn else ""
    st.caption(runs.plain(f"{audit.images} test images{seen}; {audit.how}. {title}."))
    if seeds := agreement(found):
        st.markdown(seeds)
    st.code(found.command, language=None, wrap_lines=True)
    if left := found.summary.get("left_out"):
        with st.expander(f"{counted(len(left), 'file that was', 'files that were')} left out, or used without a mask"):
            st.dataframe([{"file": each["key"], "why": each["reason"]} for each in left], hide_index=True)


def agreement(found: Result) -> str:
    """Do other seeds find the same? Those that the settings were chosen on, and those that had no part in it."""
    first, *others = (_seeds(each) for each in (found.summary, *found.others))
    if not first:
        return ""
    told = f":small[**Seeds** (right where the cue agrees / conflicts / answers that flip): {first}."
    if others:
        told += f" How the network is trained was chosen on these seeds; with others, not used for that: {others[0]}."
    return f"{told}]"


def _seeds(summary: Mapping[str, Any]) -> str:
    """One seed after another, of the trainings as they are; "" for fewer than two."""
    lines = []
    for each in (each for each in summary["mend"] if each["experiment"]["arm"] == "biased"):
        audit = read_audit(each["audit"])
        cue = audit.by_factor(audit.cue)
        values = (audit.aligned, audit.conflicting, cue.flips if cue else None)
        parts = " / ".join("none" if value is None else f"{value.mean:.0%}" for value in values)
        lines.append(f"seed {each['experiment']['seed']} {parts}")
    return ", ".join(lines) if len(lines) > 1 else ""


def _group(group: Any) -> str:
    return group_name(group.value, group.label)


def _kind(audit: Audit) -> str:
    """What the groups are values of."""
    return factor_title(audit.cue) if audit.cue in CUES else "group"


def groups(audit: Audit) -> None:
    """Accuracy of every group."""
    st.markdown("**Accuracy by group**")
    all_agree = all(each.aligned for each in audit.groups)
    told = {True: ""} if all_agree else {True: " (aligned)", False: " (conflicting)"}
    names = [f"{_group(each)}{told[each.aligned]}" for each in audit.groups]
    figure = go.Figure()
    for index, aligned in enumerate(told):
        chosen = [
            (name, each.accuracy) for name, each in zip(names, audit.groups, strict=True) if each.aligned == aligned
        ]
        figure.add_bar(
            x=[name for name, _ in chosen],
            y=[100 * each.mean for _, each in chosen],
            error_y=_errors([each for _, each in chosen], 100),
            name=told[aligned].strip(" ()"),
            marker_color=f"rgb({COLORS[index]})",
        )
    figure.update_yaxes(title="Accuracy, %", range=[0, 108])
    show(styled(figure, f"Groups of class and {_kind(audit)}, 95 % Wilson intervals"), "groups")
    rows = [
        {
            "group": _group(each),
            "images": each.accuracy.n,
            "aligned": each.aligned,
            **_columns(each.accuracy, "accuracy"),
        }
        for each in audit.groups
    ]
    fall = f"; aligned less conflicting {signed(audit.fall)}" if audit.fall else ""
    st.caption(f"Gap, best less worst group: {signed(audit.gap_interval)}{fall} (Newcombe's 95 % interval). {ALIGNED}")
    table(rows, "groups")


def interventions(audit: Audit) -> None:
    """What swapping each factor does."""
    st.markdown("**What swapping one factor does**")
    if not audit.reliance:
        st.info("No image has a mask that fits, so nothing could be recoloured; give masks to see what the cue does.")
        return
    order = sorted(audit.reliance, key=lambda each: each.score.mean)
    figure = go.Figure(
        go.Bar(
            y=[factor_title(each.factor) for each in order],
            x=[each.score.mean for each in order],
            error_x=_errors([each.score for each in order]),
            orientation="h",
            marker_color=[f"rgb({COLORS[1 if each.factor == audit.cue else 0]})" for each in order],
        )
    )
    figure.update_xaxes(title="Reliance (1 alone, 0 no role)")
    spoken = "that the value speaks for" if audit.cue in CUES else "first predicted"
    show(
        styled(figure, f"Mean fall of the probability of the class {spoken}, {_counted(order[0].score)}"),
        "reliance",
    )
    rows = [
        {
            "swapped": factor_title(each.factor),
            "answers flip %": round(100 * each.flips.mean, 1),
            "95 %": percent(each.flips),
            "probability moves": round(each.moved.mean, 3),
            **_columns(each.score, "reliance"),
        }
        for each in reversed(order)
    ]
    table(rows, "interventions")


def shares(audit: Audit) -> None:
    """Explanation inside each region against the area's share."""
    st.markdown("**Where the explanation lies, against chance**")
    if not audit.shares:
        st.info("No regions are known for these images; give masks to see where explanations lie.")
        return
    first = [each for each in audit.shares if each.method == audit.shares[0].method]
    figure = go.Figure()
    for index, (name, field) in enumerate((("share of the map", "share"), ("share of the area (chance)", "chance"))):
        values = [getattr(each, field) for each in first]
        figure.add_bar(
            x=[each.region for each in first],
            y=[100 * each.mean for each in values],
            error_y=_errors(values, 100),
            name=name,
            marker_color=f"rgb({COLORS[0 if index == 0 else 2]})",
        )
    figure.update_yaxes(title="% of positive mass, % of area")
    show(
        styled(
            figure,
            f"{METHODS.get(first[0].method).title} of the predicted class, {_counted(first[0].share)}",
        ),
        "shares",
    )
    rows = [
        {
            "method": METHODS.get(each.method).title,
            "region": each.region,
            "images": each.share.n,
            "map %": round(100 * each.share.mean, 1),
            "area %": round(100 * each.chance.mean, 1),
            "difference": signed(each.beyond),
            "above chance in": each.above,
            "blank maps": each.blank,
        }
        for each in audit.shares
    ]
    table(rows, "shares")


def factor_title(factor: str) -> str:
    """What people call a factor."""
    return FACTOR_TITLES.get(factor, factor)


def percent(value: Interval) -> str:
    """ "12 % [5, 25] of 50" """
    return f"{100 * value.mean:.0f} % [{100 * value.low:.0f}, {100 * value.high:.0f}] of {value.n}"


def signed(value: Interval) -> str:
    """ "+3.1 [+1.0, +5.2] points"; one image has no interval, and blank maps have no mean."""
    if value.n == 0:
        return "no map to measure"
    if value.low != value.low:
        return f"{100 * value.mean:+.1f} points (1 image)"
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}] points"


def _errors(values: Sequence[Interval], scale: float = 1) -> dict[str, Any]:
    above = [scale * (each.high - each.mean) for each in values]
    return whiskers(above, [scale * (each.mean - each.low) for each in values])


def whiskers(above: Sequence[float], below: Sequence[float], color: str = COLORS[2]) -> dict[str, Any]:
    """Bars up and down from each value; the usual grey can be seen on light and dark."""
    ends = {"array": list(above), "arrayminus": list(below)}
    return {"type": "data", "symmetric": False, **ends, "color": f"rgb({color})"}


def _counted(value: Interval) -> str:
    return "1 image" if value.n == 1 else f"{value.n} images, 95 % bootstrap"


def _columns(value: Interval, name: str) -> dict[str, float]:
    ends = {} if value.low != value.low else {"low": round(value.low, 3), "high": round(value.high, 3)}
    return {name: round(value.mean, 3), **ends}


def styled(figure: go.Figure, title: str, height: int = 330) -> go.Figure:
    """The look that the page's figures share; the title is the protocol."""
    lines = textwrap.wrap(title, 48)  # what a narrow window holds
    top = 18 * len(lines) + max(52, 26 + 19 * len(figure.data))  # where a narrow legend takes a line for each
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 13}, "x": 0, "y": 1, "yanchor": "top", "pad": {"t": 16}},
        height=height + top - 52,
        margin={"l": 8, "r": 8, "t": top, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        bargap=0.35,
    )
    return figure


def show(figure: go.Figure, name: str) -> None:
    """A figure that can be saved as SVG."""
    st.plotly_chart(
        figure,
        width="stretch",
        key=f"{KEY}_{name}",
        config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": f"olhar-bias-{name}"}},
    )


def table(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """A table with its CSV."""
    st.dataframe(list(rows), hide_index=True, width="stretch", key=f"{KEY}_table_{name}")

    def written() -> str:
        sink = io.StringIO()
        writer = csv.DictWriter(sink, list(dict.fromkeys(each for row in rows for each in row)))  # one has no ends
        writer.writeheader()
        writer.writerows(rows)
        return sink.getvalue()

    downloads.button("CSV", written, f"olhar-bias-{name}.csv", "text/csv", key=f"{KEY}_csv_{name}")
