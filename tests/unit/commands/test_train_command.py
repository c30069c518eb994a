"""`train` in the terminal: tables, JSON, export, and refusals in one line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image

from xai.cli import main, parser
from xai.commands.train import _request
from xai.training.recipe import Recipe


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for index in range(12):
        place = root / ("bright", "dark", "red")[index % 3]
        place.mkdir(exist_ok=True)
        colour = ((200, 210, 190 + index), (20, 10, index), (200 + index, 10, 10))[index % 3]
        Image.new("RGB", (64, 64), colour).save(place / f"{index}.png")
    return root


def words(data: Path, out: Path, *more: str) -> list[str]:
    base = ["train", str(data), "--model", "simple_cnn", "--weights", "random:0", "--epochs", "3", "--device", "cpu"]
    return [*base, "--out", str(out), *more]


def test_it_trains_and_exports(data, tmp_path, capsys):
    out = tmp_path / "runs" / "colours"
    assert main(words(data, out, "--threads", "1", "--split", "0.5", "--class-weights", "balanced")) == 0
    shown = capsys.readouterr().out
    assert "12 images, 3 classes (class folders) (began with random weights)" in shown
    assert "label \\ predicted  bright  dark  red" in shown
    assert "on 6 validation images (stratified split, 50% for training, drawn by seed 0; centre crop)" in shown
    assert f"--model run:{out}" in shown
    file = tmp_path / "colours.zip"
    assert main(["train", "--export", "colours", "--out", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == ["bright", "dark", "red"]
    assert told["card"]["recipe"]["class_weights"] == "balanced"
    assert main(["explain", str(data / "red" / "2.png"), "--model", f"run:{file}", "--out", str(tmp_path / "e")]) == 0
    assert "SimpleCNN (run colours.zip) says" in capsys.readouterr().out


def test_of_folds_it_is_said_which_network_is_meant(data, tmp_path, capsys):
    out = tmp_path / "r"
    assert main(words(data, out, "--folds", "2")) == 0
    told = f"That is the network of fold 1; run:{out}/fold-2 is that of fold 2, and so on, also for --export."
    shown = capsys.readouterr().out
    assert told in shown
    assert "\nepochs in fold 1\nepoch" in shown
    assert "parameters trained, 3 epochs in fold 1, " in shown
    for place, fold in ((out, "1 of 2"), (out / "fold-2", "2 of 2")):
        file = tmp_path / f"{fold[0]}.zip"
        assert main(["train", "--export", str(place), "--out", str(file)]) == 0
        assert f"3 classes, fold {fold}; --model run:{file}" in capsys.readouterr().out


def test_json_is_the_summary(data, tmp_path, capsys):
    out = tmp_path / "r"
    more = [
        "--schedule",
        "cosine",
        "--augment",
        "flip, noise",
        "--trainable",
        "last_block",
        "--patience",
        "2",
        "--json",
    ]
    assert main(words(data, out, *more)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["recipe"]["augment"] == ["flip", "noise"]
    assert summary["auc"] is not None
    assert summary["figures"]["classes"] == ["bright", "dark", "red"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--head", "round"], "head 'round' is not known; use linear, study4."),
        (["--epochs", "0"], "epochs is 0; give 1 to 100000."),
        (
            ["--augment", "flop"],
            "augmentation 'flop' is not known; choose from flip, rotate, crop, colour, noise, grey.",
        ),
        (["--split", "0.99"], "the share for training is 0.99; give 0.05 to 0.95."),
        (["--folds", "9"], "class 'bright' has"),
        (["--threads", "0"], "--threads is 0; give 1 to 256."),
        (["--seed", "-1"], "seed is -1; give 0 to 2147483647."),
        (["--seed", "2147483648"], "seed is 2147483648; give 0 to 2147483647."),
        (["--precision", "fp16"], "precision fp16 is for CUDA, not for cpu; use float32 or bf16."),
        (["--model", "squeezenet1_1"], "does not end in a linear layer, so no head fits it"),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(data, tmp_path, capsys, more, told):
    assert main(words(data, tmp_path / "r", *more)) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "r" / "artifacts").exists()


def test_the_words_of_a_recipe_ask_for_it():
    usual = Recipe()
    assert usual.words() == ["--head", "linear", "--epochs", "30"]
    other = Recipe(
        epochs=7,
        batch=5,
        learning_rate=0.00123456789,
        schedule="step",
        l2=0.0,
        weight_decay=1e-7,
        class_weights="balanced",
        patience=3,
        augment=("flip", "crop"),
        precision="bf16",
        trainable="last_block",
        head="study4",
        seed=9,
    )
    assert all(getattr(other, each.name) != getattr(usual, each.name) for each in fields(Recipe))
    for recipe in (usual, other):
        parsed = parser().parse_args(["train", "D", *recipe.words(), "--out", "r"])
        assert _request(parsed).recipe == recipe


def test_what_is_asked_for_must_be_clear(tmp_path, capsys, data):
    assert main(["train", "--out", str(tmp_path / "r")]) == 2
    assert (
        "there is no DATA to train on; give a folder, a zip or sample:NAME, or --export RUN." in capsys.readouterr().err
    )
    assert main(["train", str(data), "--export", "x", "--out", str(tmp_path / "r.zip")]) == 2
    assert "--export trains nothing; leave DATA out." in capsys.readouterr().err
    assert main(["train", "--export", "nothing", "--out", str(tmp_path / "r.zip")]) == 2
    assert "run 'nothing' does not exist" in capsys.readouterr().err
