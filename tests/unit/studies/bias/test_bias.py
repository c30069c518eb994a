"""The audit's maths by hand: groups, flips, reliance, shares, weights, groups of own data, and the verdict's words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn

from tests.conftest import make_tiny
from xai.data import open_dataset
from xai.data.drawn.pet_factors import Pet
from xai.data.pets import balanced_pets
from xai.data.spec import Item
from xai.errors import InputError
from xai.images.recolour import box_mask, lightness, recolour
from xai.models.classifier import Classifier, InputModel, Preset
from xai.stats.intervals import Interval, rank_correlation, wilson
from xai.studies.bias.audit import audit, effect, group_accuracy, read_audit, shares_of
from xai.studies.bias.detector import Reading, detect
from xai.studies.bias.findings import Audit, Share
from xai.studies.bias.groups import groups_in, groups_of, with_masks
from xai.studies.bias.subjects import Subjects, Swap, of_items, of_pets, usual
from xai.studies.bias.train import Experiment, group_weights

# --- statistics -------------------------------------------------------------------------------------------------------


def test_wilson_by_hand_and_by_scipy() -> None:
    # z = 1.96: 8 of 10 gives (8 + 1.9208 -+ 1.96 sqrt(1.6 + .9604)) / 13.8416 = 0.4902 ... 0.9433
    found = wilson(8, 10)
    assert found.low == pytest.approx(0.49016, abs=1e-4)
    assert found.high == pytest.approx(0.94331, abs=1e-4)
    for successes, n in ((0, 7), (7, 7), (3, 50), (49, 50)):
        peer = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert (wilson(successes, n).low, wilson(successes, n).high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    with pytest.raises(InputError, match=r"^3 of 2 is no share"):
        wilson(3, 2)


def test_rank_correlation_is_spearmans_and_covers_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(20, generator=generator, dtype=torch.float64)
    b = a + 0.3 * torch.rand(20, generator=generator, dtype=torch.float64)
    found = rank_correlation(a, b)
    assert found.mean == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
    assert found.low < found.mean < found.high
    assert rank_correlation(a, -a).mean == -1
    assert rank_correlation(a, torch.ones(20)).mean == 0
    with pytest.raises(InputError, match="at least 3 pairs"):
        rank_correlation(a[:2], b[:2])


# --- groups and effects -----------------------------------------------------------------------------------------------


def subjects(labels: list[int], groups: list[str], aligned: list[bool]) -> Subjects:
    count = len(labels)
    return Subjects(
        tuple(map(str, range(count))), torch.zeros(count, 3, 4, 4), torch.tensor(labels), tuple(groups),
        torch.tensor(aligned), {}, (), "fur", True, "by hand",
    )  # fmt: skip


def test_groups_are_counted_by_class_and_value() -> None:
    own = subjects([0, 0, 0, 1, 1], ["light", "light", "dark", "dark", "light"], [True, True, False, True, False])
    found = group_accuracy(own, torch.tensor([True, False, False, True, True]), ("cat", "dog"))
    assert [(g.label, g.value, g.accuracy.mean, g.accuracy.n, g.aligned) for g in found] == [
        ("cat", "dark", 0.0, 1, False),
        ("cat", "light", 0.5, 2, True),
        ("dog", "dark", 1.0, 1, True),
        ("dog", "light", 1.0, 1, False),
    ]


def test_flips_movement_and_reliance_by_hand() -> None:
    before = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], dtype=torch.float64)
    after = torch.tensor([[0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    # Two answers flip. p(first answer) falls by .7, .1, .3, 0. The values speak for 0, 1, 1, 1: falls .7, -.1, .3, 0.
    swap = Swap("fur", torch.zeros(4, 3, 2, 2), torch.arange(4), torch.tensor([0, 1, 1, 1]))
    found = effect(swap, before, after)
    assert (found.flipped, found.flips.mean, found.flips.n) == (2, 0.5, 4)
    assert found.moved.mean == pytest.approx(0.275)
    assert found.score.mean == pytest.approx(0.225)
    assert found.score.low < 0.225 < found.score.high
    unknown = effect(replace(swap, toward=torch.full((4,), -1)), before, after)
    assert unknown.score.mean == pytest.approx(0.275)


def test_shares_against_chance_by_hand() -> None:
    maps = torch.tensor([[[1.0, 1.0], [2.0, -5.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    head = torch.tensor([[[1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]).bool()
    (found,) = shares_of("gradcam", maps, {"head": head})
    # 1 of 4 positive mass in a quarter of the area; a blank map has no share; the third has no head.
    assert (found.share.mean, found.chance.mean, found.beyond.mean) == (0.25, 0.25, 0.0)
    assert (found.share.n, found.blank) == (1, 1)
    (found,) = shares_of("gradcam", torch.zeros(3, 2, 2), {"head": head})
    assert (found.share.n, found.blank, math.isnan(found.beyond.mean)) == (0, 2, True)


def test_networks_are_compared_by_the_first_methods_share_of_the_object_and_of_what_the_cue_lies_in() -> None:
    half = Interval(0.5, 0.4, 0.6, 3)
    shares = tuple(
        Share(method, region, half, half, half, 1, 0)
        for method in ("saliency", "gradcam")
        for region in ("animal", "head", "ears", "fur", "background", "mark")
    )
    found = Audit("mark", 3, True, "", (), (), None, None, (), shares, "", (), {})
    assert [each.title for each in found.compared()] == [
        f"Saliency on the {region}, beyond chance" for region in ("head", "animal", "fur", "background", "mark")
    ]
    assert "mark" not in {each.region for each in replace(found, cue="fur").compared()}
    assert replace(found, shares=()).compared() == ()


def test_alignment_of_own_data_is_what_goes_with_a_class() -> None:
    labels, groups = torch.tensor([0] * 30 + [1] * 20), ["a"] * 20 + ["b"] * 10 + ["b"] * 20
    assert usual(labels, groups).tolist() == [True] * 20 + [False] * 10 + [True] * 20


def test_alignment_is_over_representation_not_the_majority() -> None:
    # both classes are mostly "a": 90 % of cats, 60 % of dogs; so "a" goes with cats, and "b" with dogs
    labels, groups = torch.tensor([0] * 50 + [1] * 50), ["a"] * 45 + ["b"] * 5 + ["a"] * 30 + ["b"] * 20
    assert usual(labels, groups).tolist() == [True] * 45 + [False] * 5 + [False] * 30 + [True] * 20


@pytest.mark.parametrize("dogs", [40, 38])
def test_without_over_representation_nothing_conflicts(dogs: int) -> None:
    # 80 % of cats are "a" and 80 % (or 76 %, which chance would give) of dogs
    labels, groups = torch.tensor([0] * 50 + [1] * 50), ["a"] * 40 + ["b"] * 10 + ["a"] * dogs + ["b"] * (50 - dogs)
    assert all(usual(labels, groups).tolist())
    assert all(usual(torch.zeros(4, dtype=torch.int64), ["a", "a", "a", "b"]).tolist())  # no class to compare with


def test_group_weights_make_every_group_count_the_same() -> None:
    pets = (Pet(fur="light"), Pet(fur="light"), Pet(fur="light"), Pet(fur="dark"))
    assert group_weights(pets, "fur").tolist() == pytest.approx([4 / 6, 4 / 6, 4 / 6, 2.0])


# --- a network that is known to look at one thing ---------------------------------------------------------------------


class ByBrightness(nn.Module):
    """Says cat with certainty in proportion to the brightness of the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.relu = nn.ReLU()
        nn.init.constant_(self.conv.weight, 1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        grey = self.relu(self.conv(x))[:, :, 20:44, 20:44].mean((1, 2, 3))
        return torch.stack([40 * (grey - 0.5), -40 * (grey - 0.5)], 1)


def by_brightness() -> Classifier:
    module = InputModel(ByBrightness(), (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)
    preset = Preset((0.0,) * 3, (1.0,) * 3, 64, 64)  # type: ignore[arg-type]
    return replace(make_tiny(), module=module, labels=("cat", "dog"), default_layer="relu", preset=preset, _memo={})


def test_a_network_that_looks_at_brightness_is_caught_and_not_for_the_mark() -> None:
    clf = by_brightness()
    faces = [replace(p, pose="face", size=0.9, x=0.5, y=0.5) for p in balanced_pets(4, "fur", 5)]
    own = of_pets(faces, "fur", clf, 64, _run(), ("shape", "fur", "mark"))
    found = audit(clf, own)
    fur, mark = found.by_factor("fur"), found.by_factor("mark")
    assert fur is not None
    assert mark is not None
    assert (fur.flipped, fur.flips.n, mark.flipped) == (16, 16, 0)
    assert fur.score.low > 0.9
    assert abs(mark.score.mean) < 1e-6
    assert (found.aligned.mean, found.conflicting.mean) == (1.0, 0.0)  # type: ignore[union-attr]
    said = "Decides by fur colour: flips in 16 of 16 recoloured animals; accuracy on dark cats 0% (0 of 4)."
    assert found.verdict == said
    assert {s.region for s in found.shares} == {"animal", "head", "ears", "muzzle", "fur", "background", "mark"}
    assert read_audit(json.loads(json.dumps(found.plain()))) == replace(found, classes=found.classes)


def _run():
    from xai.types import Run

    return Run()


@pytest.mark.parametrize(
    ("fur", "shape", "said"),
    [
        ((0.8, 0.7, 0.9), (0.1, 0.0, 0.2), "Decides by fur colour: flips in 40 of 50 recoloured animals; accuracy on"),
        ((0.3, 0.2, 0.4), (0.6, 0.5, 0.7), "Leans on fur colour: flips in 40 of 50"),
        ((0.0, -0.1, 0.1), (0.9, 0.8, 1.0), "Decides by shape, not by fur colour: flips in 40 of 50"),
        ((0.0, -0.1, 0.1), (0.3, 0.2, 0.4), "Leans on fur colour: flips in 40 of 50 recoloured animals, by"),
    ],
)
def test_the_verdict_follows_its_rules(fur, shape, said: str) -> None:
    from xai.studies.bias.findings import Group, Reliance
    from xai.studies.bias.verdict import verdict

    def one(factor: str, ends) -> Reliance:
        return Reliance(factor, wilson(40, 50), 40, Interval(*ends, 50), Interval(*ends, 50))

    groups = (Group("cat", "dark", False, wilson(3, 25)), Group("dog", "dark", True, wilson(25, 25)))
    found = Audit("fur", 50, True, "", ("cat", "dog"), groups, None, None, (one("fur", fur), one("shape", shape)),
                  (), "", (), {})  # fmt: skip
    assert verdict(found).startswith(said)
    assert verdict(found).endswith("accuracy on dark cats 12% (3 of 25).")
    nothing = replace(found, reliance=())
    assert verdict(nothing).startswith("Groups differ: 88.0 points between best and worst, plausible from 65.6 to ")


# --- own data ---------------------------------------------------------------------------------------------------------


def pictures(folder: Path) -> Path:
    """cat/light, cat/dark, dog/light, dog/dark: a grey square of that brightness on mid grey, with masks."""
    for label in ("cat", "dog"):
        for group, level in (("light", 230), ("dark", 25)):
            for index in range(2):
                image = np.full((64, 64, 3), 128, np.uint8)
                image[12:52, 12:52] = level
                mask = np.zeros((64, 64), np.uint8)
                mask[12:52, 12:52] = 255
                for where, array in (("data", image), ("masks", mask)):
                    path = folder / where / label / group / f"{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(path)
    return folder / "data"


def with_background(path: Path, seed: int) -> None:
    """Redraw a picture of `pictures` before another background of its own, as bright in the mean: it is no copy."""
    blocks = np.random.default_rng(seed).permutation([-60, 60] * 32).reshape(8, 8)
    levels = (128 + np.kron(blocks, np.ones((8, 8))))[..., None].repeat(3, 2).astype(np.uint8)
    levels[12:52, 12:52] = np.array(Image.open(path))[12:52, 12:52]
    Image.fromarray(levels).save(path)


def different_pictures(folder: Path) -> Path:
    """`pictures`, each before a background of its own: no copies of one picture."""
    data = pictures(folder)
    for seed, path in enumerate(sorted(data.glob("*/*/*.png"))):
        with_background(path, seed)
    return data


def test_groups_come_from_folders_a_table_or_brightness(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    expected = ("dark", "dark", "light", "light") * 2
    assert groups_of(items, "folders")[0] == expected
    found, told = groups_of(items, "brightness")
    assert found == expected
    assert "cut at the median" in told
    (tmp_path / "g.csv").write_text("file,group\n" + "\n".join(f"{i.key},{i.key[4]}" for i in items), encoding="utf-8")
    assert groups_of(items, str(tmp_path / "g.csv"))[0] == ("d", "d", "l", "l") * 2
    with pytest.raises(InputError, match=r"^g\.csv has no group for cat/dark/0\.png; add a line"):
        groups_in({"x.png": "a"}, items, "g.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"has the columns a, b; it needs file and group, with a comma between\.$"):
        groups_of(items, str(tmp_path / "bad.csv"))
    with pytest.raises(InputError, match=r"lies in no group folder"):
        groups_of([Item("cat/1.png", 0, items[0].open)], "folders")
    with pytest.raises(InputError, match=r"^all 2 images are of the group 'dark'"):
        groups_of(items[:2], "folders")


def test_own_images_are_recoloured_inside_their_masks(tmp_path: Path) -> None:
    items = open_dataset(pictures(tmp_path)).items
    groups = groups_of(items, "folders")[0]
    clf = by_brightness()
    masked, told, misfits = with_masks(items, tmp_path / "masks")
    assert (told, misfits) == ("masks for 8 of 8 images", ())
    own = of_items(masked, [i.label or 0 for i in items], groups, "brightness", clf, _run())
    assert own.regions["object"].float().mean() == pytest.approx(1600 / 4096, abs=1e-6)
    found = audit(clf, own)
    swap = found.by_factor("brightness")
    assert swap is not None
    assert (swap.flipped, swap.flips.n) == (8, 8)
    assert "8 of 8 recoloured images" in found.verdict
    bare = of_items(items, [i.label or 0 for i in items], groups, "brightness", clf, _run())
    # two of two right and none of two: Wilson's intervals are too wide for a finding
    assert audit(clf, bare).verdict.startswith("No difference between groups shown: 100.0 points between best and")


def test_recolouring_mirrors_lightness_and_leaves_the_rest() -> None:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(30, 90, (24, 32, 3), dtype=np.uint8))
    mask = box_mask((4, 4, 20, 16), image.size)
    other = recolour(image, mask)
    before, after = np.asarray(image), np.asarray(other)
    assert (before[~mask] == after[~mask]).all()
    assert lightness(other, mask) == pytest.approx(100 - lightness(image, mask), abs=1.0)
    assert lightness(recolour(image, mask, to=70), mask) == pytest.approx(70, abs=1.0)
    # what is neither light nor dark must not stay as it is: 100 - 50 would be 50
    grey = Image.new("RGB", (32, 24), (119, 119, 119))
    assert lightness(grey) == pytest.approx(50, abs=0.2)
    assert abs(lightness(recolour(grey, mask), mask) - 50) == pytest.approx(30, abs=1.0)
    # a grey has no hue to turn; a colour keeps its lightness when it is turned
    turned = recolour(image, mask, to=lightness(image, mask), turn=40)
    assert lightness(turned, mask) == pytest.approx(lightness(image, mask), abs=1.0)
    assert (np.asarray(turned)[mask] != before[mask]).any()
    with pytest.raises(InputError, match=r"^the mask is empty"):
        recolour(image, np.zeros((24, 32), bool))
    with pytest.raises(InputError, match=r"^the mask is \(3, 3\) for an image of 24 x 32"):
        recolour(image, np.ones((3, 3), bool))
    with pytest.raises(InputError, match=r"holds no pixel of an image of 32 x 24"):
        box_mask((40, 0, 50, 10), (32, 24))


# --- the detector -----------------------------------------------------------------------------------------------------


def test_the_detector_ranks_methods_by_how_their_mass_follows_the_truth() -> None:
    truth = [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.2, 0.4]
    readings = [Reading(str(i), "mark", "good", t / 10, 0.01, t) for i, t in enumerate(truth)]
    readings += [Reading(str(i), "mark", "random", 0.01, 0.01, t) for i, t in enumerate(truth)]
    readings += [Reading(str(i), "mark", "bad", -t, 0.01, t) for i, t in enumerate(truth)]
    readings += [Reading("0", "fur", "good", 0.5, 0.3, 0.5)]  # one network says nothing
    found = detect(readings)
    assert [(each.method, each.word, round(each.correlation.mean, 9)) for each in found] == [
        ("good", "trusted", 1.0),
        ("random", "none", 0.0),
        ("bad", "reversed", -1.0),
    ]
    assert [each.baseline for each in found] == [False, True, False]


def test_names_tell_trainings_apart() -> None:
    names = {
        Experiment().name,
        Experiment(rho=0.9).name,
        Experiment(rho=0.95).name,
        Experiment(arm="grey").name,
        Experiment(seed=1).name,
        Experiment(cue="mark").name,
    }
    assert len(names) == 6
    assert Experiment(rho=0.8996).name != Experiment(rho=0.9).name  # which the sweep trains too
    assert Experiment(arm="balanced").pets().rho == 0.5
    assert math.isclose(Experiment(rho=0.9).pets().share("dog"), 0.9)
    with pytest.raises(InputError, match=r"^arm 'x' is not known; use biased, balanced, weights, jitter, grey\.$"):
        Experiment(arm="x")
