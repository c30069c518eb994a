"""Runs whose files are JSON and yet damaged: every key taken away, every value of another type.

Pages and terminal say which file it is; nothing ends in an exception. The schema must refuse each damage that could
break a page: so first each is looked for in what the schema says, and those that it lets pass are shown on the page.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from xai.cli import main
from xai.errors import InputError
from xai.runs.files import Launch, RunFiles, Status
from xai.settings import ASSETS
from xai.studies.transfer.result import load_result

SHIPPED = {
    "train": (ASSETS / "transfer" / "brain", "transfer_learning"),
    "audit-bias": (ASSETS / "bias", "bias_audit"),
    "augment": (ASSETS / "augmentation", "gan_augmentation"),
}
"""A finished run of each kind that comes with the software, and the page that shows it."""

OTHERS = (None, "x", 3, [])
"""Values to put in the place of another, of most types that JSON has."""

GONE = object()
"""In the place of a value: its key is taken away."""


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFiles:
    """The shipped run of the kind that is asked for, as one of this place."""
    kind = request.param
    folder = tmp_path / "runs" / "mine"
    shutil.copytree(SHIPPED[kind][0], folder, ignore=shutil.ignore_patterns("others", "detector", "networks"))
    (folder / "artifacts").mkdir(exist_ok=True)
    if (folder / "examples.safetensors").is_file():
        shutil.move(folder / "examples.safetensors", folder / "artifacts")
    files = RunFiles(folder)
    if kind == "audit-bias":  # thousands of alike rows: a few will do
        summary = files.read("summary.json")
        detector = json.loads((ASSETS / "bias" / "detector" / "summary.json").read_text())["detector"]
        detector["readings"] = detector["readings"][::50]
        summary["base"]["curves"] = summary["base"]["curves"][:2]
        summary |= {"sweep": summary["sweep"][:1], "mend": summary["mend"][:1], "detector": detector}
        for each in (summary["base"], *summary["sweep"], *summary["mend"]):
            each["audit"] |= {name: each["audit"][name][:2] for name in ("rows", "shares", "reliance")}
        files.write("summary.json", summary)
    if not (folder / "config.json").is_file():
        summary = files.read("summary.json")
        config = summary.get("request", summary["protocol"])
        files.write("config.json", {**config, "kind": kind})
    files.set_launch(Launch(kind, f"mine {kind}", (kind,), str(tmp_path), 1e9))
    files.set_status(Status("done", 1, 1))
    return files


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key; of a list of alike things those in the first."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield (*path, key)
            yield from places(each, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        yield from places(value[0], (*path, 0))


def put(whole: Any, path: Sequence[Any], value: Any) -> None:
    """Set what is at `path`, or take it away where `value` is GONE."""
    for key in path[:-1]:
        whole = whole[key]
    if value is GONE:
        del whole[path[-1]]
    else:
        whole[path[-1]] = value


def fits(old: Any, new: Any) -> bool:
    """Whether `new` is of the type that `old` has in JSON."""
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    return isinstance(new, type(old)) or (isinstance(old, float) and isinstance(new, int))


def opened(open_page: Any, page: str) -> AppTest:
    app = open_page(page, timeout=240)
    assert not app.exception, [each.message for each in app.exception]
    return app


def told(app: AppTest) -> str:
    """All that the page says."""
    return "\n".join(each.value.replace("\\", "") for each in (*app.warning, *app.error, *app.markdown))


@pytest.mark.parametrize("run", SHIPPED, indirect=True)
def test_a_whole_run_is_shown(run: RunFiles, open_page: Any) -> None:
    kind = str(run.config()["kind"])
    assert "is damaged" not in told(opened(open_page, SHIPPED[kind][1]))
    assert run.summary()


@pytest.mark.parametrize("run", SHIPPED, indirect=True)
@pytest.mark.parametrize("name", ["summary.json", "config.json"])
def test_what_the_schema_lets_pass_breaks_no_page(run: RunFiles, name: str, open_page: Any, capsys: Any) -> None:
    """Each damage is refused by name, or all those that are not stand in one file, which the page then shows."""
    whole, page = run.read(name), SHIPPED[str(run.config()["kind"])][1]
    without, other = {}, {}  # the damages that are not refused, by path
    for path in list(places(whole)):
        old = reduce(getitem, path, whole)
        for value in (GONE, *(each for each in OTHERS if not fits(old, each))):
            put(whole, path, value)
            run.path.joinpath(name).write_text(json.dumps(whole))
            put(whole, path, old)
            if said := refusal(run):
                assert said.startswith(f"{run.path / name} is damaged: "), (path, value)
                assert said.endswith("; put the file back from a copy, or make the run again."), (path, value)
            else:
                (without if value is GONE else other)[path] = value
    for passed in (without, {**without, **other}):
        broken = copy.deepcopy(whole)
        for path in sorted(passed, key=len, reverse=True):  # what is deepest first, while it is there
            put(broken, path, passed[path])
        run.path.joinpath(name).write_text(json.dumps(broken))
        opened(open_page, page)
    assert main(["runs", "show", "mine"]) in (0, 2)
    capsys.readouterr()


def refusal(run: RunFiles) -> str:
    """Why a file of the run is refused, or ""."""
    try:
        run.summary()
        run.config()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("run", "name"),
    [
        *(("train", name) for name in ("status.json", "launch.json")),  # alike for every kind
        *((kind, name) for kind in SHIPPED for name in ("config.json", "summary.json")),
    ],
    indirect=["run"],
)
def test_a_damaged_file_is_named_on_its_page_and_in_the_terminal(
    run: RunFiles, name: str, open_page: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"status.json": "state", "launch.json": "words", "config.json": "kind", "summary.json": "kind"}[name]
    kind = str(run.config()["kind"])
    if name == "summary.json":
        key = {"train": "classes", "audit-bias": "base", "augment": "arms"}[kind]
    run.path.joinpath(name).write_text(json.dumps({**run.read(name), key: 3}))
    app = opened(open_page, SHIPPED[kind][1])
    if kind == "augment" and name == "summary.json":  # the shipped study is shown until this one is picked
        app.selectbox(key="ga_study").set_value("mine").run()
    assert not app.exception
    assert f"{name} " in told(app)
    opened(open_page, "runs")
    assert main(["runs", "show", "mine"]) in (0, 2)
    said = capsys.readouterr()
    assert f"{name} " in said.out + said.err


@pytest.mark.parametrize("run", ["train"], indirect=True)
def test_a_damaged_table_of_answers_is_named(run: RunFiles, open_page: Any) -> None:
    file = run.path / "predictions.parquet"
    whole = pq.read_table(file)
    last = len(whole) - 1
    broken = {name: whole.drop_columns([name]) for name in whole.schema.names}
    broken |= {f"text in {name}": _column(whole, name, ["x"] * len(whole)) for name in ("label", "probabilities")}
    broken["no such class"] = _column(whole, "label", [*whole["label"].to_pylist()[:last], 2])
    broken["a probability too few"] = _column(whole, "probabilities", [[1.0]] * len(whole))
    broken["none"] = _column(whole, "index", [*whole["index"].to_pylist()[:last], None])
    broken["no rows"] = whole.slice(0, 0)
    for what, table in broken.items():
        pq.write_table(table, file)
        with pytest.raises(InputError, match=r"predictions\.parquet is damaged; write it again by train"):
            load_result(run.path)
        assert what
    assert "predictions.parquet is damaged" in told(opened(open_page, "transfer_learning"))
    pq.write_table(whole, file)
    assert load_result(run.path).predictions.equals(whole)


def _column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))


@pytest.mark.parametrize("run", ["train"], indirect=True)
def test_damaged_lines_and_tables_of_a_training_are_named(run: RunFiles, open_page: Any) -> None:
    lines = run.path / "metrics.jsonl"
    good = lines.read_text()
    lines.write_text(good + '{"fold": 1, "epo')  # cut off by a kill: passed over
    assert "is damaged" not in told(opened(open_page, "transfer_learning"))
    lines.write_text(good + '{"fold": 1, "epoch": "2"}\n')
    number = len(good.splitlines()) + 1
    with pytest.raises(
        InputError, match=rf"metrics\.jsonl is damaged: line {number}: epoch is '2', not a whole number"
    ):
        run.metrics()
    (run.path / "summary.json").touch()
    assert "metrics.jsonl is damaged" in told(opened(open_page, "transfer_learning"))
