"""What the terminal lists: classifiers, methods, help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from xai.cli import main, parser
from xai.commands.spec import COMMANDS
from xai.images.render import COLORMAPS


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


def test_models_say_where_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    assert main(["models", "--json"]) == 0
    models = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert models["efficientnet_lite0"]["imagenet"] == "embedded"
    assert models["vgg16"]["imagenet"] == "to download"
    assert models["vgg16"]["layer"] == "features.29"
    assert models["simple_cnn"]["imagenet"] == "none"
    (checkpoints / models["vgg16"]["file"]).touch()
    assert main(["models"]) == 0
    line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith("vgg16"))
    assert line.split() == ["vgg16", "VGG16", "224", "x", "224", "features.29", "on", "disk"]


def test_methods_list_parameters_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "FAMILY", "TITLE", "PARAMETERS", "SOURCE"]
    rise = next(each for each in lines if each.startswith("rise"))
    assert "masks=1000 cells=7 p=0.5" in rise
    assert rise.endswith("https://arxiv.org/abs/1806.07421")
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert next(each for each in listed if each["name"] == "rise")["params"] == {"masks": 1000, "cells": 7, "p": 0.5}


def test_methods_say_what_applies_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--model", "efficientnet_lite0", "--layer", "_fc", "--json"]) == 0
    applies = {each["name"]: each["applies"] for each in json.loads(capsys.readouterr().out)}
    assert applies["saliency"]["status"] == "full"
    assert applies["gradcam"]["status"] == "refused"
    assert "gives no stack of maps" in applies["gradcam"]["sentence"]
    assert main(["methods", "--model", "efficientnet_lite0"]) == 0
    assert "full: 7 x 7 cells at _relu_head" in capsys.readouterr().out


def test_help_of_everything_without_pytorch() -> None:
    """In a process of its own: the whole help is made, and PyTorch was not imported for it."""
    code = (
        "import sys; from xai.cli import parser; top = parser(); top.format_help(); "
        "[each.format_help() for each in top._subparsers._group_actions[0].choices.values()]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xai", "explain", "nowhere.png"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: nowhere.png does not exist; check the path.\n"


def test_help_names_every_colour_map_and_command() -> None:
    top = parser().format_help()
    assert all(command.name in top and command.summary in " ".join(top.split()) for command in COMMANDS)
    choices: Any = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    words = choices["explain"].format_help()
    assert all(name in words for name in COLORMAPS)


def test_every_command_is_complete() -> None:
    found: list[Callable[..., Any]] = [command.run for command in COMMANDS]
    assert {"models", "methods", "explain"} <= set(COMMANDS.names())
    assert all(callable(each) for each in found)
