"""Figures of a classification, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.functional import rgb_to_grayscale

from xai.errors import InputError
from xai.training.augment import AUGMENTATIONS, augmented
from xai.training.figures import at_threshold, figures, precision_recall, roc, threshold_table

# no no no yes yes; the second "no" and the first "yes" are taken for the other
LABELS = [0, 0, 0, 1, 1]
YES = [0.1, 0.6, 0.2, 0.4, 0.9]
ROWS = [[1 - p, p] for p in YES]


def test_two_classes_by_hand():
    found = figures(LABELS, ROWS, ("no", "yes"))
    assert found.confusion == ((2, 1), (1, 1))
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.loss == pytest.approx(
        -(math.log(0.9) + math.log(0.4) + math.log(0.8) + math.log(0.4) + math.log(0.9)) / 5
    )
    no, yes = found.by_class
    assert (yes.precision, yes.recall, yes.specificity, yes.f1) == pytest.approx((1 / 2, 1 / 2, 2 / 3, 1 / 2))
    assert (no.precision, no.recall, no.specificity, no.support) == pytest.approx((2 / 3, 2 / 3, 1 / 2, 3))
    # Of the 6 pairs (yes, no), 5 are in order: .4 stands above .1 and .2, not above .6.
    assert found.auc == pytest.approx(5 / 6)
    # Ranked .9 (yes), .6 (no), .4 (yes): precision 1 at recall 1/2, then 2/3 at recall 1.
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found.macro["f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_calibration_by_hand():
    found = figures(LABELS, ROWS, ("no", "yes"))
    filled = {round(each.high, 1): each for each in found.bins if each.count}
    # Winning probabilities: .9 right, .6 wrong, .8 right, .6 wrong, .9 right.
    assert {high: each.count for high, each in filled.items()} == {0.6: 2, 0.8: 1, 0.9: 2}
    assert found.ece == pytest.approx((2 * abs(0.6 - 0) + 1 * abs(0.8 - 1) + 2 * abs(0.9 - 1)) / 5)
    assert sum(each.count for each in found.bins) == 5
    assert [each.confidence for each in found.bins][:5] == [None] * 5


def test_thresholds_by_hand():
    low, middle = at_threshold(LABELS, YES, 0.3), at_threshold(LABELS, YES, 0.5)
    assert (low["tp"], low["fp"], low["tn"], low["fn"]) == (2, 1, 2, 0)
    assert (middle["tp"], middle["fp"], middle["tn"], middle["fn"]) == (1, 1, 2, 1)
    assert low["f1"] == pytest.approx(4 / 5)
    table = threshold_table(LABELS, YES)
    assert (len(table), table[0]["recall"], table[0]["specificity"]) == (101, 1.0, 0.0)
    assert (table[-1]["tp"], table[-1]["precision"], table[-1]["specificity"]) == (0, None, 1.0)


def test_curves_end_where_they_must():
    curve = roc(LABELS, YES)
    assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
    assert all(0 <= each <= 1 for each in curve["threshold"])
    recall = precision_recall(LABELS, YES)
    assert (recall["x"][-1], recall["y"][-1]) == (0, 1)
    assert len(recall["x"]) == len(recall["y"]) == len(recall["threshold"])


def test_three_classes_and_one_without_images():
    rows = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]]
    found = figures([0, 1, 1], rows, ("a", "b", "c"))
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 0))
    empty = found.by_class[2]
    assert (empty.support, empty.precision, empty.recall, empty.specificity, empty.auc) == (0, None, None, 1.0, None)
    assert found.auc == pytest.approx(1.0)  # the mean over a and b, both in order
    assert found.plain()["protocol"]["ece"].startswith("expected calibration error")


def test_what_is_no_probability_is_refused():
    with pytest.raises(InputError, match=r"probabilities do not add up to 1 in every row"):
        figures([0, 1], [[0.5, 0.2], [0.1, 0.9]], ("a", "b"))
    with pytest.raises(InputError, match=r"labels go from 0 to 2; there are classes 0 to 1\."):
        figures([0, 2], [[0.5, 0.5], [0.1, 0.9]], ("a", "b"))
    with pytest.raises(InputError, match=r"give \(N,\) and \(N, 2\), N >= 1\."):
        figures([], [], ("a", "b"))


# --- augmentations --------------------------------------------------------------------------


def picture(count: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def drawn(name: str, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return augmented(x, (name,), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_shape_and_range_and_depends_on_its_seed_alone(name):
    x = picture()
    before = x.clone()
    out = drawn(name, x)
    assert torch.equal(x, before)
    assert out.shape == x.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1 + 1e-6
    assert torch.equal(out, drawn(name, x))
    assert not torch.equal(out, drawn(name, x, seed=1))
    assert not torch.equal(out, x)


def test_half_of_the_images_are_mirrored_and_half_lose_their_colour():
    x = picture()
    mirrored, kept = x.flip(-1), x
    out = drawn("flip", x)
    told = [(torch.equal(o, m), torch.equal(o, k)) for o, m, k in zip(out, mirrored, kept, strict=True)]
    assert all(sum(each) == 1 for each in told)
    assert 20 <= sum(each[0] for each in told) <= 44
    grey = drawn("grey", x)
    lost = [torch.allclose(o, rgb_to_grayscale(k, 3), atol=1e-3) for o, k in zip(grey, x, strict=True)]
    assert 20 <= sum(lost) <= 44


def test_geometry_leaves_a_flat_picture_flat_and_turns_about_the_centre():
    flat = torch.full((4, 3, 9, 9), 0.5)
    for name in ("rotate", "crop"):
        assert torch.allclose(drawn(name, flat), flat, atol=1e-6)
    dot = torch.zeros(16, 3, 9, 9)
    dot[:, :, 4, 4] = 1
    assert torch.allclose(drawn("rotate", dot)[:, :, 4, 4], torch.ones(16, 3), atol=1e-4)


def test_a_grey_picture_stays_grey_in_colour_jitter():
    grey = torch.full((8, 3, 4, 4), 0.4)
    out = drawn("colour", grey)
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6)
    factors = out[:, 0, 0, 0] / 0.4
    assert float(factors.min()) >= 0.7 - 1e-5
    assert float(factors.max()) <= 1.3 + 1e-5
