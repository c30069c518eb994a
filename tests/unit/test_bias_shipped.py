"""The bias study that ships: what the page says of it is what its files hold, and its networks answer so."""

from __future__ import annotations

import json
from typing import Any

import pytest

import xai
from xai.data.pets import PetImage, balanced_pets
from xai.models.store import digest
from xai.settings import ASSETS
from xai.studies._bias_train import ARMS, Experiment
from xai.studies.bias import Audit
from xai.studies.bias_run import RHOS, TEST_SEED, BiasRequest, command_of, network_path

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
        Audit.of(each["audit"])
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
