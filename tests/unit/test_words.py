"""Counts are in the singular where they are one."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from xai.cli import main
from xai.words import counted


def test_a_count_takes_its_noun() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 2000)] == ["0 images", "1 image", "2 images", "2,000 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_one_epoch_and_one_image_are_no_plurals(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path / "cache"))
    for index in range(6):
        place = tmp_path / "data" / ("bright", "dark")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (100 * (index % 2), 9 * index, 7)).save(place / f"{index}.png")
    words = ["train", str(tmp_path / "data"), "--model", "simple_cnn", "--weights", "random:0", "--epochs", "1"]
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    assert "parameters trained, 1 epoch, " in capsys.readouterr().out
    (tmp_path / "bad.png").write_text("no picture")
    asked = ["explain", str(tmp_path / "bad.png"), "--model", "simple_cnn", "--weights", "random:0"]
    assert main([*asked, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert "1 of 1 image could not be explained" in capsys.readouterr().err
