"""Distances between image sets against loops, peers and hand-worked numbers; augmentation, collapse, memorisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from xai.errors import InputError
from xai.gan.diffaugment import augment, parse_policy
from xai.gan.images import Pictures, Shares
from xai.gan.judge import MOST, _by_class, _drawn, copying, judge, nearer
from xai.gan.quality import frechet, kid, kid_estimate, manifold, nearest
from xai.gan.watch import collapse_warning, intra_class_distance, real_distance
from xai.types import Run


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kid_by_loops_and_as_torchmetrics() -> None:
    a, b = rand(5, 3), rand(4, 3, seed=1) + 0.5

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return (sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / 3 + 1) ** 3

    within_a = sum(k(a[i], a[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_b = sum(k(b[i], b[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(x, y) for x in a for y in b) / 20
    assert kid_estimate(a, b) == pytest.approx(1000 * (within_a + within_b - 2 * between))
    same = rand(6, 7), rand(6, 7, seed=2)
    assert kid_estimate(*same) == pytest.approx(1000 * float(poly_mmd(*same)))


def test_kid_is_unbiased_where_fid_is_not() -> None:
    """Two draws of one distribution: KID is about 0 on average, also with few images; FID is far above."""
    kids, fids = [], []
    for seed in range(60):
        a, b = rand(12, 8, seed=2 * seed), rand(12, 8, seed=2 * seed + 1)
        kids.append(kid_estimate(a, b))
        fids.append(frechet(a, b))
    assert abs(np.mean(kids)) < 3 * np.std(kids) / math.sqrt(60)
    assert np.mean(fids) > 1


def test_kids_spread_is_over_seeded_halves() -> None:
    a, b = rand(20, 4), rand(30, 4, seed=1)
    found = kid(a, b, seed=3, subsets=5)
    assert (found.size, found.subsets) == (10, 5)
    assert found == kid(a, b, seed=3, subsets=5)
    assert found.value == kid_estimate(a, b)
    assert found.spread is not None
    assert found.spread > 0


def test_kid_of_too_few_or_equal_images_has_no_spread() -> None:
    # Two of each: every subset is the whole set, and its KID differs in the last bits of a sum alone.
    few = kid(rand(2, 6), rand(2, 6, seed=1))
    assert (few.size, few.spread) == (2, None)
    alike = kid(rand(1, 6).expand(10, 6), rand(1, 6, seed=1).expand(10, 6))
    assert alike.spread is None
    assert kid(rand(20, 4), rand(30, 4, seed=1), subsets=1).spread is None
    three = kid(rand(3, 6), rand(2, 6, seed=1))  # three pairs of the three images
    assert three.spread is not None
    assert three.spread > 1e-3


def test_frechet_by_hand_and_by_the_matrix_root() -> None:
    # One number an image: means 1 and 3, standard deviations 1 and 2 -> (1-3)^2 + (1-2)^2
    a, b = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]])
    assert frechet(a, b) == pytest.approx(5.0)
    a, b = rand(40, 5), rand(50, 5, seed=1) * 1.7 + 0.3
    one, two = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(one @ two).real
    wanted = float(((a.mean(0) - b.mean(0)) ** 2).sum()) + np.trace(one + two - 2 * root)
    assert frechet(a, b) == pytest.approx(wanted)
    moments = (a.mean(0), torch.from_numpy(one), b.mean(0), torch.from_numpy(two))
    assert frechet(a, b) == pytest.approx(float(_compute_fid(*moments)))
    few = rand(4, 30)
    assert frechet(few, few) == pytest.approx(0, abs=1e-9)  # covariances of rank 3


def test_manifold_by_hand() -> None:
    # k=1. Real 0, 1, 10: reaches 1, 1, 9. Generated 0.5, 30, 31: reaches 29.5, 1, 1.
    real, generated = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [30.0], [31.0]])
    found = manifold(generated, real, k=1)
    assert found.precision == pytest.approx(1 / 3)  # only 0.5 lies in a real ball
    assert found.recall == pytest.approx(1)  # 0.5 reaches all of them
    assert found.density == pytest.approx(2 / 3)  # 0.5 lies in two balls (of 0 and 1); 10 reaches down to 1
    assert found.coverage == pytest.approx(2 / 3)


def test_nearest_is_exact() -> None:
    distances, places = nearest(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert distances.tolist() == [1.0, 0.0]
    assert places.tolist() == [1, 0]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"the generated features have shape \(1, 3\); give \(images, features\), 2 or"
    ):
        kid_estimate(rand(1, 3), rand(4, 3))
    with pytest.raises(InputError, match=r"the features have 3 and 4 numbers an image; use one extractor for both\."):
        frechet(rand(4, 3), rand(4, 4))
    with pytest.raises(InputError, match=r"there are 3 generated and 9 real images; give more than 5 of each\."):
        manifold(rand(3, 3), rand(9, 3))
    with pytest.raises(InputError, match=r"the real features hold values that are not finite; are the images\?"):
        kid_estimate(rand(4, 3), rand(4, 3) / 0)


def test_mann_whitney_as_scipys() -> None:
    for shift in (0.0, 0.4, -0.7):
        a, b = (rand(30) + shift).round(decimals=1), rand(40, seed=1).round(decimals=1)  # with ties
        wanted = scipy.stats.mannwhitneyu(a, b, alternative="less", method="asymptotic").pvalue
        assert nearer(a, b) == pytest.approx(wanted, rel=1e-9)
    assert math.isnan(nearer(torch.ones(3), torch.ones(4)))


def test_copies_are_seen_and_new_images_are_not() -> None:
    train, held, fresh = rand(60, 6), rand(40, 6, seed=1), rand(40, 6, seed=2)
    copied = copying(train[:40] + 0.01 * rand(40, 6, seed=3), train, held, "distance")
    assert copied.ratio < 0.05
    assert copied.p < 1e-6
    assert "lie nearer to the training images than held-out images do" in copied.sentence
    honest = copying(fresh, train, held, "distance")
    assert 0.8 < honest.ratio < 1.25
    assert honest.p > 0.05
    assert "lie no nearer to the training images than held-out images do" in honest.sentence


def test_more_images_than_are_compared_are_drawn_from_all_of_them() -> None:
    """Held-out images come class by class: the first thousand would be those of the first classes."""
    places = torch.arange(1500.0)[:, None]
    found = _drawn(places, 0).flatten()
    assert len(found) == MOST
    assert torch.equal(found, found.sort().values)
    assert 280 < int((found >= 1000).sum()) < 390  # a third of them, as there are
    assert torch.equal(_drawn(places[:900], 0), places[:900])


def test_classes_of_equal_images_have_no_ratio() -> None:
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    real = (images * 255).to(torch.uint8)
    real[3:] = real[3]
    pictures = Pictures(real, labels, tuple("abcdef"), ("bolt", "nut"))
    assert set(_by_class(images, labels, Shares(pictures, pictures))) == {"bolt"}
    with pytest.raises(InputError, match="the training images of every class are equal"):
        real_distance(real[3:], labels[3:])
    assert intra_class_distance(real, labels) == pytest.approx(intra_class_distance(real.float() / 255, labels))


def test_distance_within_a_class_by_hand() -> None:
    images = torch.zeros(4, 3, 2, 2)
    images[1] = 1  # class 0: one pair, 1 apart
    images[3, 0] = 1  # class 1: one pair, a third of the values 1 apart
    labels = torch.tensor([0, 0, 1, 1])
    assert intra_class_distance(images, labels) == pytest.approx((1 + math.sqrt(1 / 3)) / 2)
    with pytest.raises(InputError, match=r"no class has two images; give at least two of one class\."):
        intra_class_distance(images[:2], torch.tensor([0, 1]))


def test_collapse_is_said() -> None:
    assert collapse_warning(0.8) == ""
    assert "0.11 times as far apart as real ones, below 0.4: the generator is collapsing" in collapse_warning(0.11)


def test_translation_moves_whole_pixels_and_zeros_move_in() -> None:
    x = torch.arange(1.0, 257).reshape(1, 1, 16, 16).expand(64, 3, 16, 16)
    moved = augment(x, ("translation",), torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(x, moved, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                wanted = torch.zeros_like(before)
                rows = slice(max(0, down), 16 + min(0, down)), slice(max(0, -down), 16 + min(0, -down))
                columns = slice(max(0, right), 16 + min(0, right)), slice(max(0, -right), 16 + min(0, -right))
                wanted[:, rows[0], columns[0]] = before[:, rows[1], columns[1]]
                if torch.equal(wanted, after):
                    seen.add((down, right))
    assert len(seen) > 15  # of the 25 shifts; every image is one of them:
    assert all(float(after.max()) > 200 for after in moved)


def test_color_keeps_what_it_should() -> None:
    x = torch.full((8, 3, 4, 4), 0.2)
    grey = augment(x, ("color",), torch.Generator().manual_seed(0))
    assert torch.allclose(grey, grey[:, :1, :1, :1].expand_as(grey))  # flat grey stays flat grey: brightness alone
    assert float((grey - 0.2).abs().max()) <= 0.5
    assert len({round(float(each[0, 0, 0]), 4) for each in grey}) == 8  # a draw of its own for each image


def test_cutout_hides_a_square() -> None:
    hidden = augment(torch.ones(50, 3, 16, 16), ("cutout",), torch.Generator().manual_seed(0)) == 0
    sizes = hidden[:, 0].sum((1, 2))
    assert int(sizes.max()) == 64
    assert int(sizes.min()) >= 16  # a quarter of it where the middle is in a corner


def test_gradients_flow_through_augmentation() -> None:
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    (grad,) = torch.autograd.grad(
        augment(x, ("color", "translation", "cutout"), torch.Generator().manual_seed(1)).square().sum(), x
    )
    assert bool(torch.isfinite(grad).all())
    assert float(grad.abs().sum()) > 0
    assert parse_policy("none") == ()


def test_the_judgement_stands_between_real_and_noise(fake_extractor) -> None:
    def pictures(seed: int) -> Pictures:
        base = torch.linspace(0, 1, 32)[:, None].expand(32, 32)
        noise = torch.randint(-40, 40, (24, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
        images = (base * 170 + 40 + noise).to(torch.uint8)
        labels = torch.arange(24) % 2
        return Pictures(images, labels, tuple(f"{seed}-{i}" for i in range(24)), ("a", "b"))

    shares = Shares(pictures(0), pictures(1))
    samples = (pictures(2).pixels() + 0.05).clamp(0, 1)
    found = judge(samples, torch.arange(24) % 2, shares, fake_extractor, Run())
    assert found.reference.kid.value < found.samples.kid.value < found.noise.kid.value
    assert [row["images"] for row in found.rows()] == ["samples", "real against real", "noise"]
    assert "KID-corners x 1000" in found.rows()[0]
    assert found.pixel_ratio == pytest.approx(1, abs=0.1)
    assert set(found.by_class) == {"a", "b"}
    assert found.as_json()["extractor"] == "corners"


def test_samples_and_real_images_are_compared_within_the_same_classes(fake_extractor) -> None:
    """Real: a and c are flat images of 0 and 100 in turn, b varies five times less. b gets one sample, c many."""

    def flat(levels: list[int], labels: list[int]) -> Pictures:
        images = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
        keys = tuple(f"{place}" for place in range(len(levels)))
        return Pictures(images, torch.tensor(labels), keys, ("a", "b", "c", "d"))

    real = flat([0, 100] * 3 + [0, 20] * 3 + [0, 100] * 3 + [7], [0] * 6 + [1] * 6 + [2] * 6 + [3])
    held = flat([200 + place for place in range(19)], [0] * 19)
    made = flat([0, 50] * 3 + [9] + [0, 50] * 3 + [0, 255] * 3, [0] * 6 + [1] + [2] * 6 + [3] * 6)
    found = judge(made.pixels(), made.labels, Shares(real, held), fake_extractor, Run())
    assert found.pixel_ratio == pytest.approx(0.5)  # b has one sample, d one real image: neither counts on either side
    assert found.feature_ratio == pytest.approx(0.5)
    assert set(found.by_class) == {"a", "c"}


@pytest.fixture
def fake_extractor():
    """Means of the image's sixteenths: a stand-in that needs no network."""
    from xai.gan.features import Extractor

    return Extractor("corners", "0", "means of parts", lambda x: torch.nn.functional.avg_pool2d(x, 8).flatten(1))
