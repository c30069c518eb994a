"""The transfer page's results: the finished run that is shown, those beside it, and their networks and images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from xai.data.call import dataset_stamp
from xai.data.spec import SAMPLES, DataSet
from xai.errors import InputError, XaiError
from xai.models.classifier import Classifier
from xai.runs import control as run_control
from xai.runs.folder import RunFolder
from xai.studies.transfer.result import TransferResult, load_result
from xai.studies.transfer.shipped import BRAIN, CHARACTERS, command, network_of_run
from xai.studies.transfer.train import with_epochs
from xai.ui import figures, runs
from xai.ui.work import Recent

KEY = "tl"
SHIPPED = "shipped"
PACKED = {
    SHIPPED: (BRAIN, "Brain slices, EfficientNet-Lite0, study 4's head"),
    **{f"{SHIPPED}-{path.name}": (path, f"{title} on characters") for title, path in CHARACTERS.items()},
}
"""The runs that come with the software, by id: where they lie, and their titles."""

STUDIES = {
    "Study 4: drawn brain slices": (SHIPPED,),
    "Study 3: drawn characters, untrained networks": tuple(PACKED)[1:],
}
"""What is shown together of them."""

CHOSEN = dict.fromkeys(
    tuple(PACKED)[1:],
    " Head, learning rate and schedule were chosen on these same drawings, after study 4's head had learned nothing on "
    "them: with others the accuracy may be lower.",
)
"""What a shipped run's accuracy was helped by."""

SPREAD = 100
"""How many times its smallest a figure's largest loss is before its axis has powers of ten."""

MOST = 4
"""Runs beside the one that is shown."""

_results: Recent[TransferResult] = Recent(64)
_data: Recent[DataSet] = Recent(4)
_packed: Recent[Classifier] = Recent(len(PACKED))


@dataclass(frozen=True, eq=False)
class Shown:
    """A finished run with what people call it."""

    id: str
    title: str
    result: TransferResult

    @property
    def ident(self) -> tuple[str, int]:
        """What keys hold of it: where it lies, and when it was written; one that has learned on is another one."""
        return str(self.result.path), _stamp(self.result.path)

    @property
    def marks(self) -> tuple[str, ...]:
        """What has to be said wherever its numbers are."""
        return _marks(self.result.summary["synthetic"], self.result.summary["random_base"])

    @property
    def name(self) -> str:
        """Its title with its marks."""
        return f"{self.title} ({', '.join(self.marks)})" if self.marks else self.title

    @property
    def command(self) -> str:
        """The command that makes it again, also where learning on has no result yet; "" where nobody knows it."""
        if self.id in PACKED:
            return command(self.result)
        try:
            launch = RunFolder(self.result.path).launch()
        except InputError:  # its card says what is damaged
            return ""
        words = with_epochs(launch.words, self.result.summary["recipe"]["epochs"]) if launch.words else ()
        return dataclasses.replace(launch, words=tuple(words)).command


def _marks(synthetic: bool, random_base: bool) -> tuple[str, ...]:
    return (*["synthetic images"] * synthetic, *["began with random weights"] * random_base)


def shipped(run_id: str = SHIPPED) -> Shown:
    """A run that comes with the software."""
    path, title = PACKED[run_id]
    return Shown(run_id, title, _read(path))


def _read(path: Path) -> TransferResult:
    return _results.get((str(path), _stamp(path)), lambda: load_result(path))


def _stamp(path: Path) -> int:
    """When a run's summary was written, in nanoseconds; 0 where there is none."""
    try:
        return (path / "summary.json").stat().st_mtime_ns
    except OSError:
        return 0


def pick() -> list[Shown]:
    """The run that is shown and those beside it, as chosen; what cannot be read is said."""
    study = st.pills("Results that come with Olhar", list(STUDIES), key=f"{KEY}_study", on_change=_beside)
    main = runs.panel("train", KEY, lambda record: own())
    every: dict[str, Shown] = {}
    try:
        trained = run_control.list_runs("train")
    except InputError:  # the panel says it
        trained = []
    for record in trained:
        if record.finished:
            try:
                every[record.id] = Shown(record.id, record.title, _read(record.path))
            except XaiError as error:
                st.warning(runs.plain(str(error)), icon=":material/info:")
    every |= {each: shipped(each) for ids in STUDIES.values() for each in ids}
    wanted = STUDIES[study][0] if study else main.id if main else SHIPPED
    first = every.get(wanted, every[SHIPPED])
    others = [name for name in every if name != first.id]
    called = runs.labels(f"{KEY}_beside", {name: every[name].name for name in others})
    beside = (
        st.multiselect(
            "Compare with",
            others,
            format_func=called,
            max_selections=MOST,
            key=f"{KEY}_beside",
            persist_state="session",
            help="Draws the curves and figures of these runs over those of the run above.",
        )
        if others
        else []
    )
    several = [first, *(every[name] for name in beside if name in every)]
    named = runs.apart({each.id: each.title for each in several})
    return [dataclasses.replace(each, title=named[each.id]) for each in several]


def _beside() -> None:
    """Lay the other runs of the study that was picked beside its first."""
    study = st.session_state[f"{KEY}_study"]
    st.session_state[f"{KEY}_beside"] = list(STUDIES[study][1:]) if study else []


def own() -> None:
    """Show the runs of this place again where a study that comes with the software was picked."""
    if st.session_state.get(f"{KEY}_study"):
        st.session_state[f"{KEY}_study"] = None
        _beside()


def live() -> None:
    """Curves of what is being trained, as it learns."""

    def draw(record: run_control.Record, rows: Sequence[Mapping[str, Any]]) -> None:
        config = RunFolder(record.path).config()  # what was read when the page was drawn may be from before it
        fold = max(int(row["fold"]) for row in rows)
        of = f", fold {fold} of {config['folds']}" if config["folds"] else ""
        st.markdown(f"**{runs.plain(record.title)}**, as it learns{of}")
        kind, _, sample = str(config["data"]).partition(":")
        synthetic = kind == "sample" and SAMPLES.get(sample.partition("?")[0]).synthetic
        marks = ", ".join(_marks(synthetic, str(config["weights"]).startswith("random")))
        lines = [(record.title, rows)]
        left, right = st.columns(2)
        for place, measure in ((left, "accuracy"), (right, "loss")):
            made = learning(lines, measure, marks, fold)
            place.plotly_chart(made, width="stretch", key=f"{KEY}_live_{measure}_{record.id}")

    runs.watched("train", draw)


def called(several: Sequence[Shown]) -> tuple[list[str], str]:
    """What runs are called in a figure that holds all of them, and the marks that all have, said once."""
    shared = [mark for mark in several[0].marks if all(mark in each.marks for each in several)]
    own = [[mark for mark in each.marks if mark not in shared] for each in several]
    names = [
        f"{each.title} ({', '.join(rest)})" if rest else each.title for each, rest in zip(several, own, strict=True)
    ]
    return names, ", ".join(shared)


def learning(
    lines: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], measure: str, marks: str = "", fold: int = 1
) -> go.Figure:
    """Accuracy or loss by epoch: training dashed, validation solid, a colour a run. fold: of a run with folds.

    Losses that differ by more than `SPREAD` are drawn on a scale of powers of ten. marks: said in the figure.
    """
    figure, values = go.Figure(), [0.0]
    for place, (name, history) in enumerate(lines):
        rows = [row for row in history if row.get("fold", 1) == fold]
        color = f"rgb({figures.COLORS[place % len(figures.COLORS)]})"
        x = [row["epoch"] for row in rows]
        values += [float(row[f"{part}_{measure}"]) for row in rows for part in ("train", "validation")]
        for part, dash in (("train", "dot"), ("validation", "solid")):
            figure.add_scatter(
                x=x,
                y=[row[f"{part}_{measure}"] for row in rows],
                name=f"{name}, {'training' if part == 'train' else part}"
                if len(lines) > 1
                else ("training" if part == "train" else part),
                mode="lines+markers" if len(x) <= 3 else "lines",
                line={"color": color, "dash": dash, "width": 2},
                hovertemplate="%{y:.3f}",
            )
    figure.update_xaxes(title="epoch", rangemode="tozero")
    unit = "accuracy, share of images" if measure == "accuracy" else "loss, cross-entropy in nats"
    figure.update_yaxes(title=unit, range=[0, 1.02] if measure == "accuracy" else None, rangemode="tozero")
    least = min((value for value in values if value > 0), default=1.0)
    if measure == "loss" and max(values) > SPREAD * least:
        figure.update_yaxes(title=f"{unit}, log scale", type="log", dtick=1)
    return sized(figure, len(lines), marks=marks)


def sized(figure: go.Figure, lines: int = 1, height: int = 330, marks: str = "") -> go.Figure:
    """Margins, a legend above with the marks of what is drawn, and room for its lines."""
    rows = max(0, lines - 1) + bool(marks)
    figure.update_layout(
        height=height + 22 * rows,
        margin={"l": 8, "r": 8, "t": 30 + 22 * rows, "b": 8},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "title": {"text": marks, "side": "top", "font": {"size": 12}},
        },
        hovermode="x",
    )
    return figure


def chart(figure: go.Figure, name: str) -> None:
    """A figure with its download as SVG in the bar above it."""
    st.plotly_chart(
        figure,
        width="stretch",
        key=f"{KEY}_chart_{name}",
        config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": f"olhar-{name}"}},
    )


def data_of(shown: Shown) -> DataSet:
    """The images of a run; raises `InputError` where they are not those that it was trained on."""
    config = shown.result.config
    place = shown.result.place
    key = (place, config["data_layout"], config["data_fingerprint"], dataset_stamp(place))
    return _data.get(key, shown.result.data)


def network(shown: Shown, fold: int = 1) -> Classifier:
    """The network of a run; `load_model` keeps those of run folders, the packed one is kept here."""
    if shown.id not in PACKED:
        return network_of_run(shown.result, fold)
    return _packed.get(shown.ident, lambda: network_of_run(shown.result))


def tried(shown: Shown) -> DataSet | None:
    """The images of a run, or None with the reason said."""
    try:
        return data_of(shown)
    except (XaiError, OSError) as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return None


def decimals(names: Any, form: str, whole: Sequence[str] = ()) -> dict[str, Any]:
    """Columns of a table whose numbers have this form; those of `whole` have no decimals."""
    return {name: st.column_config.NumberColumn(format="%d" if name in whole else form) for name in names}


def number_words(ends: Sequence[float] | None) -> str:
    """An interval of numbers as people read it; "" for none."""
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
