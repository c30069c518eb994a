"""Mitigation on own images: groups drawn evenly, the same images for every audit, pieces, and what cannot be mended."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

import xai
from tests.unit.studies.bias.test_bias import different_pictures, pictures, with_background
from xai import cli
from xai.errors import Cancelled
from xai.runs.folder import RunFolder
from xai.studies.bias.mend import MendRequest, even_places, mend_own, network_name
from xai.studies.bias.own import OwnRequest
from xai.studies.bias.run import network_path, piece_path
from xai.studies.bias.train import ARMS
from xai.types import Run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_every_group_is_drawn_as_often_and_repeats_only_when_it_has_no_more() -> None:
    groups = ["a"] * 6 + ["b"] * 2 + ["c"]
    found = even_places(groups, torch.Generator().manual_seed(0))
    times = Counter(found)
    assert Counter(groups[place] for place in found) == {"a": 3, "b": 3, "c": 3}
    assert sorted(times[place] for place in range(6)) == [0, 0, 0, 1, 1, 1]
    assert sorted(times[place] for place in (6, 7)) == [1, 2]
    assert times[8] == 3
    assert len(even_places(groups[:8], torch.Generator().manual_seed(0))) == 8


def test_own_images_are_mended_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Two images of each class and group, and four light cats more: of six two are held out, of two one.
    data, out = different_pictures(tmp_path), tmp_path / "run"
    for where in ("data", "masks"):
        for index in range(2, 6):
            shutil.copy(tmp_path / where / "cat/light/0.png", tmp_path / where / f"cat/light/{index}.png")
            if where == "data":
                with_background(data / f"cat/light/{index}.png", 100 + index)
    words = ["audit-bias", "--data", str(data), "--masks", str(tmp_path / "masks"), "--device", "cpu", "--mend"]
    words += ["--seeds", "1", "--epochs", "1", "--out", str(out)]
    assert cli.main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert "networks trained on 7 of the images, every audit on the other 5" in summary["data"]
    assert [each["experiment"]["arm"] for each in summary["mend"]] == list(ARMS)
    for each in summary["mend"]:
        audit = each["audit"]
        assert (audit["images"], [group["accuracy"]["n"] for group in audit["groups"]]) == (5, [1, 2, 1, 1])
        assert [found["factor"] for found in audit["reliance"]] == ["brightness"]
        clf = xai.load_model("simple_cnn", f"file:{network_path(out, each['experiment']['name'])}", "cpu")
        assert clf.labels == ("cat", "dog")
    # Without a classifier of one's own, the network that was trained as it is stands first, asked the same images.
    base = summary["base"]["audit"]
    assert {**base, "rows": []} == summary["mend"][0]["audit"]
    assert len({row["key"] for row in base["rows"]}) == 5
    assert summary["base"]["network"] == network_name("biased", 0)
    assert len({each["audit"]["provenance"]["fingerprint"] for each in summary["mend"]}) == 5
    assert cli.main([*words, "--resume"]) == 0
    told = capsys.readouterr().out
    assert "balanced  own" in told
    beyond = {each["region"]: each["beyond"] for each in summary["mend"][1]["audit"]["shares"]}
    where = [beyond[name] for name in ("object", "background")]
    said = [f"{each['mean']:.3f} [{each['low']:.3f}, {each['high']:.3f}] (n=5)" for each in where]
    found = told.partition("mend: share of the Grad-CAM map in a region, less its share of the area (chance)\n")[2]
    cells = [re.split(r"\s{2,}", line) for line in found.splitlines()[:6]]
    assert cells[0][3:] == ["object", "background"]
    assert cells[2] == ["balanced", "own", "0", *said]


def test_copies_of_training_images_in_given_folders_are_left_out_of_the_audit(tmp_path: Path) -> None:
    source, data = different_pictures(tmp_path), tmp_path / "given"
    for path in sorted(source.glob("*/*/*.png")):
        place = data / ("train" if path.name == "0.png" else "test") / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    Image.open(data / "train/cat/dark/0.png").save(data / "test/cat/dark/again.jpg", quality=70)
    own = OwnRequest(str(data), "simple_cnn")
    found = mend_own(MendRequest(own, seeds=1, epochs=1), tmp_path / "run", device="cpu")
    assert {"key": "test/cat/dark/again.jpg", "reason": "shows the same picture as a training image"} in (
        found["left_out"]
    )
    assert [each["audit"]["images"] for each in found["mend"]] == [4] * len(ARMS)
    assert found["data"].endswith(
        "networks trained on 4 of the images, every audit on the other 4, the folders as they are given, without 1 "
        "that shows the same picture as a training image (1 picture is there more than once)"
    )


def test_a_classifier_that_is_there_is_audited_on_the_same_images(tmp_path: Path) -> None:
    own = OwnRequest(str(different_pictures(tmp_path)), "simple_cnn", "random:3")
    request = MendRequest(own, seeds=1, epochs=1)

    def stop() -> bool:
        return piece_path(tmp_path / "run", network_name("balanced", 0)).is_file()

    with pytest.raises(Cancelled):
        mend_own(request, tmp_path / "run", device="cpu", run=Run(cancelled=stop))
    kept = piece_path(tmp_path / "run", network_name("biased", 0)).stat().st_mtime_ns
    found = mend_own(request, tmp_path / "run", resume=True, device="cpu")
    assert piece_path(tmp_path / "run", network_name("biased", 0)).stat().st_mtime_ns == kept
    assert found["base"]["audit"]["provenance"]["weights"] == "random:3"
    assert found["base"]["audit"]["images"] == 4
    assert "some of which the given network may have learned from" in found["data"]
    assert "no masks given" in found["base"]["audit"]["how"]
    assert RunFolder.open(tmp_path / "run").summary() == found


def test_what_cannot_be_mended_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pictures(tmp_path)

    def error(*words: str) -> str:
        assert cli.main(["audit-bias", *words, "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
        return capsys.readouterr().err.strip()

    told = error("--data", str(data), "--weights", "random:0", "--seeds", "2")
    assert told == "error: --seeds is about training; add --mend to train on --data, or leave it out."
    assert error("--data", "sample:photos", "--mend").startswith("error: 5 of 5 images have no label; give a")
    shutil.rmtree(data / "cat" / "dark")
    shutil.rmtree(data / "dog" / "light")
    assert error("--data", str(data), "--mend") == (
        "error: no class of data has images of two groups, so that none can be balanced; add images of the groups that "
        "are missing."
    )
    shutil.rmtree(tmp_path / "run")
    assert error("--data", "sample:pets", "--mend", "--method", "attention_rollout").startswith(
        "error: Attention rollout does not apply to SimpleCNN: "
    )
    assert not (tmp_path / "run" / "checkpoints").exists()  # nothing was trained
