"""Splits and folds: worked out by hand, the same every time, every image once, classes in proportion."""

from __future__ import annotations

from collections import Counter

import pytest
from PIL import Image

from xai.data import DataSet, Item
from xai.data.split import Split, stratified_folds, stratified_split, subset
from xai.errors import InputError


def data_of(*counts: int, mixed: bool = False) -> DataSet:
    """counts[k] images of class k; mixed: dealt in turn instead of class after class."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    if mixed:
        labels = sorted(range(len(labels)), key=lambda place: (place % 7, place))
        labels = [[k for k, n in enumerate(counts) for _ in range(n)][place] for place in labels]
    items = tuple(Item(f"{label}/{place}.png", label, Image.Image) for place, label in enumerate(labels))
    return DataSet("made", "class folders", items, tuple(f"class{k}" for k in range(len(counts))))


def by_class(data: DataSet, places: tuple[int, ...]) -> list[int]:
    found = Counter(data.items[place].label for place in places)
    return [found[k] for k in range(len(data.classes))]


@pytest.mark.parametrize(
    ("counts", "share", "train"),
    [
        ((155, 98), 0.8, [124, 78]),  # study 4: 202.4 -> 202; 124 and 78.4
        ((300,) * 10, 0.7, [210] * 10),  # study 2: 2,100 and 900
        ((10, 10), 0.7, [7, 7]),  # 0.7 x 10 is a little under 7 in binary
        ((5, 5, 5), 0.5, [3, 3, 2]),  # 7.5 -> 8; 2.5 each, the two spare ones to the first two classes
        ((3, 4), 0.6, [2, 2]),  # 4.2 -> 4; 1.8 and 2.4: the spare one to the larger remainder
        ((2, 100), 0.95, [1, 95]),  # 96.9 -> 97, but a class never loses its last image
        ((2, 2), 0.05, [1, 1]),
    ],
)
def test_counts_by_hand(counts, share, train):
    data = data_of(*counts, mixed=True)
    split = stratified_split(data, share, seed=3)
    assert by_class(data, split.train) == train
    assert by_class(data, split.validation) == [c - t for c, t in zip(counts, train, strict=True)]
    assert sorted(split.train + split.validation) == list(range(len(data)))
    assert list(split.train) == sorted(split.train)
    assert list(split.validation) == sorted(split.validation)


def test_the_seed_decides_and_nothing_else():
    data = data_of(20, 30)
    assert stratified_split(data, 0.8, seed=1) == stratified_split(data, 0.8, seed=1)
    assert stratified_split(data, 0.8, seed=1) != stratified_split(data, 0.8, seed=2)
    assert stratified_folds(data, 5, seed=1) == stratified_folds(data, 5, seed=1)
    assert stratified_folds(data, 5, seed=1) != stratified_folds(data, 5, seed=2)
    # Written down once: a run that is resumed next year must not see another split.
    assert stratified_split(data_of(4, 3), 0.5, seed=0) == Split((0, 1, 4, 6), (2, 3, 5))


@pytest.mark.parametrize(("counts", "folds"), [((155, 98), 5), ((7, 8, 9), 3), ((2, 2), 2), ((11, 13), 10)])
def test_folds_hold_every_image_once_and_the_classes_in_proportion(counts, folds):
    data = data_of(*counts, mixed=True)
    splits = stratified_folds(data, folds, seed=4)
    assert len(splits) == folds
    assert sorted(place for split in splits for place in split.validation) == list(range(len(data)))
    for split in splits:
        assert sorted(split.train + split.validation) == list(range(len(data)))
    assert max(len(s.validation) for s in splits) - min(len(s.validation) for s in splits) <= 1
    for label in range(len(counts)):
        held = [by_class(data, split.validation)[label] for split in splits]
        assert max(held) - min(held) <= 1


def test_a_subset_keeps_what_the_data_set_is():
    data = data_of(3, 2)
    part = subset(data, (4, 0))
    assert [item.key for item in part.items] == ["1/4.png", "0/0.png"]
    assert (part.classes, part.layout, part.name) == (data.classes, data.layout, data.name)


def test_refusals():
    with pytest.raises(InputError, match=r"^the share for training is 1; give 0\.05 to 0\.95\.$"):
        stratified_split(data_of(4, 4), 1.0)
    with pytest.raises(InputError, match=r"^the share for training is nan; give"):
        stratified_split(data_of(4, 4), float("nan"))
    with pytest.raises(InputError, match=r"^class 'class1' has 1 image, but a split needs 2 of each class; add images"):
        stratified_split(data_of(4, 1))
    with pytest.raises(InputError, match=r"^class 'class0' has 4 images, but 5 folds need 5 of each class; add"):
        stratified_folds(data_of(4, 9), 5)
    with pytest.raises(InputError, match=r"^the number of folds is 1; give 2 to 20\.$"):
        stratified_folds(data_of(4, 9), 1)
    items = (Item("a.png", None, Image.Image), Item("b.png", 0, Image.Image))
    with pytest.raises(InputError, match=r"^1 of 2 images have no label; give a folder or zip with one folder of"):
        stratified_split(DataSet("x", "unlabelled", items, ("a",)))
