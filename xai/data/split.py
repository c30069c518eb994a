"""Seeded stratified splits of a data set: a share for training and the rest for validation, or k folds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from xai.data._spec import DataSet
from xai.errors import InputError

LOWEST_SHARE, HIGHEST_SHARE = 0.05, 0.95
FEWEST_FOLDS, MOST_FOLDS = 2, 20


@dataclass(frozen=True)
class Split:
    """Positions in `DataSet.items`, each part in the data set's order; no position is in both parts."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def stratified_split(data: DataSet, share: float = 0.8, seed: int = 0) -> Split:
    """A share of each class for training, the rest for validation, drawn by `seed`.

    Of n images, floor(share n + 1/2) go to training; a class with c images gives floor(share c) of them, or one more
    where its remainder is among the largest, and keeps at least one image on either side. The same data set, share and
    seed give the same split everywhere.

    Raises `InputError` for a share outside 0.05 to 0.95, for images without a label and for a class with one image.
    """
    if not LOWEST_SHARE <= share <= HIGHEST_SHARE:
        raise InputError(f"the share for training is {share:g}; give {LOWEST_SHARE} to {HIGHEST_SHARE}.")
    groups = _shuffled(data, 2, "a split needs", seed)
    wanted = _apportion([len(group) for group in groups], share)
    train = sorted(place for group, count in zip(groups, wanted, strict=True) for place in group[:count])
    held = sorted(place for group, count in zip(groups, wanted, strict=True) for place in group[count:])
    return Split(tuple(train), tuple(held))


def stratified_folds(data: DataSet, folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """`folds` splits; every image is in the validation part of exactly one of them.

    The shuffled images are dealt out class after class, like cards: folds differ by one image at most, in all and in
    every class. Raises `InputError` for fewer than 2 or more than 20 folds, for images without a label, and for a class
    with fewer images than folds.
    """
    if not FEWEST_FOLDS <= folds <= MOST_FOLDS:
        raise InputError(f"the number of folds is {folds}; give {FEWEST_FOLDS} to {MOST_FOLDS}.")
    deck = [place for group in _shuffled(data, folds, f"{folds} folds need", seed) for place in group]
    splits = []
    for fold in range(folds):
        held = frozenset(deck[fold::folds])
        splits.append(Split(tuple(sorted(set(deck) - held)), tuple(sorted(held))))
    return tuple(splits)


def subset(data: DataSet, places: Iterable[int]) -> DataSet:
    """The items at `places`, in that order; classes, layout and source stay."""
    return dataclasses.replace(data, items=tuple(data.items[place] for place in places), problems=())


def _shuffled(data: DataSet, fewest: int, what: str, seed: int) -> list[list[int]]:
    """Positions of each class that has images, in class order, each shuffled by one generator of `seed`."""
    labels = [item.label for item in data.items]
    missing = sum(label is None for label in labels)
    if missing:
        raise InputError(
            f"{missing} of {len(labels)} images have no label; give a folder or zip with one folder of images a class."
        )
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for label in sorted({label for label in labels if label is not None}):
        places = [place for place, each in enumerate(labels) if each == label]
        if len(places) < fewest:
            raise InputError(
                f"class {data.classes[label]!r} has {len(places)} image{'s' if len(places) > 1 else ''}, but {what} "
                f"{fewest} of each class; add images or leave that class out."
            )
        order = torch.randperm(len(places), generator=generator).tolist()
        groups.append([places[i] for i in order])
    return groups


def _apportion(counts: list[int], share: float) -> list[int]:
    """How many of each class go to training: largest remainders, at least one and at most all but one."""
    wanted = [share * count for count in counts]
    given = [math.floor(each + 1e-9) for each in wanted]  # 0.7 x 10 is 6.999...
    spare = math.floor(share * sum(counts) + 0.5) - sum(given)
    by_remainder = sorted(range(len(counts)), key=lambda place: (given[place] - wanted[place], place))
    for place in by_remainder[:spare]:
        given[place] += 1
    return [min(max(number, 1), count - 1) for number, count in zip(given, counts, strict=True)]
