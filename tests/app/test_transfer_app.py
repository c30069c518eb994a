"""The transfer page without a browser: it opens with a result, every tab works, the threshold moves the figures."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.app.conftest import OpenPage
from xai.data import DataSet, open_dataset
from xai.runs import control as run_control
from xai.runs.files import Launch, Status
from xai.runs.folder import RunFolder
from xai.studies.transfer.review import difference_of, seen
from xai.studies.transfer.shipped import BRAIN
from xai.studies.transfer.train import load_result
from xai.types import Run
from xai.ui import figures
from xai.ui.jobs import BOARD
from xai.ui.transfer_learning import figures as transfer_figures
from xai.ui.transfer_learning import forms as transfer_form
from xai.ui.transfer_learning import maps as transfer_maps
from xai.ui.transfer_learning import state as transfer
from xai.ui.transfer_learning.state import PACKED, shipped


def settled(app: AppTest) -> AppTest:
    """The page once more when nothing is under way any more, as its fragment has it."""
    until = time.monotonic() + 120
    while any(job.active for job in list(BOARD._jobs.values())):
        assert time.monotonic() < until, "the board does not come to rest"
        BOARD.wait(BOARD.version, 0.2)
    return app.run()


def captions(app) -> str:
    return " ".join(each.value for each in app.caption)


def test_it_opens_with_a_result_that_says_how_it_was_made(open_page: OpenPage) -> None:
    app = open_page("transfer_learning")
    told = shipped().result.summary
    assert app.metric[0].value == f"{told['accuracy']:.1%}"
    assert "stratified split, 80% for training, drawn by seed 0" in captions(app).replace("\\", "")
    assert any("synthetic images" in each.value for each in app.markdown)
    assert "python -m xai train sample:brain --head study4 --epochs 30 --out runs/brain" in [c.value for c in app.code]
    last = app.dataframe[0].value
    assert last["Epoch"].tolist() == [26, 27, 28, 29, 30]
    assert last["Validation accuracy"].iloc[-1] == pytest.approx(told["accuracy"])


def test_the_threshold_moves_every_figure(open_page: OpenPage) -> None:
    app = open_page("transfer_learning")
    app.session_state["tl_tabs"] = "Figures"
    app.run()
    rows = seen(shipped().result, 0.5)
    assert f"{sum(row.kind == 'false positive' for row in rows)} false positives" in captions(app)
    app.slider(key="tl_threshold").set_value(0.05).run()
    assert not app.exception
    moved = seen(shipped().result, 0.05)
    assert sum(row.kind == "false positive" for row in moved) > sum(row.kind == "false positive" for row in rows)
    assert f"At 0.05: {sum(r.kind == 'right' and r.label == 1 for r in moved)} true positives" in captions(app)
    app.session_state["tl_tabs"] = "Review"
    app.run()
    assert not app.exception
    assert f"{sum(not row.correct for row in moved)} of all are wrong" in captions(app)
    assert "“yes” is said from a probability of 0.05 on." in captions(app).replace("\\", "")


def test_an_error_is_opened_tagged_and_kept(open_page: OpenPage) -> None:
    app = open_page("transfer_learning", timeout=120)
    app.session_state["tl_tabs"] = "Review"
    app.session_state["tl_methods"] = ["gradcam"]
    app.run()
    assert not app.exception
    wrong = [row for row in seen(shipped().result) if not row.correct]
    target = max(wrong, key=lambda row: row.confidence)
    app.button(key=f"tl_explain_{target.place}").click().run()
    assert not app.exception
    assert target.key in [each.value.replace("\\", "") for each in app.subheader]
    links = [each.value for each in app.markdown if each.value.endswith("[Explained below](#explained)")]
    assert len(links) == 1
    app.selectbox(key=f"tl_tag_shipped_{target.place}").set_value("background").run()
    assert app.session_state["tl_notes_shipped"] == {target.key: ("background", "")}


def test_flips_ask_for_a_second_run_and_masks_are_measured(open_page: OpenPage) -> None:
    app = open_page("transfer_learning", timeout=120)
    app.session_state["tl_tabs"] = "Flips between models"
    app.run()
    assert "Choose a run beside this one" in app.info[0].value
    app.session_state["tl_tabs"] = "Looks at the object?"
    app.session_state["tl_inside_count"] = 8
    settled(app.run())
    assert not app.exception
    row = app.dataframe[0].value.iloc[0]
    assert row["Images"] == 8
    assert row["from"] <= row["Above chance"] <= row["to"]
    assert row["Above chance"] == pytest.approx(row["Inside the object"] - row["Chance"], abs=1e-6)


def test_the_form_begins_the_command_that_it_shows(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[list[str], Path]] = []

    def start(words: list[str], path: Path) -> run_control.Record:
        begun.append((words, path))
        return run_control.record(path)

    monkeypatch.setattr(run_control, "start", start)
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.run()
    assert not app.exception
    assert "253 images, 2 classes" in " ".join(each.value for each in app.markdown)
    app.selectbox(key="tlf_parts").set_value("5 folds").run()
    app.number_input(key="tlf_epochs").set_value(12).run()
    command = next(c.value for c in app.code if "--folds" in c.value)
    app.button(key="tlf_go").click().run()
    assert not app.exception
    words = begun[0][0]
    assert words == [
        "train",
        "sample:brain",
        "--model",
        "efficientnet_lite0",
        "--head",
        "study4",
        "--epochs",
        "12",
        "--folds",
        "5",
    ]
    assert command.startswith(f"python -m xai {' '.join(words)} --out ")


def test_a_zip_with_a_bad_file_is_listed_and_one_class_is_refused(open_page: OpenPage) -> None:
    sink, picture = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (30, 30), (200, 10, 10)).save(picture, "PNG")
    with zipfile.ZipFile(sink, "w") as archive:
        for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
            archive.writestr(name, picture.getvalue())
        archive.writestr("dog/notes.txt", "x")
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.session_state["tlf_source"] = "zip"
    app.run()
    app.file_uploader(key="tlf_upload_zip").set_value(("mine.zip", sink.getvalue(), "application/zip")).run()
    assert not app.exception
    assert any("dog/notes.txt" in str(each.value) for each in app.dataframe)
    assert "Class 'dog' has 1 image, but a split needs 2 of each class" in app.warning[0].value
    assert app.button(key="tlf_go").disabled
    assert "mine.zip, EfficientNet-Lite0" in [each.value for each in app.text_input]
    app.file_uploader(key="tlf_upload_zip").set_value(("odd.zip", b"no zip", "application/zip")).run()
    assert app.warning[0].value.replace("\\", "").startswith("The file odd.zip cannot be read as a zip")


def test_every_figure_stands_with_its_interval(open_page: OpenPage) -> None:
    found = shipped().result.figures()
    app = open_page("transfer_learning")
    low, high = found.intervals["accuracy"] or (0, 0)
    assert app.metric[0].delta == f"{100 * low:.1f} to {100 * high:.1f} %"
    low, high = found.intervals["auc"] or (0, 0)
    assert next(each.delta for each in app.metric if each.label == "AUC") == f"{low:.3f} to {high:.3f}"
    app.session_state["tl_tabs"] = "Figures"
    app.run()
    assert not app.exception
    rates = app.dataframe[0].value.set_index("figure")
    of_yes = found.by_class[1].intervals
    for name in ("precision", "recall", "specificity", "f1"):
        assert rates.loc[f"{name} of yes", "95 % interval"] == "{:.3f} to {:.3f}".format(*of_yes[name])
    assert rates.loc["AUC", "95 % interval"] == f"{low:.3f} to {high:.3f}"
    counts = next(each.text for each in transfer_figures._calibration([shipped()]).data if each.mode == "text")
    assert [int(each) for each in counts] == [each.count for each in found.bins if each.count]
    assert sum(map(int, counts)) == 51


def test_runs_are_called_better_only_where_their_paired_interval_says_so(open_page: OpenPage) -> None:
    app = open_page("transfer_learning")
    app.pills(key="tl_study").set_value("Study 3: drawn characters, untrained networks").run()
    assert not app.exception
    told = next(each.value for each in app.markdown if each.value.startswith("**Differences on the same images**"))
    first, *others = (shipped(each) for each in list(PACKED)[1:])
    for other in others:
        found = difference_of(first.result, other.result)
        shown = found.accuracy.low > 0 or found.accuracy.high < 0
        assert (f"No difference in accuracy is shown between {first.title} and {other.title}" in told) is not shown
    table = next(each.value for each in app.dataframe if "Shown" in each.value)
    for interval, verdict in zip(table["95 % interval"], table["Shown"], strict=True):
        low, high = map(float, interval.split(" to "))
        assert verdict == ("no" if low <= 0 <= high else "yes")


def zip_bytes(*names: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number, name in enumerate(names):
            picture = io.BytesIO()
            Image.new("RGB", (30, 30), (20 * number, 10, 10)).save(picture, "PNG")
            archive.writestr(name, picture.getvalue())
    return sink.getvalue()


def test_given_folders_one_class_and_groups_are_told_on_the_form(open_page: OpenPage) -> None:
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.session_state["tlf_source"] = "zip"
    app.run()
    names = [f"{part}/{kind}/p{n}.png" for part in ("Train", "test") for kind in ("cat", "dog") for n in range(2)]
    app.file_uploader(key="tlf_upload_zip").set_value(("mine.zip", zip_bytes(*names), "application/zip")).run()
    assert not app.exception
    told = [each.value for each in app.markdown]
    assert any(
        "8 images, 2 classes (class folders), divided by their folders (train 4, test 4)." in each for each in told
    )
    assert "The folders are used as they are" in captions(app)
    app.text_input(key="tlf_groups").set_value(r"p(\d)").run()
    assert "8 of 8 images in 2 groups." in captions(app)
    assert next(each.value for each in app.code if "--groups" in each.value).count(r"--groups 'p(\d)'") == 1
    app.text_input(key="tlf_groups").set_value("patient").run()
    assert any("none of the 8 images has a group" in each.value for each in app.warning)
    one = zip_bytes("mri/yes/1.png", "mri/yes/2.png", "mri/.no/3.png")
    app.file_uploader(key="tlf_upload_zip").set_value(("one.zip", one, "application/zip")).run()
    assert "There is only one class: all 2 images lie in the folder 'yes'; add a folder" in (
        app.warning[0].value.replace("\\", "")
    )
    assert any("hidden: its name begins with a dot" in str(each.value) for each in app.dataframe)


def test_several_runs_stand_in_one_figure_with_their_names() -> None:
    one = shipped()
    figure = transfer.learning([("a", one.result.history), ("b", one.result.history)], "accuracy")
    assert [trace.name for trace in figure.data] == ["a, training", "a, validation", "b, training", "b, validation"]
    assert figure.layout.xaxis.title.text == "epoch"
    assert figure.layout.yaxis.title.text == "accuracy, share of images"
    assert list(figure.data[1].y) == [row["validation_accuracy"] for row in load_result(one.result.path).history]
    loss = [{"epoch": n, "train_loss": 60.0 / n**3, "validation_loss": 1.0} for n in (1, 2, 3)]
    assert transfer.learning([("a", loss)], "loss").layout.yaxis.type is None  # 60 is less than 100 times 1
    wide = transfer.learning(
        [("a", [*loss, {"epoch": 4, "train_loss": 0.5, "validation_loss": 1.0}])], "loss", "marked"
    )
    assert (wide.layout.yaxis.type, wide.layout.legend.title.text) == ("log", "marked")
    names, marks = transfer.called([one, replace(one, title="Other")])
    assert (names, marks) == ([one.title, "Other"], "synthetic images")
    real = replace(one, result=replace(one.result, summary={**one.result.summary, "synthetic": False}))
    assert transfer.called([one, real]) == ([one.name, one.title], "")
    matrix = transfer_figures._confusion(one, None)
    assert [list(row) for row in matrix.data[0].text] == [list(row) for row in one.result.figures().confusion]
    assert transfer_form.PARTS["80/20"] == 0.8


def test_a_run_of_other_classes_is_not_in_the_curves_of_a_class() -> None:
    one = shipped()
    other = replace(one, result=replace(one.result, summary={**one.result.summary, "classes": ["cat", "dog"]}))
    app = AppTest.from_function(_figures_of, kwargs={"several": [one, other]}).run(timeout=60)
    assert not app.exception
    assert any("has other classes: only in the calibration." in each.value for each in app.caption)
    charts = [json.loads(each.proto.spec) for each in app.get("plotly_chart")]
    lines = {chart["layout"]["xaxis"]["title"]["text"]: len(chart["data"]) for chart in charts}
    assert lines["recall"] == 2  # the curve, and the point at the threshold
    assert lines["mean winning probability of the bin"] == 5  # both, their counts, and the diagonal
    app = AppTest.from_function(_figures_of, kwargs={"several": [one, other, one]}).run(timeout=60)
    drawn = [json.loads(each.proto.spec)["data"] for each in app.get("plotly_chart")[1:]]
    third = f"rgb({figures.COLORS[2]})"  # the third run has its colour in every figure, whoever is not in it
    assert all(third in {line["line"]["color"] for line in chart if "line" in line} for chart in drawn)


def _figures_of(several: "list[Any]") -> None:  # noqa: UP037 (AppTest takes this function out of its module)
    from xai.ui.transfer_learning.figures import measured

    measured(several)


def second_run(folder: Path) -> list[str]:
    """A finished run beside the shipped one that turns two answers round; the keys of those."""
    shutil.copytree(BRAIN, folder)
    RunFolder(folder).set_status(Status("done", 100, 100))
    table = pq.read_table(folder / "predictions.parquet").to_pylist()
    for row in table[:2]:
        row["probabilities"] = row["probabilities"][::-1]
        row["predicted"] = 1 - row["predicted"]
        row["correct"] = not row["correct"]
    pq.write_table(pa.Table.from_pylist(table), folder / "predictions.parquet")
    return [row["key"] for row in table[:2]]


def test_two_runs_are_compared_and_their_flips_explained(open_page: OpenPage, tmp_path: Path) -> None:
    keys = second_run(tmp_path / "runs" / "train-1")
    app = open_page("transfer_learning", timeout=120)
    assert app.metric[0].value == f"{shipped().result.summary['accuracy']:.1%}"
    app.multiselect(key="tl_beside").set_value(["shipped"]).run()
    assert not app.exception
    assert next(d.value for d in app.dataframe if "Run" in d.value)["Run"].tolist() == ["train-1", shipped().title]
    app.session_state["tl_tabs"] = "Flips between models"
    settled(app.run())
    assert not app.exception
    assert any("**2 images flip**" in each.value for each in app.markdown)
    assert [option.split(":")[0] for option in app.selectbox(key="tl_flip").options] == sorted(keys)
    assert len(app.image) == 8  # three methods, two networks, and what each sees
    app.toggle(key="tl_flip_every").set_value(True).run()
    assert len(app.selectbox(key="tl_flip").options) == 51


def test_study_3_lays_its_three_networks_beside_each_other(open_page: OpenPage) -> None:
    app = open_page("transfer_learning", timeout=60)
    study = app.button_group(key="tl_study")
    study.set_value(study.options[1]).run()
    assert not app.exception
    titles = ["VGG16 on characters", "ResNet50 on characters", "DenseNet121 on characters"]
    assert next(d.value for d in app.dataframe if "Run" in d.value)["Run"].tolist() == titles
    assert any(each.value.endswith(":orange-badge[began with random weights]") for each in app.markdown)
    assert "would give 10.0%" in captions(app).replace("\\", "")
    app.session_state["tl_tabs"] = "Flips between models"
    app.session_state["tl_flip_methods"] = []
    settled(app.run())
    assert not app.exception
    assert any("of 160 that all were validated on" in each.value for each in app.markdown)
    assert len(app.image) == 3  # what each network sees


def test_who_picks_a_run_sees_it_although_a_study_was_picked_before(open_page: OpenPage, tmp_path: Path) -> None:
    second_run(tmp_path / "runs" / "train-1")
    second_run(tmp_path / "runs" / "train-2")
    app = open_page("transfer_learning", timeout=60)
    study = app.button_group(key="tl_study")
    study.set_value(study.options[1]).run()
    assert app.metric[0].value == "45.0%"
    runs = app.selectbox(key="tl_picked")
    runs.select_index(1 - runs.options.index(runs.value) if runs.value in runs.options else 1).run()
    assert not app.exception
    assert app.session_state["tl_study"] is None
    assert app.session_state["tl_beside"] == []
    assert app.metric[0].value == f"{shipped().result.summary['accuracy']:.1%}"


def test_a_finished_run_learns_on(open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(run_control, "start", lambda words, path: begun.append((list(words), path)))
    folder = tmp_path / "runs" / "train-1"
    second_run(folder)
    words = ("train", "sample:brain", "--head", "study4", "--epochs", "30")
    RunFolder(folder).set_launch(Launch("train", "Mine", words, str(tmp_path), asked=1.0))
    app = open_page("transfer_learning")
    app.number_input(key="tl_more_train-1").set_value(20).run()
    app.button(key="tl_learn_on_train-1").click().run()
    assert not app.exception
    assert begun == [(["train", "sample:brain", "--head", "study4", "--epochs", "50"], folder)]


def test_of_folds_each_network_can_be_had_and_a_rate_that_rises_is_said(open_page: OpenPage, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "train-1"
    second_run(folder)
    summary, config = (
        json.loads((folder / "summary.json").read_text()),
        json.loads((folder / "config.json").read_text()),
    )
    part = {"images": 20, "accuracy": 0.5, "loss": 0.5, "auc": None, "macro_f1": 0.5, "epochs": 30}
    over = {"accuracy": {"mean": 0.5, "deviation": 0.0, "folds": 2}}
    summary |= {"folds": [{"fold": 1, **part}, {"fold": 2, **part}], "over_folds": over}
    config["recipe"]["schedule"] = "cosine"
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(json.dumps(config))
    app = open_page("transfer_learning")
    assert "images for training in fold 1, 51 for validation; 30 epochs in fold 1 on " in captions(app)
    assert "the learning rate rises again. Every page and command can use this network as run:train-1." in (
        captions(app).replace("\\", "")
    )
    app.selectbox(key="tl_fold_train-1").set_value(2).run()
    assert not app.exception
    assert "can use this network as run:train-1/fold-2." in captions(app).replace("\\", "")


def test_a_third_run_stands_beside_the_others(open_page: OpenPage, tmp_path: Path) -> None:
    second_run(tmp_path / "runs" / "train-1")
    second_run(tmp_path / "runs" / "train-2")
    app = open_page("transfer_learning", timeout=120)
    app.multiselect(key="tl_beside").set_value([app.multiselect(key="tl_beside").options[0], "shipped"])
    app.session_state["tl_tabs"] = "Flips between models"
    app.session_state["tl_flip_methods"] = []
    settled(app.run())
    assert not app.exception
    assert len(app.image) == 3
    assert any(each.value.startswith("**2 images flip** of 51 that all were validated on") for each in app.markdown)


def test_slow_maps_do_not_hold_the_page_and_are_cancelled(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script comes back while a map is made; Cancel ends it, and a button begins it again."""
    begun, release = threading.Event(), threading.Event()

    def slow(*args: Any, run: Run, **more: Any) -> None:
        begun.set()
        while not release.wait(0.05):
            run.check()

    monkeypatch.setattr(transfer_maps, "attribute", slow)
    app = open_page("transfer_learning", timeout=60)
    app.session_state["tl_tabs"] = "Review"
    app.session_state["tl_methods"] = ["rise"]
    app.run()
    assert not app.exception
    assert begun.wait(20)
    assert any("RISE" in each.value and "hourglass" in each.value for each in app.caption)
    app.button(key="tl_cancel").click().run()
    settled(app)
    assert not app.exception
    again = next(each for each in app.button if each.label == "Explain by RISE")
    release.set()
    monkeypatch.undo()
    app.session_state["tl_methods"] = ["gradcam"]
    assert again.key.startswith("tl_again_")


def test_the_title_names_the_network_that_is_chosen(open_page: OpenPage) -> None:
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.run()
    app.selectbox(key="tlf_model").set_value("vgg19").run()
    titles = [each.value for each in app.text_input if each.label == "Title"]
    assert titles == ["brain, VGG19"]


def test_a_folder_on_the_server_is_read_again_only_when_it_changes(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def opening(place: str) -> DataSet:
        opened.append(place)
        return open_dataset(place)

    monkeypatch.setattr(transfer_form, "open_data", opening)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 30)).save(tmp_path / "data" / name)
    app = open_page("transfer_learning")
    app.session_state["tl_form"] = True
    app.session_state["tlf_source"] = "server"
    app.session_state["tlf_path"] = str(tmp_path / "data")
    app.run()
    app.number_input(key="tlf_epochs").set_value(7).run()
    assert len(opened) == 1
    assert any("4 images, 2 classes" in each.value for each in app.markdown)
    Image.new("RGB", (30, 30)).save(tmp_path / "data" / "b" / "3.png")
    app.number_input(key="tlf_epochs").set_value(8).run()
    assert len(opened) == 2
    assert any("5 images, 2 classes" in each.value for each in app.markdown)
    shutil.rmtree(tmp_path / "data")
    app.number_input(key="tlf_epochs").set_value(9).run()
    assert not app.exception
    assert "does not exist; give a folder, a zip, or one of" in app.warning[0].value


def test_a_run_with_a_damaged_table_hides_no_other(open_page: OpenPage, tmp_path: Path) -> None:
    second_run(tmp_path / "runs" / "train-1")
    (tmp_path / "runs" / "train-1" / "predictions.parquet").write_bytes(b"PAR1")
    app = open_page("transfer_learning")
    assert any("predictions" in each.value and "damaged" in each.value for each in app.warning)
    assert app.metric[0].value == f"{shipped().result.summary['accuracy']:.1%}"
