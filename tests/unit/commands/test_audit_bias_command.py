"""`audit-bias`: a run from training to verdict, resumed by pieces; one's own data; what is refused, in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xai
from xai import cli
from xai.data.pets import PetImage, balanced_pets
from xai.errors import Cancelled
from xai.models.store import unload_models
from xai.runs.folder import RunFolder
from xai.studies.bias.run import BiasRequest, command_of, network_path, piece_path, study_bias
from xai.studies.bias.train import Experiment
from xai.types import Run

SMALL = ["--cats", "6", "--dogs", "6", "--epochs", "1", "--per-group", "2", "--seeds", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_CACHE", str(tmp_path_factory.mktemp("cache")))


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["audit-bias", *words]) == 2
    return capsys.readouterr().err.strip()


def test_a_run_trains_audits_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.main(["audit-bias", "--rho", "0.9", *SMALL, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == RunFolder.open(out).summary()
    found = summary["base"]["audit"]
    assert (found["images"], len(found["groups"]), len(found["rows"])) == (8, 4, 8)
    assert [each["factor"] for each in found["reliance"]][:4] == ["shape", "fur", "background", "mark"]
    assert "6 drawn cats, 5 of them fur light" in summary["data"]
    assert RunFolder.open(out).status().state == "done"
    (line,) = RunFolder.open(out).metrics()
    assert (line["epoch"], line["network"]) == (1, "fur-0.9-biased-s0")
    weights = network_path(out, "fur-0.9-biased-s0")
    clf = xai.load_model("simple_cnn", f"file:{weights}", "cpu")
    assert clf.labels == ("cat", "dog")
    trained = xai.load_model(f"run:{out}", device="cpu")
    x = clf.preprocess(PetImage(balanced_pets(1, "fur", 0)[0], 96)())
    assert (trained.predict(x) == clf.predict(x)).all()
    # The same again, in words.
    assert cli.main(["audit-bias", "--rho", "0.9", *SMALL, "--out", str(out), "--resume"]) == 0
    told = capsys.readouterr().out
    assert found["verdict"] in told
    assert "share of the area" in told


def test_a_stopped_study_goes_on_with_the_pieces_that_are_missing(tmp_path: Path) -> None:
    request = BiasRequest(Experiment(cats=4, dogs=4, epochs=1), mend=True, seeds=1, per_group=1)
    names = list(request.pieces())
    assert len(names) == 5  # the biased network is one of the mending's

    def stop_after_one() -> bool:
        return piece_path(tmp_path / "run", names[0]).is_file()

    with pytest.raises(Cancelled):
        study_bias(request, tmp_path / "run", device="cpu", run=Run(cancelled=stop_after_one))
    assert RunFolder.open(tmp_path / "run").status().state == "cancelled"
    first = piece_path(tmp_path / "run", names[0])
    stamp, content = first.stat().st_mtime_ns, first.read_bytes()
    summary = study_bias(request, tmp_path / "run", resume=True, device="cpu")
    assert (first.stat().st_mtime_ns, first.read_bytes()) == (stamp, content)
    assert [each["experiment"]["arm"] for each in summary["mend"]] == [
        "biased",
        "balanced",
        "weights",
        "jitter",
        "grey",
    ]
    again = study_bias(request, tmp_path / "other", device="cpu")
    assert again["mend"] == summary["mend"]


def test_a_seed_gives_the_same_figures_on_any_number_of_cores(tmp_path: Path) -> None:
    request = BiasRequest(Experiment(cats=12, dogs=12, epochs=2), per_group=1)
    usual, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            unload_models()  # the network that it begins as was measured too
            summary = study_bias(request, tmp_path / str(threads), device="cpu")
            assert torch.get_num_threads() == threads
            found.append((network_path(tmp_path / str(threads), Experiment().name).read_bytes(), summary["base"]))
    finally:
        torch.set_num_threads(usual)
    assert found[0][0] == found[1][0]
    assert found[0][1]["audit"] == found[1][1]["audit"]
    assert found[0][1]["audit"]["provenance"]["threads"] == 1


def test_the_detector_reads_every_method_of_its_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai.studies.bias.run.DETECTOR_RHOS", (0.5, 0.8, 1.0))
    monkeypatch.setattr("xai.studies.bias.run.CUES", ("mark",))
    monkeypatch.setattr("xai.studies.bias.detector.METHODS", ("gradcam", "random"))
    own = Experiment(cue="mark", rho=1.0, cats=4, dogs=4, epochs=1)
    summary = study_bias(BiasRequest(own, detector=True, seeds=1, per_group=1), tmp_path / "run", device="cpu")
    assert {(each["cue"], each["method"]) for each in summary["detector"]["rows"]} == {
        ("mark", "gradcam"),
        ("mark", "random"),
    }
    readings = summary["detector"]["readings"]
    assert len(readings) == 6
    # Three networks of one seed: the baseline is drawn anew for each, else its correlation would be made of ties.
    assert len({each["mass"] for each in readings if each["method"] == "random"}) == 3


def test_ones_own_data_with_a_table_of_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["file,group"]
    for index, pet in enumerate(balanced_pets(2, "fur", 1)):
        path = tmp_path / "data" / pet.species / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PetImage(pet, 64)().save(path)
        lines.append(f"{pet.species}/{index}.png,{pet.fur}")
        mask = tmp_path / "masks" / pet.species / f"{index}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        PetImage(pet, 64, "fur")().save(mask)
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["audit-bias", "--data", str(tmp_path / "data"), "--model", "simple_cnn", "--weights", "random:0"]
    words += ["--groups", str(tmp_path / "groups.csv"), "--masks", str(tmp_path / "masks"), "--device", "cpu"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    audit = summary["base"]["audit"]
    assert {(each["label"], each["value"]) for each in audit["groups"]} == {
        ("cat", "light"), ("cat", "dark"), ("dog", "light"), ("dog", "dark"),
    }  # fmt: skip
    assert [each["factor"] for each in audit["reliance"]] == ["brightness"]
    assert {each["region"] for each in audit["shares"]} == {"object", "background"}
    assert "groups from groups.csv" in summary["data"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert not re.search(r"(?m)^cat.* (aligned|conflicting) ", capsys.readouterr().out)  # no group is the rarer one


def test_drawn_data_keeps_the_generators_counterfactuals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit-bias", "--data", "sample:pets?cats=4&dogs=4&pixels=48", "--weights", "random:0", "--device", "cpu"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    audit = json.loads(capsys.readouterr().out)["base"]["audit"]
    assert (audit["cue"], audit["images"], audit["synthetic"]) == ("fur", 8, True)
    assert len(audit["reliance"]) == 8


def test_what_cannot_be_audited_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run"), "--device", "cpu"]
    assert error(capsys, "--rho", "1.2", *out) == "error: rho is 1.2; give a share from 0 to 1."
    assert error(capsys, "--cue", "tail", *out) == "error: cue 'tail' is not known; use fur, background or mark."
    assert error(capsys, "--seeds", "0", *out) == "error: seeds is 0; give 1 to 1000."
    assert "is trained already; give --data to audit it on." in error(capsys, "--model", "run:x", *out)
    told = error(capsys, "--data", "sample:photos", "--weights", "random:0", *out)
    assert told == (
        "error: 5 of 5 images have no label; give a folder or zip with one folder of images for each class."
    )
    assert "--sweep trains on drawn data" in error(capsys, "--data", "sample:pets", "--sweep", *out)
    for name in ("one", "two"):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "d" / name / "a.png")
    told = error(capsys, "--data", str(tmp_path / "d"), "--weights", "random:0", *out)
    assert told.startswith("error: the classes of d (one, two) are not those of SimpleCNN (cat, dog); train one")


def test_the_command_is_told_as_it_was_said() -> None:
    assert command_of(BiasRequest()) == "python -m xai audit-bias --seed 0 --out RUN"
    request = BiasRequest(Experiment(rho=0.9, cue="mark", seed=4), sweep=True, per_group=10)
    assert command_of(request) == (
        "python -m xai audit-bias --rho 0.9 --cue mark --seed 4 --sweep --seeds 3 --per-group 10 --out RUN"
    )
    small = BiasRequest(Experiment(cats=6, dogs=7, pixels=48, epochs=1))
    assert command_of(small) == ("python -m xai audit-bias --cats 6 --dogs 7 --pixels 48 --epochs 1 --seed 0 --out RUN")
