"""The terminal: what it writes, what it says where, and its exit codes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import CAT, ROOT
from xai.cli import main, parser
from xai.commands._images import find_pictures
from xai.commands._interrupt import interruptible
from xai.commands._output import Progress, clock, table
from xai.commands._spec import COMMANDS
from xai.errors import InputError
from xai.render import COLORMAPS
from xai.types import Run


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good images of one stem in different folders, a text file named .png, a truncated JPEG, an empty file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    picture = Image.open(CAT)
    picture.save(folder / "cat.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "more" / "cat.webp", lossless=True)
    picture.save(folder / ".hidden" / "no.png")
    (folder / "text.png").write_text("not a picture")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:3000])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not even named like one")
    return folder


def read(out: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def check_hashes(out: Path) -> None:
    manifest = read(out)
    assert manifest["files"]
    for path, facts in manifest["files"].items():
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == facts["sha256"], path


# Explaining


def test_a_folder_with_bad_files_is_explained_but_for_those(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["explain", str(photos), "--method", "gradcam", "saliency", "--out", str(out), "--zip"]) == 0
    said, told = capsys.readouterr()
    manifest = read(out)
    assert [image["source"] for image in manifest["images"]] == [
        str(photos / "cat.png"),
        str(photos / "more" / "cat.webp"),
    ]
    assert [image["folder"] for image in manifest["images"]] == ["cat", "cat-2"]
    assert manifest["images"][0]["sha256"] == hashlib.sha256((photos / "cat.png").read_bytes()).hexdigest()
    assert "cat" in manifest["images"][0]["models"][0]["predictions"][0]["name"]
    assert {Path(each["source"]).name for each in manifest["bad"]} == {"text.png", "truncated.jpg", "empty.png"}
    assert "3 of 5 images could not be explained:" in told
    assert "empty.png is empty (0 bytes); choose another file." in told
    assert "EfficientNet-Lite0 says" in said
    assert f"Wrote {len(manifest['files']) + 2} files to" in said
    check_hashes(out)
    with zipfile.ZipFile(out / "bundle.zip") as archive:
        assert set(archive.namelist()) == {*manifest["files"], "manifest.json"}


def test_json_is_the_manifest_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["explain", str(CAT), "--out", str(out), "--json"]) == 0
    said, told = capsys.readouterr()
    assert json.loads(said) == read(out)
    assert told == ""


def test_the_command_in_the_manifest_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    asked = ["explain", "sample:chelsea", "--method", "hirescam", "rise", "inputxgradient", "--seed", "3"]
    asked += ["--param", "rise.masks=6", "rise.p=0.3", "hirescam.layer=_blocks.5", "--target", "tabby"]
    assert main([*asked, "--view", "whole", "--colormap", "magma", "--out", str(first)]) == 0
    for number, entry in enumerate(read(first)["images"][0]["models"][0]["explanations"]):
        words = shlex.split(entry["command"])
        assert words[:3] == ["python", "-m", "xai"]
        again = tmp_path / str(number)
        assert main([*words[3:-1], str(again)]) == 0
        made = read(again)["images"][0]["models"][0]["explanations"][0]
        for kind in ("array", "overlay", "map"):
            assert (again / made["files"][kind]).read_bytes() == (first / entry["files"][kind]).read_bytes()
        assert made["command"] == entry["command"]
    assert entry["target"]["name"] == "tabby"


def test_several_classifiers_with_their_own_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    asked = ["explain", "sample:coffee", "--model", "efficientnet_lite0", "efficientnet_lite0", "--out", str(out)]
    assert main([*asked, "--weights", "imagenet", "random:1"]) == 0
    models = read(out)["images"][0]["models"]
    assert [(model["weights"], model["random"]) for model in models] == [("imagenet", False), ("random:1", True)]
    assert (out / "coffee" / "efficientnet_lite0-random-1" / "gradcam.npy").is_file()


def test_a_refused_method_does_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    asked = ["explain", "sample:rocket", "--method", "gradcam", "saliency", "--out", str(out)]
    assert main([*asked, "--layer", "_fc"]) == 0
    assert "refused: sample:rocket, Grad-CAM on EfficientNet-Lite0: " in capsys.readouterr().err
    assert [e["status"] for e in read(out)["images"][0]["models"][0]["explanations"]] == ["refused", "explained"]
    assert main([*asked[:3], "gradcam", "--layer", "_fc", "--out", str(out)]) == 2


def test_a_crash_is_said_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("xai.studies.comparison.attribute", crash)
    assert main(["explain", "sample:rocket", "--out", str(tmp_path / "out")]) == 1
    assert "failed: sample:rocket, Grad-CAM on EfficientNet-Lite0: RuntimeError: out of luck" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def on_draw(self: Progress, share: float, note: str = "") -> None:
        if note.startswith("cat.webp"):
            opened.append(note)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "__call__", on_draw)
    out = tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)
    assert main(["explain", str(photos), "--method", "gradcam", "saliency", "--out", str(out)]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert len(opened) == 1
    manifest = read(out)
    assert (manifest["complete"], [image["name"] for image in manifest["images"]]) == (False, ["cat.png"])
    check_hashes(out)
    assert capsys.readouterr().err == "stopped.\n"


# Refusals


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["explain", "nowhere.png"], "nowhere.png does not exist; check the path."),
        (["explain", "*.xyz"], "no file fits *.xyz; check the pattern."),
        (["explain", "sample:dog"], "sample 'dog' is not known; choose from sample:photos"),
        (["explain", str(CAT), "--method", "gradcamm"], "method 'gradcamm' is not known; did you mean gradcam"),
        (["explain", str(CAT), "--model", "vgg61"], "model 'vgg61' is not known; did you mean"),
        (["explain", str(CAT), "--target", "1000"], "class 1000 does not exist; EfficientNet-Lite0 has 0 to 999."),
        (["explain", str(CAT), "--target", "tabbi"], "class 'tabbi' is not known to EfficientNet-Lite0; did you mean"),
        (["explain", str(CAT), "--target", "top0"], "target 'top0' does not exist; use top1 to top1000."),
        (["explain", str(CAT), "--layer", "layer4"], "layer 'layer4' is not in this network; near it are"),
        (["explain", str(CAT), "--param", "gradcam.x=1"], "gradcam has no parameter 'x'; it has layer."),
        (["explain", str(CAT), "--method", "rise", "--param", "rise.masks=0"], "masks is 0; give 1 or more."),
        (["explain", str(CAT), "--opacity", "1.5"], "opacity 1.5 is outside 0 to 1."),
        (
            ["explain", str(CAT), "--opacity", "much"],
            "argument --opacity: invalid float value: 'much'; see python -m xai",
        ),
        (["explain", str(CAT), "--colormap", "hot"], "colour map 'hot' is not known; choose from auto, jet"),
        (["explain", str(CAT), "--weights", "a", "b"], "--weights has 2 values for 1 classifiers; give one"),
        (["explain", str(CAT), "--weights", "file:no.pth"], "the weights file"),
        (["explain", str(CAT), "--device", "cuda:99"], "device 'cuda:99' is not on this machine"),
        (["explain", str(CAT), "--view", "half"], "argument --view: invalid choice: 'half'"),
        (["explain", str(CAT), "--out", "file/out"], "the folder file/out cannot be made (Not a directory)"),
        (["explain"], "the following arguments are required: IMAGE; see python -m xai explain --help."),
        (["explane"], "argument COMMAND: invalid choice: 'explane'"),
        ([], "the following arguments are required: COMMAND; see python -m xai --help."),
        (["methods", "--model", "vgg61"], "model 'vgg61' is not known; did you mean"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(words) == 2
    said, err = capsys.readouterr()
    assert said == ""
    assert err.startswith(f"error: {told}")
    assert err.count("\n") == 1
    assert not Path("explanations").exists()


def test_every_bad_image_is_code_2_with_a_listing(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(photos / "text.png"), str(photos / "truncated.jpg")]) == 2
    said, told = capsys.readouterr()
    assert said == ""
    assert "2 of 2 images could not be explained:" in told
    assert "is not an image that can be read here" in told
    assert [each["reason"] for each in read(Path("explanations"))["bad"]] != []


def test_an_unforeseen_failure_is_one_line_and_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("xai.commands.models.describe", crash)
    assert main(["models"]) == 1
    told = capsys.readouterr().err
    assert told == "error: RuntimeError: two lines (python -m xai --traceback ... shows where)\n"
    assert main(["--traceback", "models"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


# Lists and help


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


# The pieces


def names(words: list[str], skip: Path | None = None) -> list[str]:
    return [picture.source for picture in find_pictures(words, skip)[0]]


def test_pictures_are_found_in_order_and_once(photos: Path) -> None:
    cat, more = str(photos / "cat.png"), str(photos / "more" / "cat.webp")
    bad = [str(photos / name) for name in ("empty.png", "text.png", "truncated.jpg")]
    assert names([more, cat, cat]) == [more, cat]
    assert names([str(photos)]) == [cat, *bad, more]
    assert names([str(photos / "**" / "cat.*"), str(photos)])[:2] == [cat, more]
    assert names([str(photos)], skip=photos / "more") == [cat, *bad]
    assert names(["photos/more"]) == ["photos/more/cat.webp"]
    assert find_pictures([cat, "nowhere.png"])[1] == [("nowhere.png", "nowhere.png does not exist; check the path.")]


def test_a_file_with_a_patterns_name_is_a_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a[1].png")
    assert names([str(tmp_path / "a[1].png")]) == [str(tmp_path / "a[1].png")]


def test_a_name_like_an_option_is_a_path_in_the_command(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "-x.png")
    assert names(["*x.png"]) == ["./-x.png"]


def test_samples_by_set_and_by_name() -> None:
    every = names(["sample:photos"])
    assert "sample:photos/chelsea.png" in every
    assert names(["sample:photos/coffee.png"]) == ["sample:photos/coffee.png"]
    assert names(["sample:chelsea", "sample:photos/chelsea.png"]) == ["sample:chelsea", "sample:photos/chelsea.png"]
    picture, digest = find_pictures(["sample:photos/chelsea.png"])[0][0].open()
    assert digest == hashlib.sha256(CAT.read_bytes()).hexdigest()
    assert picture.size == Image.open(CAT).size
    _, bad = find_pictures(["sample:photos/no.png"])
    assert bad == [("sample:photos/no.png", "sample:photos has no image 'no.png'; `sample:photos` takes all of it.")]


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert find_pictures(["empty"]) == (
        [],
        [("empty", "empty holds no image; give a folder with PNG, JPEG or other pictures.")],
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_share_and_time_left() -> None:
    bar = Progress(Terminal())
    assert bar.line(0.25, 30.0, "cat") == f"[{'#' * 7}{'.' * 21}]  25 %  1:30 left  cat"
    assert bar.line(0.0, 1.0, "") == f"[{'.' * 28}]   0 %  ...  "
    assert bar.line(1.0, 9.0, "x" * 99).endswith(f"100 %  0:00 left  {'x' * 60}")


def test_the_bar_draws_on_a_terminal_only_and_wipes_its_line() -> None:
    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        with Progress(stream) as bar:
            bar(0.5, "half")
            bar(0.51, "too soon")
    assert screen.getvalue().startswith("\r[")
    assert "half" in screen.getvalue()
    assert "too soon" not in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert file.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_table_lines_up() -> None:
    assert table(["A", "B"], [["long", "x"], ["s", ""]]) == "A     B\nlong  x\ns"


def test_the_first_interrupt_asks_and_the_second_stops() -> None:
    with interruptible() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(InputError):
            Run(cancelled=lambda: False, on_progress=_refuse).report(0, 1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def _refuse(done: int, total: int, note: str) -> None:
    raise InputError("stop")


def test_a_thread_gets_no_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def work() -> None:
        with interruptible() as asked:
            seen.append(asked())
            seen.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]


def test_every_command_is_complete() -> None:
    found: list[Callable[..., Any]] = [command.run for command in COMMANDS]
    assert {"models", "methods", "explain"} <= set(COMMANDS.names())
    assert all(callable(each) for each in found)
