"""The transfer page without a browser: what is begun there, as it learns and when it is done."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.app.conftest import OpenPage
from tests.app.test_transfer_app import captions, second_run
from xai.models.exported import export_network, list_networks, write_network
from xai.runs import control as run_control
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder
from xai.runs.locks import locked
from xai.training import Recipe, build_network
from xai.ui.runs import plain
from xai.ui.transfer_learning import forms as transfer_form
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.state import shipped
from xai.ui.work import Recent


def test_a_network_that_several_maps_ask_for_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def slow(result: object) -> object:
        made.append(result)
        time.sleep(0.05)
        return result

    monkeypatch.setattr(transfer, "network_of_run", slow)
    monkeypatch.setattr(transfer, "_packed", Recent(2))
    threads = [threading.Thread(target=transfer.network, args=(shipped(),)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(made) == 1


def test_what_was_begun_is_shown_when_it_is_done(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_control, "start", lambda words, path: None)
    second_run(tmp_path / "runs" / "train-1")
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.run()
    app.button(key="tlf_go").click().run()
    assert app.session_state["tl_picked"] == "train-1"
    assert "Begun; it stands under Runs, below." in captions(app)
    begun = app.session_state["tl_awaited"]
    (tmp_path / "runs" / begun / "launch.json").unlink()
    (tmp_path / "runs" / begun).rmdir()
    second_run(tmp_path / "runs" / begun)
    app.run()
    assert not app.exception
    assert app.session_state["tl_picked"] == begun
    app.selectbox(key="tl_picked").set_value("train-1").run()
    assert app.session_state["tl_picked"] == "train-1"


def test_why_a_run_could_not_learn_on_is_said_beside_its_result(open_page: OpenPage, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "train-1")
    second_run(folder.path)
    folder.set_status(Status("done", 100, 100, error="it could not go on: data 'mine' does not exist."))
    app = open_page("transfer_learning")
    assert plain("it could not go on: data 'mine' does not exist.") in [each.value for each in app.markdown]
    assert app.session_state["tl_picked"] == "train-1"


def test_a_result_stays_where_learning_on_failed_and_its_reason_is_said_once(
    open_page: OpenPage, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "train-1")
    second_run(folder.path)
    folder.set_status(Status("failed", 40, 100, error="the disk is full."))
    app = open_page("transfer_learning")
    assert app.session_state["tl_picked"] == "train-1"
    assert [each.value for each in app.markdown].count(plain("the disk is full.")) == 1
    assert any(each.label == "Validation accuracy" for each in app.metric)


def test_runs_of_one_title_can_each_be_picked_and_stay_so_when_renamed(open_page: OpenPage, tmp_path: Path) -> None:
    """A browser sends the label of what is picked: of two that are the same one could never be had."""
    ids = [f"train-{number}" for number in (1, 2, 3)]
    for each in ids:
        second_run(tmp_path / "runs" / each)
        RunFolder(tmp_path / "runs" / each).set_launch(Launch("train", "Brain", ("train", "sample:brain"), asked=1.0))
    app = open_page("transfer_learning")
    assert len(set(app.selectbox(key="tl_picked").options)) == 3
    assert len(set(app.multiselect(key="tl_beside").options)) == len(app.multiselect(key="tl_beside").options)
    app.selectbox(key="tl_picked").set_value("train-2").run()
    app.multiselect(key="tl_beside").set_value(["train-3"]).run()
    for each in ids[1:]:
        run_control.rename(each, f"Mine {each}")
    app.run()
    for widget in (app.selectbox(key="tl_picked"), app.multiselect(key="tl_beside")):
        assert widget.proto.set_value  # the browser learns the new label
    assert app.session_state["tl_picked"] == "train-2"
    assert app.session_state["tl_beside"] == ["train-3"]


def test_runs_of_one_title_are_told_apart_where_they_are_compared(open_page: OpenPage, tmp_path: Path) -> None:
    for each in ("train-1", "train-2"):
        second_run(tmp_path / "runs" / each)
        RunFolder(tmp_path / "runs" / each).set_launch(Launch("train", "Brain", ("train", "sample:brain"), asked=1.0))
    app = open_page("transfer_learning")
    picked = app.session_state["tl_picked"]
    other = "train-1" if picked == "train-2" else "train-2"
    app.multiselect(key="tl_beside").set_value([other]).run()
    names = [f"Brain · {picked}", f"Brain · {other}"]
    assert next(d.value for d in app.dataframe if "Run" in d.value)["Run"].tolist() == names
    legends = [[line["name"] for line in json.loads(c.proto.spec)["data"]] for c in app.get("plotly_chart")]
    parts = ("training", "validation")
    assert legends[:2] == [[f"{name}, {part}" for name in names for part in parts]] * 2
    app.multiselect(key="tl_beside").set_value([]).run()
    assert next(d.value for d in app.dataframe if "Run" in d.value)["Run"].tolist() == ["Brain"]


def test_a_result_stays_with_those_beside_it_while_its_run_learns_on(open_page: OpenPage, tmp_path: Path) -> None:
    for each in ("train-1", "train-2"):
        second_run(tmp_path / "runs" / each)
    app = open_page("transfer_learning")
    app.selectbox(key="tl_picked").set_value("train-1").run()
    app.multiselect(key="tl_beside").set_value(["train-2"]).run()
    with locked(tmp_path / "runs" / "train-1" / ".lock", 1):
        RunFolder(tmp_path / "runs" / "train-1").set_status(Status("running", 20, 100))
        app.run()
        assert not app.exception
        assert (app.session_state["tl_picked"], app.session_state["tl_beside"]) == ("train-1", ["train-2"])
        assert next(d.value for d in app.dataframe if "Run" in d.value)["Run"].tolist() == ["train-1", "train-2"]
        assert app.button(key="tl_learn_on_train-1").disabled


def test_of_a_run_stopped_while_it_learned_on_the_shown_command_is_the_results(
    open_page: OpenPage, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "train-1")
    second_run(folder.path)
    folder.set_launch(Launch("train", "Mine", ("train", "sample:brain", "--epochs", "60"), asked=1.0))
    folder.set_status(Status("cancelled", 40, 100, error="stopped; resume goes on."))
    app = open_page("transfer_learning")
    assert "python -m xai train sample:brain --epochs 30 --out DIR" in [each.value for each in app.code]
    assert app.button(key="tl_learn_on_train-1").disabled  # its card offers to resume
    folder.set_status(Status("done", 100, 100))
    assert not app.run().button(key="tl_learn_on_train-1").disabled


def test_a_damaged_launch_file_and_a_folder_that_cannot_be_listed_leave_the_page_open(
    open_page: OpenPage, tmp_path: Path
) -> None:
    second_run(tmp_path / "runs" / "train-1")
    (tmp_path / "runs" / "train-1" / "launch.json").write_text("{")
    app = open_page("transfer_learning")
    assert not app.exception
    assert app.button(key="tl_learn_on_train-1").disabled
    (tmp_path / "runs").rename(tmp_path / "gone")
    (tmp_path / "runs").write_text("no folder")
    app.run()
    assert not app.exception
    assert "cannot be listed" in app.error[0].value


def test_an_exported_network_is_taken_in_and_refused_with_a_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    made = build_network("simple_cnn", "random:0", ("no", "yes"), Recipe())
    write_network(tmp_path / "spots", made.classifier("run:spots"), "linear", {})
    file = export_network(str(tmp_path / "spots"), tmp_path / "spots.zip")
    app = open_page("transfer_learning")
    app.session_state["tl_take"] = True
    for data, taken in ((file.read_bytes(), 1), (b"no zip", 1)):
        app.run().file_uploader(key="tlf_network").set_value(("spots.zip", data, "application/zip")).run()
        app.button(key="tlf_take").click().run()
        assert not app.exception
        assert len(list_networks()) == taken
    assert [each.value for each in app.warning] == [
        plain("spots.zip has no model.json that can be read; train or export it again.")
    ]


def test_live_curves_are_those_of_the_fold_under_way_with_their_marks(open_page: OpenPage, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "train-1"
    second_run(folder)
    config = json.loads((folder / "config.json").read_text())
    options = {"folds": 5, "weights": "random:0", "data": "sample:brain?slices=40"}
    (folder / "config.json").write_text(json.dumps({**config, **options}))
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    lines = [{**row, "fold": fold, "train_accuracy": fold / 10} for fold in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with locked(folder / ".lock", 1):
        RunFolder(folder).set_status(Status("running", 20, 100))
        app = open_page("transfer_learning")
        assert any(each.value.endswith("as it learns, fold 2 of 5") for each in app.markdown)
        chart = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert chart["data"][0]["y"] == [0.2]
    assert chart["layout"]["legend"]["title"]["text"] == "synthetic images, began with random weights"


def test_half_precision_is_offered_where_there_is_a_gpu_for_it(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_form, "resolve_device", lambda _: torch.device("cpu"))
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    assert app.run().selectbox(key="tlf_precision").options == ["float32", "bf16"]
    monkeypatch.setattr(transfer_form, "resolve_device", lambda _: torch.device("cuda:0"))
    assert app.run().selectbox(key="tlf_precision").options == ["float32", "bf16", "fp16"]
