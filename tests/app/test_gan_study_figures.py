"""What the GAN page's figures make of a study's summary, on rows by hand: which networks each line is of."""

from __future__ import annotations

from typing import Any

from xai.ui.gan_study import _blank, sizes, told


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


def test_images_with_a_blank_map_are_counted_once_not_once_a_seed() -> None:
    rows = [{"set": "real", "case": "all", "left_out": 6}, {"set": "generated", "case": "all", "left_out": 0}]
    summary = {"attention": rows, "protocol": {"settings": {"seeds": 3}}}
    assert _blank(summary, "real") == "2 of these images have a blank map of some network and are left out."
    assert _blank(summary, "generated") == ""
