"""Similarity of maps against scipy, scikit-image, and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from skimage.metrics import structural_similarity

from xai.errors import InputError
from xai.stats import similarity


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Three pairs: unrelated, related, and with many ties (a rectified coarse map)."""
    a, b = noise(1, 3, 23, 31), noise(2, 3, 23, 31)
    b[1] = a[1] + 0.5 * b[1]
    a[2], b[2] = a[2].round().clamp(min=0), (a[2] + b[2]).round().clamp(min=0)
    return a, b


def test_ranks_share_the_average_on_ties() -> None:
    values = torch.tensor([[3.0, 1.0, 3.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    expected = [[4.0, 1.0, 4.0, 2.0, 4.0], [3.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]]
    assert similarity.ranks(values).tolist() == expected


def test_spearman_is_scipys(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = pair
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert torch.allclose(similarity.spearman(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_pearson_is_scipys(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = pair
    expected = [pearsonr(x.flatten().double(), y.flatten().double()).statistic for x, y in zip(a, b, strict=True)]
    assert torch.allclose(similarity.pearson(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 and 2 1 3 4: 1 - 6 sum d^2 / (n (n^2 - 1)) = 1 - 6 * 2 / 60 = 0.8
    a, b = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[20.0, 10.0], [30.0, 1e9]]])
    assert similarity.spearman(a, b).item() == pytest.approx(0.8, abs=1e-15)
    assert similarity.spearman(a, -a).item() == -1.0
    assert similarity.spearman(a, a.exp()).item() == 1.0  # the order alone counts


@pytest.mark.parametrize("scale", [1e-38, 1e38])
def test_correlation_does_not_depend_on_the_scale(scale: float) -> None:
    a, b = noise(3, 1, 8, 8), noise(4, 1, 8, 8)
    assert torch.allclose(similarity.pearson(a * scale, b * scale), similarity.pearson(a, b), atol=1e-5)
    tiny = a.double() * 1e-250
    assert torch.allclose(similarity.pearson(tiny, b.double() * 1e250), similarity.pearson(a.double(), b.double()))


def test_a_correlation_with_a_constant_map_is_not_a_number() -> None:
    zero, five, other = torch.zeros(1, 12, 12), torch.full((1, 12, 12), 5.0), noise(5, 1, 12, 12)
    assert similarity.is_constant(torch.cat([zero, five, other])).tolist() == [True, True, False]
    for function in (similarity.spearman, similarity.pearson, lambda a, b: similarity.topk_iou(a, b, 0.3)):
        for one, two in ((zero, five), (zero, other), (other, zero)):
            assert function(one, two).isnan().tolist() == [True]
            mixed = function(torch.cat([other, one]), torch.cat([other, two]))
            assert mixed.isnan().tolist() == [False, True]


def test_a_constant_map_that_was_drawn_large_is_still_constant() -> None:
    large = torch.nn.functional.interpolate(torch.full((1, 1, 7, 7), 0.3), (224, 224), mode="bilinear")[0]
    assert similarity.is_constant(large).tolist() == [True]
    assert similarity.is_constant(large + 1e-5 * noise(5, 1, 224, 224)).tolist() == [False]
    assert similarity.is_constant(torch.ones(2, 3, 4, 5, dtype=torch.int64)).tolist() == [[True] * 3] * 2


@pytest.mark.parametrize("gaussian", [True, False])
def test_ssim_is_scikit_images(pair: tuple[torch.Tensor, torch.Tensor], gaussian: bool) -> None:
    a, b = pair
    expected = [
        structural_similarity(
            x.double().numpy(),
            y.double().numpy(),
            data_range=2.5,
            gaussian_weights=gaussian,
            sigma=1.5,
            use_sample_covariance=not gaussian,
        )
        for x, y in zip(a, b, strict=True)
    ]
    found = similarity.ssim(a, b, data_range=2.5, window="gaussian" if gaussian else "uniform")
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-10)


def test_ssim_of_constants_by_hand() -> None:
    # No variance: the second factor is 1, and the first is (2 * 0.2 * 0.6 + C1) / (0.04 + 0.36 + C1), C1 = 1e-4.
    a, b = torch.full((1, 11, 11), 0.2, dtype=torch.float64), torch.full((1, 11, 11), 0.6, dtype=torch.float64)
    assert similarity.ssim(a, b, 1.0).item() == pytest.approx((0.24 + 1e-4) / (0.40 + 1e-4), abs=1e-9)
    assert similarity.ssim(a, a, torch.tensor([1.0])).item() == pytest.approx(1.0, abs=1e-9)


def test_ssim_takes_one_range_per_image() -> None:
    a, b = noise(6, 2, 16, 16), noise(7, 2, 16, 16)
    spans = torch.tensor([1.0, 4.0])
    apart = [similarity.ssim(a[i : i + 1], b[i : i + 1], float(spans[i])).item() for i in range(2)]
    assert similarity.ssim(a, b, spans).tolist() == pytest.approx(apart, abs=1e-12)


def test_topk_iou_by_hand() -> None:
    a = torch.tensor([[[9.0, 8.0, 7.0, 6.0], [0.0, 1.0, 2.0, 3.0]]])
    b = torch.tensor([[[0.0, 8.0, 7.0, 1.0], [9.0, 2.0, 3.0, 4.0]]])
    # the 4 highest: places 0 1 2 3 and 4 1 2 7: 2 shared of 6
    assert similarity.topk_iou(a, b, 0.5).item() == pytest.approx(2 / 6)
    assert similarity.topk_iou(a, a, 0.25).item() == 1.0
    assert similarity.topk_iou(a, b, 1.0).item() == 1.0
    assert similarity.topk_iou(a, b, 1e-6).item() == 0.0  # one pixel each, 0 and 4


def test_topk_iou_splits_ties_evenly() -> None:
    # k = 2. a: place 0, then three tied for one place, a third each. b: places 0 and 3.
    a, b = torch.tensor([[[4.0, 1.0], [1.0, 1.0]]]), torch.tensor([[[4.0, 0.0], [1.0, 2.0]]])
    assert similarity.topk_iou(a, b, 0.5).item() == pytest.approx((1 + 1 / 3) / (1 + 1 / 3 + 1 / 3 + 1))
    shuffled = torch.tensor([2, 0, 3, 1])
    one, two = (m.flatten(1)[:, shuffled].view(1, 2, 2) for m in (a, b))
    assert similarity.topk_iou(one, two, 0.5).item() == similarity.topk_iou(a, b, 0.5).item()


def test_centroid_and_drift_by_hand() -> None:
    a, b = torch.zeros(1, 4, 5), torch.zeros(1, 4, 5)
    a[0, 0, 0], a[0, 3, 4] = -7.0, 2.0  # what is against the class does not pull
    b[0, 0, 0], b[0, 0, 4] = 3.0, 1.0
    assert similarity.centroid(a).tolist() == [[3.0, 4.0]]
    assert similarity.centroid(b).tolist() == [[0.0, 1.0]]
    assert similarity.centroid_drift(a, b, "pixels").item() == pytest.approx(math.hypot(3, 3))
    assert similarity.centroid_drift(a, b).item() == pytest.approx(math.hypot(3, 3) / 5)  # the diagonal is 5
    corner = torch.zeros(1, 4, 5)
    corner[0, 0, 0] = 1
    assert similarity.centroid_drift(a, corner).item() == pytest.approx(1.0)
    nowhere = torch.full((1, 4, 5), -1.0)
    assert similarity.centroid(nowhere).isnan().all()
    assert similarity.centroid_drift(a, nowhere).isnan().all()


def test_energy_inside_by_hand() -> None:
    maps = torch.tensor([[[3.0, -5.0], [0.0, 1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    mask = torch.tensor([[True, True], [False, False]])
    assert similarity.energy_inside(maps, mask).tolist() == pytest.approx([0.75, math.nan], nan_ok=True)
    assert similarity.energy_inside(maps[:1].expand(2, 2, 2), torch.stack([mask, ~mask])).tolist() == [0.75, 0.25]
    assert similarity.energy_inside(maps[:1] * 1e-30, mask).item() == pytest.approx(0.75)


def test_one_map_is_compared_with_each() -> None:
    a, b = noise(8, 3, 12, 12), noise(9, 1, 12, 12)
    for function in (similarity.spearman, similarity.pearson, similarity.centroid_drift):
        assert torch.equal(function(a, b), function(a, b.expand(3, 12, 12)))


def test_a_batch_equals_its_images() -> None:
    a, b = noise(10, 4, 12, 12), noise(11, 4, 12, 12)
    assert torch.equal(similarity.spearman(a, b)[2:3], similarity.spearman(a[2:3], b[2:3]))
    assert torch.equal(similarity.topk_iou(a, b, 0.2)[2:3], similarity.topk_iou(a[2:3], b[2:3], 0.2))


def test_errors_name_the_argument_and_the_fix() -> None:
    good = torch.zeros(2, 12, 12)
    with pytest.raises(InputError, match=r"maps have shape \(12, 12\); give \(N, H, W\)\."):
        similarity.spearman(good[0], good[0])
    with pytest.raises(InputError, match=r"\(2, 12, 12\) and \(3, 12, 12\) do not compare; give equal shapes\."):
        similarity.pearson(good, torch.zeros(3, 12, 12))
    with pytest.raises(InputError, match="not finite"):
        similarity.spearman(good, good / 0)
    with pytest.raises(InputError, match=r"fraction is 0; give a share of the pixels above 0 and up to 1\."):
        similarity.topk_iou(good, good, 0)
    with pytest.raises(InputError, match="maps of 5 x 12 are smaller than the 11 x 11 window of ssim"):
        similarity.ssim(good[:, :5], good[:, :5], 1.0)
    with pytest.raises(InputError, match="data_range is 0; give the span of the values, above 0"):
        similarity.ssim(good, good, 0)
    with pytest.raises(InputError, match="window 'box' is not known; use gaussian or uniform"):
        similarity.ssim(good, good, 1.0, window="box")
    with pytest.raises(InputError, match="unit 'miles' is not known; use diagonal or pixels"):
        similarity.centroid_drift(good, good, unit="miles")
