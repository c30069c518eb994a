"""Figures of a classification, worked out by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torchvision.transforms.functional import rgb_to_grayscale

from xai.errors import InputError
from xai.training.augment import AUGMENTATIONS, augmented
from xai.training.difference import difference
from xai.training.figures import (
    at_threshold,
    caution,
    figures,
    influence,
    placements,
    precision_recall,
    roc,
    threshold_table,
)

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


# --- intervals --------------------------------------------------------------------------------------------------------


def test_every_rate_has_its_interval_also_where_it_is_perfect():
    found = figures(LABELS, ROWS, ("no", "yes"))
    yes = found.by_class[1]

    def ends(hits: float, of: int) -> tuple[float, float]:
        """Wilson's interval as scipy has it."""
        low, high = proportion_ci(hits, of)
        return pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6)

    assert found.intervals["accuracy"] == ends(3, 5)
    assert (yes.intervals["precision"], yes.intervals["recall"]) == (ends(1, 2), ends(1, 2))
    assert yes.intervals["specificity"] == ends(2, 3)
    low, high = proportion_ci(1, 3)  # TP 1, FP 1, FN 1
    assert yes.intervals["f1"] == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)), abs=1e-6)
    assert found.intervals["auc"] == yes.intervals["auc"]
    perfect = figures([0, 0, 1, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], ("no", "yes"))
    assert (perfect.accuracy, perfect.auc, perfect.average_precision) == (1, 1, 1)
    for name, interval in perfect.intervals.items():
        assert interval is not None, name
        assert interval[0] < 0.75, name  # five images prove little, whatever came out
        assert interval[1] == pytest.approx(1), name
    one = figures([1, 1], [[0.2, 0.8], [0.6, 0.4]], ("no", "yes"))
    assert (one.intervals["auc"], one.by_class[0].intervals["recall"]) == (None, None)


def proportion_ci(hits: float, of: int) -> tuple[float, float]:
    found = binomtest(int(hits), of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def test_few_validation_images_get_a_caution():
    assert caution(5) == "Only 5 validation images: even if all are right, that still fits an accuracy of 57%."
    assert caution(1).startswith("Only 1 validation image: ")
    assert caution(30) == ""


def test_means_over_classes_have_intervals_that_cover():
    """Three classes of 15 images, each right with chance .8: the interval of the mean recall holds .8 about as often as
    it claims, that of the mean F1 at least as often."""
    rng = np.random.default_rng(1)
    held = {"macro_recall": 0, "macro_f1": 0}
    labels = np.repeat(np.arange(3), 15)
    for _ in range(300):
        said = np.where(rng.random(45) < 0.8, labels, (labels + rng.integers(1, 3, 45)) % 3)
        rows = np.full((45, 3), 0.1)
        rows[np.arange(45), said] = 0.8
        found = figures(labels, rows, ("a", "b", "c"))
        for name in held:
            low, high = found.intervals[name]
            held[name] += low <= 0.8 <= high
    assert 0.91 <= held["macro_recall"] / 300 <= 0.99
    assert held["macro_f1"] / 300 >= 0.95


def test_the_interval_of_a_mean_auc_covers_and_is_that_of_all_classes_together():
    """Ten classes of 16 images with normal scores: each class's area is Phi(1.5 / sqrt 2), and so is their mean."""
    rng = np.random.default_rng(2)
    labels, area, held, widths = np.repeat(np.arange(10), 16), NormalDist().cdf(1.5 / math.sqrt(2)), 0, []
    for _ in range(200):
        scores = rng.normal(0, 1, (160, 10))
        scores[np.arange(160), labels] += 1.5
        aucs, parts = zip(*(placements(labels == k, scores[:, k]) for k in range(10)), strict=True)
        error = np.sqrt((np.mean([influence(labels == k, parts[k]) for k in range(10)], 0) ** 2).sum())
        held += abs(np.mean(aucs) - area) <= 1.96 * error
        widths.append(error)
    assert 0.91 <= held / 200 <= 0.99
    rows = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    found = figures(labels, rows, tuple("abcdefghij"))
    one = found.by_class[0].intervals["auc"]
    whole = found.intervals["auc"]
    assert whole[0] < found.auc < whole[1]
    assert whole[1] - whole[0] < (one[1] - one[0]) / 2


# --- two networks on the same images ----------------------------------------------------------------------------------


def test_a_difference_is_a_verdict_only_where_its_interval_leaves_out_zero():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)

    def said(right: float) -> np.ndarray:
        hit = rng.random(60) < right
        score = np.where(hit == (labels == 1), 0.6 + 0.4 * rng.random(60), 0.4 * rng.random(60))
        return np.stack((1 - score, score), 1)

    good, fair, poor = said(0.9), said(0.87), said(0.5)
    near, far = difference(labels, good, fair), difference(labels, good, poor)
    assert near.accuracy.low <= 0 <= near.accuracy.high
    assert near.verdict("A", "B").startswith("No difference in accuracy is shown between A and B: ")
    assert far.verdict("A", "B").startswith("A is more accurate than B: ")
    assert difference(labels, poor, good).verdict("A", "B").startswith("B is more accurate than A: ")
    assert "on 60 images" in far.verdict("A", "B")
    same = difference(labels, good, good)
    assert (same.accuracy.mean, same.loss.mean, same.auc.mean) == (0, 0, 0)
    assert "No difference" in same.verdict("A", "B")
    with pytest.raises(InputError, match=r"give those of the same images\.$"):
        difference(labels[:3], good, fair)


def test_the_difference_of_two_aucs_has_delongs_variance():
    """Worked out from DeLong's definition with the kernel matrix, image by image."""
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], (9, 13))
    scores = [np.clip(0.5 + 0.2 * (y - 0.5) + 0.3 * rng.random(22) - 0.15, 0, 1).round(2) for _ in range(2)]
    rows = [np.stack((1 - s, s), 1) for s in scores]
    kernel = [(s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0]) for s in scores]
    v10, v01 = (np.stack([k.mean(axis) for k in kernel]) for axis in (1, 0))
    s10, s01 = np.cov(v10), np.cov(v01)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / 13 + s01 / 9) @ contrast
    found = difference(y, *rows).auc
    assert found.mean == pytest.approx(kernel[0].mean() - kernel[1].mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
