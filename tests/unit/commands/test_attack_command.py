"""`python -m xai attack`: its files, its exit codes, and the epsilons it understands."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from xai.attacks.fgsm import FGSM
from xai.attacks.spec import Moved
from xai.cli import main
from xai.commands import attack as attack_command
from xai.commands.attack import over_images, parse_epsilons
from xai.errors import InputError
from xai.files import sha256
from xai.models.classifier import InputModel
from xai.studies.adversarial.study import WHO, EpsilonNumbers

QUICK = ["--epsilon", "0", "2:4:2", "--steps", "2", "--device", "cpu"]


def test_epsilons_by_hand() -> None:
    assert parse_epsilons(["0:4:2", "1"], "linf") == [0, 1 / 255, 2 / 255, 4 / 255]
    assert parse_epsilons(["0:1:0.25"], "l2") == [0, 0.25, 0.5, 0.75, 1]
    assert len(parse_epsilons(["0:16:1"], "linf")) == 17
    assert len(parse_epsilons(["0:99.96:0.1"], "linf")) == len(parse_epsilons(["0:9.99:0.01"], "l2")) == 1000


def test_values_that_read_alike_are_one() -> None:
    assert len(parse_epsilons(["1.00001", "1.00002", "2"], "linf")) == 2


@pytest.mark.parametrize(("word", "norm"), [("-1", "linf"), ("-2:4:1", "l2"), ("256", "linf"), ("0:300:50", "linf")])
def test_epsilons_out_of_range(word: str, norm: str) -> None:
    with pytest.raises(InputError, match=f"--epsilon '{word}' is out of range; give 0 "):
        parse_epsilons([word], norm)


@pytest.mark.parametrize("word", ["0:inf:1", "nan", "a", "1:2", "4:0:1", "0:4:0", "0:4:-1"])
def test_epsilons_that_are_none(word: str) -> None:
    with pytest.raises(InputError, match="is not a number or A:B:STEP"):
        parse_epsilons([word], "linf")
    with pytest.raises(InputError, match="more than 1000 values"):
        parse_epsilons(["0:16:0.001"], "linf")
    with pytest.raises(InputError, match="more than 1000 values"):
        parse_epsilons(["0:100:0.1"], "linf")


def test_writes_files_that_agree_with_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    assert main(["attack", "sample:coffee", str(bad), *QUICK, "--json", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    manifest = json.loads(said.out)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert str(bad) in said.err
    assert [each["source"] for each in manifest["bad"]] == [str(bad)]
    for path, facts in manifest["files"].items():
        assert sha256((tmp_path / "out" / path).read_bytes()) == facts["sha256"]
    [image] = manifest["images"]
    folder = tmp_path / "out" / image["folder"]
    clean, moved = (
        np.asarray(Image.open(folder / name)).astype(int)
        for name in ("clean.png", "adversarial-2of255-linf-2of255.png")
    )
    assert 0 < abs(clean - moved).max() <= 2
    assert (np.asarray(Image.open(folder / "adversarial-0of255-linf-0of255.png")) == clean).all()
    [file] = folder.glob("perturbation-4of255-linf-*of255.npy")
    delta = np.load(file)
    assert abs(delta).max() == pytest.approx(float(file.stem.split("-")[-1].removesuffix("of255")) / 255, rel=1e-3)
    assert delta.shape == (3, 224, 224)
    assert abs(delta).max() <= 4 / 255 + 1e-6
    rows = list(csv.DictReader(io.StringIO((folder / "epsilon.csv").read_text())))
    assert [float(row["epsilon"]) for row in rows] == pytest.approx([0, 2 / 255, 4 / 255])
    assert [row["success"] for row in rows] == ["False", "True", "True"]
    maps = np.load(folder / "maps.npz")
    assert maps["old_attack"].shape == (3, 7, 7)
    assert (maps["old_clean"][0] == maps["old_attack"][0]).all()


def test_several_images_get_a_rate_and_folders_of_their_own(tmp_path: Path) -> None:
    for name, color in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), color).save(tmp_path / name / "same.png")
    words = ["attack", str(tmp_path / "a" / "same.png"), str(tmp_path / "b" / "same.png"), *QUICK, "--steps", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len({each["folder"] for each in manifest["images"]}) == 2
    assert manifest["complete"]
    assert manifest["over_images"]["never_turned"] in (0, 1, 2)
    assert set(manifest["over_images"]["shift_of_the_old_class"]) == {"attack", "noise"}
    assert "Wilson 95 % interval" in manifest["over_images"]["protocol"]
    rate = manifest["over_images"]["success"]
    assert manifest["over_images"]["images"] == 2
    turned = manifest["over_images"]["smallest_epsilon"]
    assert turned["images"] == 2 - manifest["over_images"]["never_turned"]
    interval = "its bootstrap 95 % interval" if turned["images"] > 1 else "no interval: it is one image"
    assert turned["protocol"] == f"mean upper bound over the images that are turned, with {interval}"
    assert rate["mean"][0] == 0
    assert all(low <= mean <= high for low, mean, high in zip(rate["low"], rate["mean"], rate["high"], strict=True))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sample:coffee", "--attack", "pgb"], "did you mean pgd"),
        (["sample:coffee", "--epsilon", "x"], "is not a number or A:B:STEP"),
        (["sample:coffee", "--method", "gradcm"], "did you mean gradcam"),
        (["sample:coffee", "--target", "no such class"], "no such class"),
        (["sample:coffee", "--steps", "0"], "steps is 0"),
        (["sample:coffee", "--step-size", "-1"], "--step-size is -1; it must be above 0"),
        (["sample:coffee", "--attack", "fgsm", "--steps", "5"], "--steps does not apply to FGSM"),
        (["sample:coffee", "--attack", "fgsm", "--step-size", "1"], "--step-size does not apply to FGSM"),
        (["sample:coffee", "--epsilon", "8/255"], "--epsilon '8/255' is not a number or A:B:STEP in 1/255"),
        (["nothing.png"], "nothing.png"),
        (["sample:coffee", "sample:rocket", "--epsilon", "-1"], "--epsilon '-1' is out of range"),
        (["sample:coffee", "sample:rocket", "--layer", "nope"], "layer 'nope' is not in this network"),
        (
            ["sample:coffee", "sample:rocket", "--method", "attention_rollout"],
            "there is no attention between the pixels and the score",
        ),
    ],
)
def test_bad_requests_exit_2_with_one_line(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attack", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nothing_attacked_says_only_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, out = tmp_path / "bad.png", tmp_path / "out"
    bad.write_text("no picture")
    assert main(["attack", str(bad), *QUICK, "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"bad: {bad}: bad.png is not an image")
    assert [each.name for each in out.iterdir()] == ["manifest.json"]


def test_files_that_cannot_be_written_fail_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attack", "sample:coffee", "--epsilon", "1", "--attack", "fgsm", "--device", "cpu", "--out"]
    taken, out = tmp_path / "taken", tmp_path / "out"
    taken.write_text("a file")
    assert main([*words, str(taken)]) == 2
    assert capsys.readouterr().err == f"error: the folder {taken} cannot be made (File exists); choose another --out.\n"
    assert taken.read_text() == "a file"
    (out / "coffee" / "clean.png").mkdir(parents=True)  # where a file must go; root may write into any folder
    assert main([*words, str(out)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {out}/coffee/clean.png cannot be written (")
    assert json.loads((out / "manifest.json").read_text())["images"] == []
    assert not list(out.rglob("*.part"))


def test_a_class_to_reach_is_named_in_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attack", "sample:coffee", "--epsilon", "0:1:1", "--attack", "fgsm", "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "far"), "--target", "airliner"]) == 0
    said = capsys.readouterr().out
    assert "No epsilon tried reaches the chosen class, airliner (1, up to 1/255)." in said
    assert "towards airliner (404)" in said
    assert main([*words, str(tmp_path / "near"), "--target", "espresso"]) == 0
    assert "decides for the chosen class, espresso, already before the attack: nothing" in capsys.readouterr().out
    [image] = json.loads((tmp_path / "near" / "manifest.json").read_text())["images"]
    assert image["already"]
    assert not any(row["success"] for row in image["epsilons"])


def test_what_was_finished_stays_when_the_rest_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xai.commands import attack

    real, calls = attack.files_of, []

    def fails_the_second_time(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(attack, "files_of", fails_the_second_time)
    words = ["attack", "sample:coffee", "sample:rocket", "--epsilon", "1", "--attack", "fgsm", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path)]) == 130
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert not manifest["complete"]
    assert [each["source"] for each in manifest["images"]] == ["sample:coffee"]


def test_noise_that_the_box_keeps_short_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def whiten(_: FGSM, module: InputModel, x: Tensor, *rest: object) -> Moved:
        return Moved(torch.ones_like(x), module(torch.ones_like(x)))

    monkeypatch.setattr(FGSM, "__call__", whiten)
    dark = tmp_path / "dark.png"
    Image.new("RGB", (64, 64), (26, 26, 26)).save(dark)
    words = ["attack", str(dark), "--attack", "fgsm", "--norm", "l2", "--epsilon", "300", "--device", "cpu"]
    assert main([*words, "--model", "simple_cnn", "--weights", "random:0", "--out", str(tmp_path / "out")]) == 0
    [image] = json.loads((tmp_path / "out" / "manifest.json").read_text())["images"]
    [row] = image["epsilons"]
    short = image["noise_falls_short"]
    assert row["l2_noise"] < 0.9 * row["l2"]
    assert short.endswith(f"an L2 norm of {row['l2_noise']:.4g}, where the attack has {row['l2']:.4g}.")
    assert f"{dark}: {short}\n" in capsys.readouterr().out


def test_a_crash_at_one_image_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xai.commands import attack

    real, calls = attack.study_of, []

    def fails_first(*args: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of luck")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(attack, "study_of", fails_first)
    words = ["--epsilon", "1", "--attack", "fgsm", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["attack", "sample:coffee", "sample:rocket", *words]) == 1
    assert "bad: sample:coffee: RuntimeError: out of luck" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["complete"]
    assert [each["source"] for each in manifest["images"]] == ["sample:rocket"]
    calls.clear()
    assert main(["attack", "sample:coffee", *words]) == 1  # nothing is attacked, but the request was right


@pytest.mark.parametrize("command", ["explain", "attack"])
def test_the_help_documents_that_some_failed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert "\n  1    some images could not be " in said
    assert "all others are written" in said


def test_random_weights_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", "random:0", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["attack", "sample:coffee", "--epsilon", "1", "--attack", "fgsm", *words]) == 0
    assert "random weights: this means nothing" in capsys.readouterr().out
    assert json.loads((tmp_path / "manifest.json").read_text())["images"][0]["random_weights"]
    assert main(["explain", "sample:coffee", *words]) == 0
    assert "random weights: this means nothing" in capsys.readouterr().out


def test_the_smallest_epsilon_of_one_image_alone_has_no_interval() -> None:
    none, some = torch.zeros(2, 1, dtype=torch.bool), torch.tensor([[False], [True]])
    shift = {"old": {who: {"spearman": torch.ones(2, 1)} for who in WHO}}
    norms = {who: torch.zeros(2, 1) for who in WHO}

    def numbers(success: Tensor, smallest: float) -> EpsilonNumbers:
        each = (success, success, none, shift, torch.tensor([smallest]), "linf", norms, torch.tensor([False]))
        return EpsilonNumbers(torch.tensor([0.0, 0.5]), *each)

    turned = over_images([numbers(some, 0.5), numbers(none, math.nan)])["smallest_epsilon"]
    said = "mean upper bound over the images that are turned, with no interval: it is one image"
    assert turned == {"mean": 0.5, "low": "nan", "high": "nan", "images": 1, "protocol": said}
    both = over_images([numbers(some, 0.5), numbers(some, 0.5)])["smallest_epsilon"]
    said = "mean upper bound over the images that are turned, with its bootstrap 95 % interval"
    assert both == {"mean": 0.5, "low": 0.5, "high": 0.5, "images": 2, "protocol": said}


def test_ctrl_c_within_an_image_keeps_those_before_it_and_tells_that_it_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(attack_command.Progress):
        def __call__(self, share: float, note: str) -> None:
            if share > 0.6:  # the second of two images, after its first steps
                os.kill(os.getpid(), signal.SIGINT)
            super().__call__(share, note)

    monkeypatch.setattr(attack_command, "Progress", Interrupting)
    out = tmp_path / "out"
    assert main(["attack", "sample:coffee", "sample:rocket", *QUICK, "--out", str(out)]) == 130
    told = capsys.readouterr().err
    assert "stopped at image 2 of 2, sample:rocket: nothing of it is kept, because its epsilons are attacked " in told
    assert f"together; 1 finished before it are in {out}." in told
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["complete"], manifest["bad"]) == (False, [])
    assert [each["source"] for each in manifest["images"]] == ["sample:coffee"]
    for path, facts in manifest["files"].items():
        assert sha256((out / path).read_bytes()) == facts["sha256"]
    assert sorted(each.name for each in out.iterdir()) == sorted(["manifest.json", manifest["images"][0]["folder"]])
