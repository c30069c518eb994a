"""What the GAN page's figures make of a study's summary, on rows by hand: which networks each line is of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xai.studies.augmentation.study import Study
from xai.ui.gan_augmentation import study as gan_study
from xai.ui.gan_augmentation.study import _blank, _size_words, sizes, told


def row(percent: int, ratio: int, mean: float, anew: bool) -> dict[str, Any]:
    test = {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 9}
    arm, real = "synthetic" if ratio else "real", 10 * percent
    known = {"percent": percent, "arm": arm, "ratio": ratio, "anew": anew, "title": f"{arm} {ratio}"}
    return {**known, "real": real, "synthetic": real * ratio // 100, "test": test}


ROWS = [
    row(100, 0, 50.0, False),
    row(100, 20, 52.0, False),
    row(100, 50, 57.0, False),
    row(50, 0, 40.0, False),
    row(50, 50, 45.0, False),
    row(100, 0, 51.0, True),
    row(100, 50, 53.0, True),
]


def test_an_arm_that_was_tested_anew_is_told_by_that_alone() -> None:
    assert told(ROWS) == [ROWS[1], ROWS[3], ROWS[4], ROWS[5], ROWS[6]]
    older = [{name: value for name, value in each.items() if name != "anew"} for each in ROWS[:5]]
    assert told(older) == older  # a study from before there was that


def test_the_line_of_the_choice_is_of_the_networks_that_chose_and_all_others_of_those_that_tell() -> None:
    lines = {line.name: list(line.y) for line in sizes({"arms": ROWS, "chosen": {"100": 50}}).data}
    assert lines == {
        "shares of the real images": [40.0, 51.0],
        "the same, with 50 % synthetic": [45.0, 53.0],
        "all real images, more and more synthetic": [50.0, 52.0, 57.0],
    }


def test_the_figure_of_sizes_says_whose_networks_it_shows_whatever_lines_it_has() -> None:
    """Without shares there is but the line of the choice, and with traditional arms a line that none tests anew."""
    summary = {"arms": ROWS, "images": {"test": 9}, "protocol": {"settings": {"seeds": 3}}}
    told_ = "of an arm that was tested anew only that is shown, but the line of more and more synthetic is of the"
    assert told_ in _size_words(summary)
    assert "tested anew" not in _size_words({**summary, "arms": ROWS[:5]})


@pytest.mark.parametrize(("ratios", "head"), [([50], "ratio"), ([20, 50], "ratio chosen on validation")])
def test_a_ratio_that_was_the_only_one_is_not_said_to_be_chosen(
    monkeypatch: pytest.MonkeyPatch, ratios: list[int], head: str
) -> None:
    shown: list[Any] = []
    said = dict.fromkeys(("subheader", "markdown", "caption"), shown.append)
    monkeypatch.setattr(gan_study, "st", SimpleNamespace(**said, table=lambda rows, **_: shown.extend(rows)))
    verdict = {"percent": 100, "ratio": 50, "images": "", "validation_prefers": "synthetic"}
    summary = {"verdict": "", "title": "SimpleCNN", "data_name": "0f" * 32, "data_synthetic": False}
    summary |= {"arms": [], "curves": [], "chosen": {}}
    summary["protocol"] = {"sentence": "", "settings": {"ratios": ratios}}
    summary["verdicts"] = [{**verdict, "difference": {"mean": 1.0, "low": None, "high": None}}]
    gan_study.verdict(Study(Path(), summary, {}))
    assert shown[-1][head] == "50 %"
    assert "SimpleCNN on a zip that was sent" in shown  # a person's zip is kept under its digest


def test_images_with_a_blank_map_are_counted_once_not_once_a_seed() -> None:
    rows = [
        {"set": "real", "case": "all", "images": 4, "pairs": 12, "left_out": 6},
        {"set": "generated", "case": "all", "images": 6, "pairs": 18, "left_out": 0},
    ]
    summary = {"attention": rows, "protocol": {"settings": {"seeds": 3}}}
    assert _blank(summary, "real") == "2 of these images have a blank map of some network and are left out."
    assert _blank(summary, "generated") == ""
    # a study from before such images were left out whole: other seeds still spoke of them
    rows[1] |= {"pairs": 13, "left_out": 5}
    assert _blank(summary, "generated") == ""
    rows.pop()
    assert _blank(summary, "generated") == "Each of these images has a blank map of some network: no row is of all."


def test_a_study_whose_maps_are_all_blank_is_not_told_to_have_no_synthetic_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gan_study.st, "caption", said.append)
    for finding in ("No finding: blank.", ""):
        gan_study.attention(Study(Path(), {"attention": [], "finding": finding}, {}), "key")
    assert said == ["No finding: blank.", "This study has no synthetic arm, so there is nothing to compare."]
