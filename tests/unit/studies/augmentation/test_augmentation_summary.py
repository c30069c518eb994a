"""What the augmentation study says: the choice of a ratio and who tells of it, verdict, attention, figure."""

import math

import pytest
import torch
from safetensors.torch import load

from tests.unit.augmentation_helpers import request
from xai.runs.folder import RunFolder
from xai.stats.intervals import Interval
from xai.studies.augmentation.arm import Found, Looked, Unit, read_unit
from xai.studies.augmentation.study import augment
from xai.studies.augmentation.summary import (
    SHOWN,
    _attention,
    _finding,
    _paired,
    examples,
    retold,
    rises,
    undertrained,
    undertrained_sentence,
    verdict_sentence,
)
from xai.studies.augmentation.tested import before_the_end, chosen_ratio
from xai.training import Images


def test_the_verdict_is_the_difference_at_the_chosen_ratio(study):
    verdict = study.summary["verdicts"][0]
    rows = {(row["percent"], row["arm"], row["ratio"]): row for row in study.summary["arms"]}
    other, base = rows[100, "synthetic", verdict["ratio"]], rows[100, "real", 0]
    assert verdict["difference"]["mean"] == pytest.approx(other["test"]["mean"] - base["test"]["mean"])
    assert study.summary["verdict"] == verdict["sentence"]
    assert [each["percent"] for each in study.summary["verdicts"]] == [100, 50]


def test_a_chosen_ratio_is_told_by_networks_that_did_not_choose_it(study):
    """Seeds 0 and 1 choose at 100 %, which flatters what they chose. 2 and 3 tell, and only their maps count."""
    ratio = study.summary["chosen"]["100"]
    assert study.summary["told_by_seeds"] == [2, 3]
    anew = {row["arm"]: row for row in study.summary["arms"] if row["anew"]}
    assert {name: (row["percent"], row["ratio"]) for name, row in anew.items()} == {
        "real": (100, 0),
        "synthetic": (100, ratio),
    }
    folder = RunFolder(study.path)
    for arm, generated in (("real", 0), ("synthetic", ratio)):
        units = [read_unit(folder, Unit(100, arm, generated, seed)) for seed in (2, 3)]
        assert anew[arm]["seeds"] == [100 * unit.facts["test_accuracy"][-1] for unit in units]
        assert all("real.area" in unit.tensors for unit in units)
    assert {
        len(unit.tensors) for unit in (read_unit(folder, Unit(100, "synthetic", ratio, seed)) for seed in (0, 1))
    } == {1}
    first = read_unit(folder, Unit(100, "synthetic", ratio, 2))
    places = load((study.path / "artifacts" / "examples.safetensors").read_bytes())["real.place"]
    assert torch.equal(study.pictures["real.augmented.maps"], first.tensors["real.maps"][places])
    titles = [curve["title"] for curve in study.summary["curves"]]
    assert f"real + synthetic, {ratio} %, tested anew" in titles
    assert len(set(titles)) == len({(each["title"], each["anew"]) for each in study.summary["curves"]})


def test_one_ratio_is_not_chosen_and_nothing_is_tested_anew(data, made, tmp_path):
    asked = request(data, made, arms=("real", "synthetic"), ratios=(50,), percents=(100,))
    found = augment(asked, tmp_path / "run")
    assert found.summary["told_by_seeds"] == [0, 1]
    assert not any(row["anew"] for row in found.summary["arms"])
    assert "tested anew" not in found.summary["protocol"]["sentence"]
    assert found.summary["attention"]
    assert found.cases("augmented", "real", "right") or found.cases("augmented", "real", "wrong")


def test_an_image_with_a_blank_map_is_left_out_whole_and_the_interval_stays_over_both():
    """Seed 0's map of image 2 is blank: of it seed 1 would speak alone."""

    def unit(seed, area):
        tensors = {"real.predicted": torch.zeros(4), "real.label": torch.zeros(4), "real.area": torch.tensor(area)}
        blank = torch.tensor([False, False, seed == 0, False])
        return Found(Unit(100, "real", 0, seed), {}, tensors | {"real.blank": blank})

    base = [unit(0, [0.1, 0.2, 0.9, 0.1]), unit(1, [0.1, 0.2, 0.9, 0.1])]
    other = [unit(0, [0.2, 0.4, 0.0, 0.2]), unit(1, [0.2, 0.2, 0.0, 0.3])]
    rows = {row["case"]: row for row in _attention(base, other)}
    assert rows["all"]["over"] == "seeds and images"
    assert (rows["all"]["images"], rows["all"]["pairs"], rows["all"]["left_out"]) == (3, 6, 2)
    assert rows["all"]["difference"]["mean"] == pytest.approx((0.1 + 0.1 + 0.15) / 3)
    # a network that has died leaves no image whole: that is said, and the other seed speaks of what it names alone
    base[0].tensors["real.blank"][:] = True
    rows = _attention(base, other)
    assert {row["case"] for row in rows} == {"right"}
    assert _finding(rows) == "No finding: of each real test image that was looked at, some network's map is blank."


def fake(percent, ratio, seed, validation, test):
    arm = "synthetic" if ratio else "real"
    facts = {"validation_accuracy": [0.9, validation], "test_accuracy": [test]}
    unit = Unit(percent, arm, ratio, seed)
    return unit, Found(unit, facts, {})


def test_the_ratio_is_chosen_on_validation_and_never_on_test():
    found = dict(
        [
            fake(100, 0, 0, 0.99, 0.0),
            fake(100, 20, 0, 0.5, 1.0),
            fake(100, 20, 1, 0.5, 1.0),
            fake(100, 50, 0, 0.6, 0.1),
            fake(100, 50, 1, 0.5, 0.1),
            fake(100, 75, 0, 0.55, 0.9),
            fake(100, 75, 1, 0.55, 0.9),
            fake(50, 20, 0, 1.0, 1.0),
        ]
    )
    assert chosen_ratio(found, 100) == 50  # 50 and 75 are as good: the smaller
    assert chosen_ratio(found, 50) == 20
    three = ((20, (0.3, 0.2, 0.1)), (50, (0.1, 0.2, 0.3)))  # as sums of floats the second is larger
    equal = dict(fake(100, ratio, seed, value, 0.0) for ratio, of in three for seed, value in enumerate(of))
    assert chosen_ratio(equal, 100) == 20


@pytest.mark.parametrize(
    ("low", "high", "kept", "told"),
    [
        (0.4, 3.1, True, "a gain: estimated +1.8 points, plausible from +0.4 to +3.1, at 125 %"),
        (-0.4, 3.1, True, "no gain shown: estimated +1.8 points, plausible from -0.4 to +3.1, at 125 %"),
        (
            0.4,
            3.1,
            False,
            "a gain: estimated +1.8 points, plausible from +0.4 to +3.1, at 125 %; on validation images the mean is "
            "higher without synthetic images",
        ),
        (math.nan, math.nan, True, "+1.8 points at 125 %; one seed says nothing about others, so there is no verdict"),
    ],
)
def test_the_verdict_is_a_sentence(low, high, kept, told):
    assert verdict_sentence(Interval(1.8, low, high, 9), 125, kept) == told


def test_a_loss_is_called_one():
    found = verdict_sentence(Interval(-2.0, -3.0, -1.0, 9), 20, True)
    assert found == "a loss: estimated -2.0 points, plausible from -3.0 to -1.0, at 20 %"


def test_an_older_summary_is_told_in_the_words_of_today():
    numbers = {"percent": 100, "ratio": 75, "validation_prefers": "synthetic", "sentence": "no gain: +5.3"}
    old = {"verdicts": [{**numbers, "difference": {"mean": 5.3, "low": -4.8, "high": 15.4, "n": 9}}], "verdict": "old"}
    told = "no gain shown: estimated +5.3 points, plausible from -4.8 to +15.4, at 75 %"
    assert (retold(old)["verdict"], retold(old)["verdicts"][0]["sentence"]) == (told, told)
    assert retold({"verdicts": [], "verdict": "no synthetic arm was asked for"})["verdict"].startswith("no synthetic")


def arm(rise, title="real only", percent=100):
    return {"title": title, "percent": percent, "arm": "real", "ratio": 0, "anew": False, "rise": rise}


def test_an_arm_that_still_rises_is_undertrained():
    rising = arm({"mean": 2.7, "low": 0.4, "high": 5.0})
    flat, open_ = arm({"mean": 0.1, "low": -1.0, "high": 1.2}), arm({"mean": 2.7, "low": -0.4, "high": 5.8})
    assert [undertrained({}, each) for each in (rising, flat, open_)] == [True, False, False]
    assert undertrained_sentence({}, [rising, flat]) == (
        "Undertrained, so more steps may change the answer: accuracy still rose over the last quarter of the steps "
        "(real only +2.7 points [0.4, 5.0])."
    )
    assert undertrained_sentence({}, [flat, open_]) == ""
    known = {name: rising[name] for name in ("percent", "arm", "ratio", "anew")}
    older = {"curves": [{**known, "step": [100, 200, 300, 400], "mean": [10.0, 20.0, 30.0, 32.0]}]}
    assert rises(older, {**known, "title": "real only"}) == {"mean": 2.0, "low": None, "high": None}
    assert undertrained(older, {**known, "title": "real only"})
    assert undertrained_sentence(older, [{**known, "title": "real only"}]).endswith(
        "(real only +2.0 points). A rise without an interval is that of the mean curve."
    )


def test_every_arm_of_a_study_has_its_rise(study):
    for row in study.summary["arms"]:
        curve = next(
            c for c in study.summary["curves"] if all(c[n] == row[n] for n in ("percent", "arm", "ratio", "anew"))
        )
        place = before_the_end(curve["step"])
        assert row["rise"]["mean"] == pytest.approx(curve["mean"][-1] - curve["mean"][place])
    assert before_the_end([10, 20, 30, 40]) == 2
    assert before_the_end([40]) == 0


def test_attention_is_paired_image_by_image():
    base = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.4, 0.9]])
    other = torch.tensor([[0.2, 0.2, 0.0], [0.4, 0.8, 0.0]])
    kept = torch.tensor([[True, True, False], [True, False, False]])
    found = _paired(base, other, kept, "area")
    # image 0: both seeds, image 1: the first alone, image 2 never
    assert found["baseline"] == pytest.approx((0.2 + 0.2) / 2)
    assert found["augmented"] == pytest.approx((0.3 + 0.2) / 2)
    assert found["difference"]["mean"] == pytest.approx(0.05)
    assert (found["images"], found["pairs"], found["left_out"]) == (2, 3, 3)
    assert found["over"] == "images, their seeds averaged"


def test_the_protocol_says_what_the_intervals_do_not_hold(study):
    told = study.summary["protocol"]
    assert told["settings"]["learning_rate"] == 2e-3
    assert "8 steps of Adam (0.002, falling as a cosine), 6 images each" in told["sentence"]
    assert (
        "The networks that chose a ratio (seeds from 0) do not tell what it brings: verdict and attention are of 2 "
        "others, tested anew (seeds from 2). Verdicts on shares of the real images are of seeds from 0, which chose "
        "nothing there. No interval speaks of another training of the generator."
    ) in told["sentence"]
    assert "at the ratio that was chosen on all of them." in told["sentence"]


def test_attention_is_measured_and_shown(study):
    rows = study.summary["attention"]
    assert {(row["set"], row["measure"]) for row in rows if row["case"] == "all"} == {
        (kind, measure) for kind in ("real", "generated") for measure in ("area", "entropy")
    }
    assert study.summary["finding"].startswith("On real test images half of the map's energy lies on ")
    for network in ("baseline", "augmented"):
        for kind in ("real", "generated"):
            predicted = study.pictures[f"{kind}.{network}.predicted"]
            for case in ("right", "wrong"):
                for place in study.cases(network, kind, case):
                    assert (predicted[place] == study.pictures[f"{kind}.label"][place]) == (case == "right")
    assert study.pictures["real.images"].dtype == torch.uint8


def test_the_pictures_of_the_figure_are_not_all_of_the_first_class():
    labels = torch.arange(5).repeat_interleave(8)  # class by class, as test images are
    tensors = {"real.predicted": labels, "real.maps": torch.zeros(40, 2, 2), "real.probability": torch.ones(40)}
    looked = {"real": Looked(Images(torch.zeros(40, 3, 4, 4, dtype=torch.uint8), labels), None)}
    kept = load(
        examples(
            looked,
            {Unit(100, "real", 0, 0): Found(Unit(100, "real", 0, 0), {}, tensors)},
            {"chosen": {}, "told_by_seeds": [0]},
        )
    )
    assert len(kept["real.place"]) == SHOWN
    assert len(set(kept["real.label"].tolist())) > 1
    assert torch.equal(labels[kept["real.place"]], kept["real.label"])
