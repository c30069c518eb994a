"""A training as a run: resumable after a kill, more epochs, folds, several processes, and readable afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.unit.transfer_helpers import EPOCHS, RECIPE, request_for, two_brightnesses
from xai.errors import Cancelled, InputError
from xai.models import load_model
from xai.runs import control as run_control
from xai.runs.files import Launch
from xai.runs.folder import RunFolder
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.train import comparison, load_result, train
from xai.training import Recipe
from xai.types import Run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes below have, so that weights are equal to the last bit
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return two_brightnesses(tmp_path_factory.mktemp("data"))


def words(data: Path, out: Path, *more: str) -> list[str]:
    options = ["--model", "simple_cnn", "--weights", "random:0", "--head", "study4", "--batch", "4", "--seed", "1"]
    return ["train", str(data), *options, "--epochs", str(EPOCHS), "--device", "cpu", "--out", str(out), *more]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "artifacts" / "model.safetensors")


def same(one: Path, two: Path) -> bool:
    a, b = tensors(one), tensors(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    os.environ["XAI_CACHE"] = str(out.parent / "cache")
    assert train(request_for(data), out, device="cpu") is not None
    return out


def test_the_run_folder_holds_everything(whole, data):
    result = load_result(whole)
    summary = json.loads((whole / "summary.json").read_text())
    assert json.loads((whole / "status.json").read_text())["state"] == "done"
    assert [(row["fold"], row["epoch"]) for row in result.history] == [(1, n) for n in range(1, EPOCHS + 1)]
    assert set(result.history[0]) == {
        *("fold", "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
        *("seconds", "learning_rate"),
    }
    assert summary["epochs"] == EPOCHS
    assert summary["images"] == {"training": 15, "validation": 4}  # one of 16 is broken
    assert [each["key"] for each in summary["left_out"]] == ["yes/19.png"]
    assert summary["data_sentence"] == "19 images, 2 classes (class folders), 1 file left out"
    assert summary["images_by_class"] == {"no": 10, "yes": 9}
    assert (summary["trained_parameters"], summary["parameters"]) == (16_641, 77_153)
    assert summary["random_base"] is True
    assert [row["epoch"] for row in summary["last_epochs"]] == list(range(EPOCHS - 4, EPOCHS + 1))
    assert summary["accuracy"] == result.history[-1]["validation_accuracy"]
    assert summary["loss"] == pytest.approx(result.history[-1]["validation_loss"], rel=1e-6)
    assert "stratified split, 80% for training, drawn by seed 1; centre crop" in summary["protocol"]["validation"]
    assert summary["protocol"]["auc"].startswith("area under the ROC curve")
    assert str(data) not in (whole / "artifacts" / "model.json").read_text()


def test_predictions_are_those_of_the_network_in_validation_order(whole):
    result = load_result(whole)
    items = result.items()
    assert [item.key for item in items] == result.predictions["key"].to_pylist()
    assert [item.label for item in items] == result.predictions["label"].to_pylist()
    classifier = result.classifier(device="cpu")
    assert classifier.labels == ("no", "yes")
    logits = classifier.predict(classifier.preprocess([item.open() for item in items]))
    again = logits.double().softmax(1)
    assert torch.allclose(again, torch.from_numpy(result.probabilities), atol=1e-6)
    assert result.figures().accuracy == result.summary["accuracy"]
    assert result.predictions["correct"].to_pylist() == [
        a == b for a, b in zip(result.predictions["label"].to_pylist(), again.argmax(1).tolist(), strict=True)
    ]


def test_the_pace_is_that_of_the_epochs_not_of_reading(data, tmp_path):
    """What is read counts for nothing: a tenth of the progress for it made 1,000 epochs look like minutes."""
    told: list[tuple[int, int, str]] = []
    recipe = Recipe(epochs=2, batch=4, trainable="all")
    run = Run(on_progress=lambda *what: told.append(what))
    assert train(request_for(data, recipe=recipe), tmp_path / "r", device="cpu", run=run) is not None
    assert told[0] == (0, 0, "reading images: 16 of 20")
    counted = [(done, total) for done, total, _ in told if total]
    assert counted[0] == (9_900 // 8, 10_000)  # 15 images in batches of 4, twice
    assert counted[-1] == (10_000, 10_000)


def test_another_set_of_images_is_not_reviewed(whole, tmp_path, data):
    result = load_result(whole)
    (tmp_path / "no").mkdir()
    (tmp_path / "yes").mkdir()
    for name in ("no", "yes"):
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    moved = replace(result, config={**result.config, "data": str(tmp_path)})
    with pytest.raises(InputError, match=r"the images of .* are not those that the run was trained on\."):
        moved.items()


def test_images_are_found_from_where_the_command_was_said(whole, data, tmp_path):
    shutil.copytree(whole, tmp_path / "r")
    RunFolder(tmp_path / "r").set_launch(Launch("train", cwd=str(data.parent)))
    found = load_result(tmp_path / "r")
    found = replace(found, config={**found.config, "data": data.name})
    assert [item.key for item in found.items()] == found.predictions["key"].to_pylist()


def test_more_epochs_continue_a_finished_run(whole, data, tmp_path):
    out = tmp_path / "run"
    train(request_for(data, recipe=replace(RECIPE, epochs=EPOCHS - 10)), out, device="cpu")
    with pytest.raises(InputError, match=r"holds a run already; add --resume"):
        train(request_for(data), out, device="cpu")
    RunFolder(out).set_launch(Launch("train", "Mine", ("train", "x", "--epochs=50", "--batch", "4")))
    result = train(request_for(data), out, resume=True, device="cpu")
    assert result is not None
    assert same(out, whole)
    assert RunFolder(out).launch().words == ("train", "x", "--batch", "4", "--epochs", str(EPOCHS))
    assert len(result.history) == result.summary["epochs"] == EPOCHS
    # Asked for fewer, a run stays as it is.
    kept = train(request_for(data, recipe=replace(RECIPE, epochs=3)), out, resume=True, device="cpu")
    assert kept is not None
    assert kept.summary["epochs"] == EPOCHS
    with pytest.raises(InputError, match=r"was asked for split 0\.8, not 0\.7; resume it with the same settings"):
        train(request_for(data, split=0.7), out, resume=True, device="cpu")


def test_cancelling_keeps_the_finished_epochs(whole, data, tmp_path):
    out = tmp_path / "run"
    folder = RunFolder(out)
    with pytest.raises(Cancelled):
        train(request_for(data), out, device="cpu", run=Run(cancelled=lambda: len(folder.metrics()) >= 6))
    assert folder.status().state == "cancelled"
    with pytest.raises(InputError, match=r"has no result yet \(it is cancelled\); wait, or resume it\."):
        load_result(out)
    assert [row["epoch"] for row in folder.metrics()] == list(range(1, 7))
    train(request_for(data), out, resume=True, device="cpu")
    assert same(out, whole)


def test_a_result_is_not_lost_where_learning_on_is_cancelled(whole, data, tmp_path):
    out = tmp_path / "runs" / "run"
    shutil.copytree(whole, out)
    folder, more = RunFolder(out), replace(RECIPE, epochs=EPOCHS + 9)
    cancelled = Run(cancelled=lambda: len(folder.metrics()) >= EPOCHS + 3)
    with pytest.raises(Cancelled):
        train(request_for(data, recipe=more), out, resume=True, device="cpu", run=cancelled)
    found = run_control.get_run("run")
    assert (found.status.state, found.finished) == ("cancelled", True)
    before, after = load_result(whole), load_result(out)
    assert len(folder.metrics()) == EPOCHS + 3
    assert after.history == before.history  # what has no result yet is not among it
    assert after.summary == before.summary
    assert after.classifier(device="cpu").fingerprint == before.classifier(device="cpu").fingerprint


def test_folds_validate_every_image_once(data, tmp_path, monkeypatch):
    out = tmp_path / "runs" / "folded"
    result = train(request_for(data, folds=3, recipe=replace(RECIPE, epochs=3)), out, device="cpu")
    assert result is not None
    assert sorted(result.predictions["key"].to_pylist()) == sorted(item.key for item in result.items())
    assert len(set(result.predictions["key"].to_pylist())) == 19
    assert [fold["fold"] for fold in result.summary["folds"]] == [1, 2, 3]
    accuracies = [fold["accuracy"] for fold in result.summary["folds"]]
    mean = sum(accuracies) / 3
    spread = (sum((each - mean) ** 2 for each in accuracies) / 2) ** 0.5
    over = result.summary["over_folds"]["accuracy"]
    assert (over["mean"], over["deviation"], over["folds"]) == (pytest.approx(mean), pytest.approx(spread), 3)
    second = load_model("run:folded/fold-2", device="cpu")
    assert second.fingerprint == result.classifier(2, "cpu").fingerprint
    assert second.fingerprint != load_model("run:folded", device="cpu").fingerprint
    first = load_model("run:folded", device="cpu").fingerprint

    def stop(*given: object) -> None:
        raise Cancelled("it was cancelled.")

    longer = request_for(data, folds=3, recipe=replace(RECIPE, epochs=4))
    for place in ("_Job._finish", "summarise"):  # before anything of the end is there, and in the midst of it
        with monkeypatch.context() as patch:
            patch.setattr(f"xai.studies.transfer.train.{place}", stop)
            with pytest.raises(Cancelled):
                train(longer, out, resume=True, device="cpu")
        assert load_model("run:folded", device="cpu").fingerprint == first  # of the end that is shown
        assert load_result(out).summary == result.summary
        assert load_result(out).predictions.equals(result.predictions)
    further = train(longer, out, resume=True, device="cpu")
    assert further is not None
    assert load_model("run:folded", device="cpu").fingerprint != first
    assert not (out / "networks").exists()


def test_runs_are_compared_in_one_table(whole, data, tmp_path):
    recipe = replace(RECIPE, epochs=2, head="linear", trainable="all", augment=("flip",))
    other = train(request_for(data, recipe=recipe), tmp_path / "all", device="cpu")
    assert other is not None
    rows = comparison([load_result(whole), other])
    assert [row["run"] for row in rows] == ["run", "all"]
    assert rows[1]["parameters"] == rows[1]["trained_parameters"]
    assert rows[0]["trained_parameters"] == 16_641
    assert all(row["seconds"] > 0 for row in rows)


def test_refusals_leave_no_folder(data, tmp_path):
    out = tmp_path / "r"
    with pytest.raises(InputError, match=r"data 'nowhere' does not exist"):
        train(TransferRequest("nowhere"), out, device="cpu")
    with pytest.raises(InputError, match=r"view 'half' is not known; use crop or whole\."):
        train(request_for(data, view="half"), out, device="cpu")
    with pytest.raises(InputError, match=r"training begins with imagenet, random:SEED or file:PATH weights"):
        train(request_for(data, weights="run:x"), out, device="cpu")
    with pytest.raises(InputError, match=r"precision fp16 is for CUDA, not for cpu"):
        train(request_for(data, recipe=Recipe(precision="fp16")), out, device="cpu")
    assert not out.exists()


def test_progress_goes_forward_and_threads_are_given_back(data, tmp_path):
    told: list[int] = []
    run = Run(on_progress=lambda done, total, note: told.append(done))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train(request_for(data, folds=4, recipe=replace(RECIPE, epochs=1)), tmp_path / "a", device="cpu", run=run)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    few = replace(RECIPE, epochs=2, trainable="all")
    assert told == sorted(told)
    told.clear()
    train(request_for(data, recipe=few), tmp_path / "b", device="cpu", run=run)
    assert told == sorted(told)


def test_damaged_predictions_are_one_sentence(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "predictions.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(
        InputError, match=r"predictions\.parquet is damaged; write it again by train \.\.\. --out .* --resume"
    ):
        load_result(out)


# --- killed, and several processes ----------------------------------------------------------


def start(arguments: list[str], tmp_path: Path, **more: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "XAI_CACHE": str(tmp_path / "cache"), **more}
    return subprocess.Popen(
        [sys.executable, "-m", "xai", *arguments],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_at_epoch_12_and_resumed_it_ends_with_the_same_weights(whole, data, tmp_path):
    out = tmp_path / "run"
    folder = RunFolder(out)
    child = start(words(data, out), tmp_path)
    deadline = time.monotonic() + 120
    try:
        while len(folder.metrics()) < 12:
            assert child.poll() is None, child.communicate()[0]
            assert time.monotonic() < deadline, "epoch 12 did not come"
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    finally:
        child.kill()
        child.communicate()
    before = len(folder.metrics())
    assert 12 <= before < EPOCHS, "the kill came too late to test anything"
    assert folder.status().state == "failed"
    result = train(request_for(data), out, resume=True, device="cpu")
    assert result is not None
    assert same(out, whole)
    lines = [row["epoch"] for row in folder.metrics()]
    assert lines == list(range(1, EPOCHS + 1))  # none was done twice: an epoch that was written is kept


def test_two_processes_learn_what_one_learns(data, tmp_path):
    changes = {"head": "linear", "epochs": 4}
    alone = train(request_for(data, recipe=replace(RECIPE, **changes)), tmp_path / "alone", device="cpu")
    assert alone is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    more = ["--head", "linear", "--epochs", "4"]
    ranks = [
        start(words(data, tmp_path / "both", *more), tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), **both)
        for rank in (0, 1)
    ]
    try:
        said = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert said[1] == ""  # only rank 0 speaks
    together = load_result(tmp_path / "both")
    assert len(together.history) == 4
    for one, two in zip(alone.history, together.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-5)
    for name, value in tensors(tmp_path / "alone").items():
        assert torch.allclose(value.float(), tensors(tmp_path / "both")[name].float(), atol=1e-6), name
