"""Each command that runs works in a folder that a page has prepared, as it does in one that the terminal names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.augmentation_helpers import folder, generator
from xai.cli import main
from xai.runs.control import new_run, record
from xai.runs.files import Status
from xai.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNS", str(tmp_path / "runs"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def commands(tmp_path: Path) -> dict[str, list[str]]:
    """By the kind that the page gives a run: the smallest command."""
    data = str(folder(tmp_path / "parts"))
    made = str(generator(tmp_path / "parts", tmp_path / "made" / "generator.safetensors"))
    small = ["--model", "simple_cnn", "--weights", "random:0", "--epochs", "1"]
    arms = ["--arms", "real", "synthetic", "--ratios", "100", "--percents", "100", "--seeds", "2", "--look", "3"]
    pets = ["--cats", "6", "--dogs", "6", "--epochs", "1", "--per-group", "2", "--seeds", "1"]
    return {
        "train": ["train", data, *small],
        "audit-bias": ["audit-bias", "--rho", "0.9", *pets],
        "gan": ["gan", "train", data, "--size", "32", "--steps", "1"],
        "augment": ["augment", data, "--generator", made, "--steps", "2", "--rounds", "1", "--batch", "4", *arms],
    }


@pytest.mark.parametrize("kind", ["train", "audit-bias", "gan", "augment"])
def test_a_folder_that_a_page_prepared_is_taken(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*commands(tmp_path)[kind], "--device", "cpu"]
    path = new_run(kind, "Mine")
    RunFolder(path).set_status(Status("queued", note="starting"))  # as `run_control.start` leaves it to the process
    assert main([*words, "--out", str(path), "--resume"]) == 0, capsys.readouterr().err
    found = record(path)
    assert (found.kind, found.title, found.status.state, found.fault) == (kind, "Mine", "done", "")
    assert RunFolder(path).summary()
    assert RunFolder(path).config()["kind"] == kind
    capsys.readouterr()
    assert main([*words, "--out", str(path)]) == 2  # without --resume nothing is written over
    assert "holds a run already; add --resume" in capsys.readouterr().err
