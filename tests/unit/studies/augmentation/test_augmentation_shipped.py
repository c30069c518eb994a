"""The study that comes with Olhar: whole, of the shipped generator, with its protocol and the command that made it."""

import pytest

from xai.gan.saved import SHIPPED, load_generator
from xai.settings import ASSETS
from xai.studies.augmentation.study import ARMS, open_study

FOLDER = ASSETS / "augmentation"

pytestmark = pytest.mark.skipif(not (FOLDER / "summary.json").is_file(), reason="no finished study is shipped yet")


@pytest.fixture(scope="module")
def study():
    return open_study(FOLDER)


def test_it_is_of_the_shipped_generator_by_a_command_that_can_be_given_again(study):
    assert [each["fingerprint"] for each in study.summary["generators"]] == [load_generator(SHIPPED).fingerprint]
    words = study.summary["command"].split()
    assert words[:5] == ["python", "-m", "xai", "augment", "sample:parts"]
    assert words[words.index("--generator") + 1] == "assets/gan/parts.safetensors"
    assert study.summary["data_synthetic"] is True


def test_every_arm_has_three_seeds_and_an_interval(study):
    rows = study.summary["arms"]
    whole = {(row["arm"], row["ratio"]) for row in rows if row["percent"] == 100}
    assert {arm for arm, _ in whole} == set(ARMS)
    assert {ratio for arm, ratio in whole if arm == "synthetic"} == {20, 50, 75, 100, 125}
    assert {row["percent"] for row in rows} == {10, 25, 50, 100}
    for row in rows:
        assert len(row["seeds"]) == 3
        assert row["test"]["low"] <= row["test"]["mean"] <= row["test"]["high"]
        assert row["test"]["mean"] == pytest.approx(sum(row["seeds"]) / 3)


def test_the_verdict_is_at_the_ratio_with_the_best_validation_accuracy(study):
    rows = [row for row in study.summary["arms"] if row["percent"] == 100]
    synthetic = [row for row in rows if row["arm"] == "synthetic" and not row["anew"]]
    best = max(row["validation"] for row in synthetic)
    chosen = min(row["ratio"] for row in synthetic if row["validation"] == pytest.approx(best, abs=1e-9))
    assert study.summary["chosen"]["100"] == chosen
    assert study.summary["told_by_seeds"] == [3, 4, 5]  # they chose nothing
    (other,) = [
        row["test"]["mean"] for row in rows if row["anew"] and (row["arm"], row["ratio"]) == ("synthetic", chosen)
    ]
    (base,) = [row["test"]["mean"] for row in rows if row["anew"] and row["arm"] == "real"]
    assert study.summary["verdicts"][0]["difference"]["mean"] == pytest.approx(other - base)
    assert f"at {chosen} %" in study.summary["verdict"]
    assert "No generator saw any of the 600 test images" in study.summary["protocol"]["sentence"]


def test_the_attention_is_measured_on_the_object_too_and_pictures_are_there(study):
    found = {(row["set"], row["measure"]) for row in study.summary["attention"] if row["case"] == "all"}
    assert {("real", "area"), ("real", "entropy"), ("real", "energy"), ("generated", "area")} <= found
    assert study.cases("baseline", "real", "right")
    assert study.cases("augmented", "generated", "right")


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2_000_000
