"""The bias study that ships: what the page says of it is what its files hold, and its networks answer so."""

from __future__ import annotations

import json
from typing import Any

import pytest

import xai
from xai.data.pets import PetImage, balanced_pets
from xai.errors import Cancelled
from xai.models.store import digest, unload_models
from xai.settings import ASSETS
from xai.studies.bias.audit import read_audit
from xai.studies.bias.findings import Audit
from xai.studies.bias.run import CUES, DETECTOR_RHOS, RHOS, TEST_SEED, BiasRequest, command_of, network_path
from xai.studies.bias.train import ARMS, Experiment, same_everywhere, teach
from xai.studies.bias.verdict import verdict
from xai.training import Epoch
from xai.types import Run

PLACE = ASSETS / "bias"


def summary(name: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / name / "summary.json").read_text(encoding="utf-8"))
    return found


FIRST, OTHERS, DETECTOR = summary(), summary("others"), summary("detector")


def asked(found: dict[str, Any]) -> BiasRequest:
    said = found["request"]
    parts = {name: said[name] for name in ("sweep", "mend", "detector", "seeds", "per_group")}
    return BiasRequest(Experiment(**said["experiment"]), methods=tuple(said["methods"]), **parts)


@pytest.mark.parametrize("found", [FIRST, OTHERS, DETECTOR], ids=["study", "others", "detector"])
def test_each_is_one_run_of_its_command(found: dict[str, Any]) -> None:
    request = asked(found)
    assert command_of(request) == found["command"]
    for part in ("sweep", "mend"):
        assert [each["experiment"]["seed"] for each in found[part]] == [each.seed for each in request.points(part)]
    assert (found["detector"] is not None) == request.detector


def points(found: dict[str, Any], part: str, **wanted: Any) -> list[Audit]:
    return [
        read_audit(each["audit"])
        for each in found[part]
        if all(each["experiment"][name] == value for name, value in wanted.items())
    ]


@pytest.mark.parametrize(("found", "seeds"), [(FIRST, 3), (OTHERS, 3)], ids=["seeds 0 to 2", "seeds 3 to 5"])
def test_the_seeds_agree(found: dict[str, Any], seeds: int) -> None:
    biased, balanced = points(found, "mend", arm="biased"), points(found, "mend", arm="balanced")
    assert len(biased) == len(balanced) == seeds
    for audit, mended in zip(biased, balanced, strict=True):
        assert audit.verdict.startswith("Decides by fur colour: ")
        assert audit.aligned.mean > 0.95  # type: ignore[union-attr]
        assert audit.conflicting.high < 0.5  # type: ignore[union-attr]
        assert mended.worst.accuracy.low > audit.worst.accuracy.high
        assert mended.verdict.startswith("Decides by shape, not by fur colour: ")


def test_at_rho_a_half_there_is_no_shortcut_and_at_one_nothing_else() -> None:
    assert sorted({each["experiment"]["rho"] for each in FIRST["sweep"]}) == list(RHOS)
    for even, planted in zip(points(FIRST, "sweep", rho=0.5), points(FIRST, "sweep", rho=1.0), strict=True):
        assert even.verdict.startswith("Decides by shape, not by fur colour: ")
        assert even.by_factor("fur").flips.high < 0.2  # type: ignore[union-attr]
        assert planted.by_factor("fur").flips.low > 0.95  # type: ignore[union-attr]


def test_the_shipped_networks_answer_as_their_audit_says() -> None:
    pets = balanced_pets(FIRST["request"]["per_group"], "fur", TEST_SEED)
    rows = FIRST["base"]["audit"]["rows"]
    own = Experiment(**FIRST["base"]["experiment"])
    clf = xai.load_model(own.model, f"file:{network_path(PLACE, own.name)}", "cpu")
    assert digest("simple_cnn+linear", clf.module.net) == FIRST["base"]["audit"]["provenance"]["fingerprint"]
    for place in range(0, 200, 29):
        found = clf.predict(clf.preprocess(PetImage(pets[place], own.pixels)())).softmax(1)[0]
        assert rows[place]["key"].startswith(f"{pets[place].species}/{pets[place].fur}/")
        assert int(found.argmax()) == rows[place]["predicted"]
        assert float(found.max()) == pytest.approx(rows[place]["probability"], abs=1e-4)
    for arm in ARMS:
        assert network_path(PLACE, Experiment(arm=arm).name).is_file()


def test_the_detector_is_many_networks_and_its_random_baseline_many_maps() -> None:
    told = DETECTOR["detector"]
    networks = {cue: {each["network"] for each in told["readings"] if each["cue"] == cue} for cue in CUES}
    count = DETECTOR["request"]["seeds"] * len(DETECTOR_RHOS)
    assert {cue: len(found) for cue, found in networks.items()} == dict.fromkeys(CUES, count)
    for cue in CUES:
        masses = {each["mass"] for each in told["readings"] if (each["cue"], each["method"]) == (cue, "random")}
        assert len(masses) == count
    baselines = {row["method"]: row["word"] for row in told["rows"] if row["baseline"]}
    assert set(baselines) == {"random", "center", "edges"}


def test_no_verdict_says_that_a_cue_plays_no_role_and_that_answers_flip_with_it() -> None:
    told = [read_audit(each["audit"]) for each in (*FIRST["mend"], *FIRST["sweep"], *OTHERS["mend"])]
    assert all(found.verdict == verdict(found) for found in told)
    none = [found for found in told if found.verdict.startswith("Does not rely on ")]
    assert all(found.by_factor("fur").flips.high < 0.1 for found in none)  # type: ignore[union-attr]
    open_ = [found for found in told if found.verdict.startswith("No clear reliance on ")]
    assert open_
    assert all(found.by_factor("fur").flips.low < 0.1 for found in open_)  # type: ignore[union-attr]


@pytest.mark.parametrize("found", [FIRST, OTHERS, DETECTOR], ids=["study", "others", "detector"])
def test_the_files_hold_the_words_of_today(found: dict[str, Any]) -> None:
    stored = [found["base"]["audit"], *(each["audit"] for part in ("mend", "sweep") for each in found[part])]
    assert [each["verdict"] for each in stored] == [read_audit(each).verdict for each in stored]


def test_the_command_begins_as_the_shipped_network_did() -> None:
    own, told = Experiment(**FIRST["base"]["experiment"]), list[Epoch]()
    unload_models()  # the network that it begins as was measured too, perhaps with more threads
    with same_everywhere(own.model), pytest.raises(Cancelled):
        teach(own, "cpu", Run(cancelled=lambda: len(told) == 2), on_epoch=told.append)
    for found, shipped in zip(told, FIRST["base"]["curves"], strict=False):
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert getattr(found, name) == pytest.approx(shipped[name], rel=1e-4), name
    threads = {each["audit"]["provenance"]["threads"] for one in (FIRST, OTHERS) for each in one["mend"]}
    assert threads == {DETECTOR["base"]["audit"]["provenance"]["threads"]} == {1}
