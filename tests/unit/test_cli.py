"""The terminal: what it writes, what it says where, and its exit codes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import signal
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import CAT
from xai.cli import main
from xai.commands.output import Progress


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


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
    assert main(["explain", str(photos), "--method", "gradcam", "saliency", "--out", str(out), "--zip"]) == 1
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
        (["explain", str(CAT), "--method", "rise", "--param", "rise.masks=0"], "masks is 0; give 1 to 100000."),
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
        (["methods", "--model", "vgg61"], "model 'vgg61' is not known; did you mean vgg19 or vgg16 or vgg13?"),
        (["methods", "--layer", "layer4"], "--layer says where a method is asked about; give --model too."),
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


def test_what_a_decoder_warns_of_is_told_in_the_sentence_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    Image.open(CAT).save(buffer, "TIFF")
    (tmp_path / "cut.tiff").write_bytes(buffer.getvalue()[:3000])  # Pillow warns of the tag that lies behind it
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert main(["explain", "cut.tiff"]) == 2
    assert caught == []
    assert "cut.tiff is a damaged TIFF file that ends too early" in capsys.readouterr().err


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


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "chelsea").write_text("a file where the image's folder is to be")
    assert main(["explain", str(CAT), "--out", "out"]) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"error: out/chelsea/\S+ cannot be written \(.+\); check the folder and its permissions\.\n", told
    )
    assert read(tmp_path / "out")["complete"] is False
    (tmp_path / "taken" / "manifest.json").mkdir(parents=True)
    assert main(["explain", str(CAT), "--out", "taken"]) == 1
    assert capsys.readouterr().err.startswith("error: taken/manifest.json cannot be written (")
