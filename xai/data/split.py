"""Splits of a data set: as its folders give it, or seeded and stratified, a share for training or k folds.

Images that belong together (copies of one picture, a patient's) have one name in `Item.together`; they are never
divided between sides. Every training here splits by these functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from xai.data.spec import PARTS, DataSet
from xai.errors import InputError
from xai.words import counted

LOWEST_SHARE, HIGHEST_SHARE = 0.05, 0.95
FEWEST_FOLDS, MOST_FOLDS = 2, 20


@dataclass(frozen=True)
class Split:
    """Positions in `DataSet.items`, each part in the data set's order; no position is in two parts.

    test: what neither learns nor chooses, where the folders give it; else ().
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()


def given_split(data: DataSet) -> Split | None:
    """The split that the folders give (see `Item.part`); None where they give none.

    Without a validation folder the test folder validates. Raises `InputError` where there is nothing to train on or to
    validate by.
    """
    if not data.parts:
        return None
    train, validation, test = (
        tuple(place for place, item in enumerate(data.items) if item.part == part) for part in PARTS
    )
    if not train or not (validation or test):
        there = ", ".join(data.parts)
        raise InputError(
            f"its folders give {there} alone; training needs a folder train, and validation or test, with a folder of "
            "images for each class in both."
        )
    return Split(train, validation, test) if validation else Split(train, test)


def stratified_split(data: DataSet, share: float = 0.8, seed: int = 0) -> Split:
    """A share of each class for training, the rest for validation, drawn by `seed`.

    Of n images, floor(share n + 1/2) go to training; a class with c images gives floor(share c) of them, or one more
    where its remainder is among the largest, and keeps at least one image on either side. The same data set, share and
    seed give the same split everywhere. Images that belong together go to one side: their sets are dealt out first, the
    largest first, to a side drawn by the share that has room for them; single images then fill up what a class lacks.

    Raises `InputError` for a share outside 0.05 to 0.95, for images without a label, for a class with one image, and
    for a class whose images all belong together.
    """
    if not LOWEST_SHARE <= share <= HIGHEST_SHARE:
        raise InputError(f"the share for training is {share:g}; give {LOWEST_SHARE} to {HIGHEST_SHARE}.")
    groups = _shuffled(data, 2, "a split needs", seed)
    wanted = _apportion([len(group) for group in groups], share)
    sets = _sets(data)
    if sets:
        learned = _dealt_two(data, groups, wanted, sets, share, seed)
        return Split(tuple(sorted(learned)), tuple(sorted(set(range(len(data))) - learned)))
    train = sorted(place for group, count in zip(groups, wanted, strict=True) for place in group[:count])
    held = sorted(place for group, count in zip(groups, wanted, strict=True) for place in group[count:])
    return Split(tuple(train), tuple(held))


def stratified_folds(data: DataSet, folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """`folds` splits; every image is in the validation part of exactly one of them.

    The shuffled images are dealt out class after class, like cards: folds differ by one image at most, in all and in
    every class. Sets of images that belong together go first, the largest first, each to the fold that lacks its
    classes most; folds can then differ by more. Raises `InputError` for fewer than 2 or more than
    20 folds, for images without a label, and for a class with fewer images (or sets of them) than folds.
    """
    if not FEWEST_FOLDS <= folds <= MOST_FOLDS:
        raise InputError(f"the number of folds is {folds}; give {FEWEST_FOLDS} to {MOST_FOLDS}.")
    groups = _shuffled(data, folds, f"{folds} folds need", seed)
    sets = _sets(data)
    if sets:
        parts = _dealt_folds(data, groups, sets, folds)
    else:
        deck = [place for group in groups for place in group]
        parts = [set(deck[fold::folds]) for fold in range(folds)]
    every = set(range(len(data)))
    return tuple(Split(tuple(sorted(every - held)), tuple(sorted(held))) for held in parts)


def divided(data: DataSet, parts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Positions of the images that belong together with an image of another part, in order."""
    sides: dict[str, set[int]] = {}
    every = [(place, side, data.items[place].together) for side, part in enumerate(parts) for place in part]
    for _, side, name in every:
        sides.setdefault(name, set()).add(side)
    return tuple(sorted(place for place, _, name in every if name and len(sides[name]) > 1))


def unseen(data: DataSet, train: Sequence[int], held: Sequence[int]) -> tuple[int, ...]:
    """Those of `held` that belong together with no image of `train`.

    Raises `InputError` where every one of them does.
    """
    shown = {data.items[place].together for place in train} - {""}
    kept = tuple(place for place in held if data.items[place].together not in shown)
    if held and not kept:
        raise InputError(
            f"all images outside the train folder ({len(held)}) show the same picture as one in it; add other images."
        )
    return kept


SEEN = "shows the same picture as a training image"
"""Why an image that was held out is left out."""


def _sets(data: DataSet) -> list[list[int]]:
    """The sets of two images or more that belong together, in the order of their first ones."""
    found: dict[str, list[int]] = {}
    for place, item in enumerate(data.items):
        if item.together:
            found.setdefault(item.together, []).append(place)
    return [places for places in found.values() if len(places) > 1]


def _dealt_two(
    data: DataSet, groups: list[list[int]], wanted: list[int], sets: list[list[int]], share: float, seed: int
) -> set[int]:
    """The positions for training, no set divided; see `stratified_split`."""
    label = [item.label for item in data.items]
    kinds = [label[group[0]] for group in groups]
    room = [
        dict(zip(kinds, wanted, strict=True)),
        {kind: len(group) - count for kind, group, count in zip(kinds, groups, wanted, strict=True)},
    ]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sets), generator=generator).tolist()
    sides: list[set[int]] = [set(), set()]
    for places in sorted((sets[i] for i in order), key=len, reverse=True):
        has = Counter(label[place] for place in places)
        over = [sum(max(0, count - max(0, each[kind])) for kind, count in has.items()) for each in room]
        drawn = int(float(torch.rand((), generator=generator)) >= share)
        side = drawn if over[drawn] <= over[1 - drawn] else 1 - drawn
        sides[side].update(places)
        room[side] = {kind: left - has[kind] for kind, left in room[side].items()}
    in_sets = sides[0] | sides[1]
    for kind, group in zip(kinds, groups, strict=True):
        single = [place for place in group if place not in in_sets]
        count = min(max(room[0][kind], 0), len(single))
        sides[0].update(single[:count])
        sides[1].update(single[count:])
    _fill(data, sides, [*sets, *([place] for group in groups for place in group if place not in in_sets)])
    return sides[0]


def _fill(data: DataSet, sides: list[set[int]], units: list[list[int]]) -> None:
    """Move the smallest unit that does it, where a class has no image on a side; raise `InputError` where none does."""
    label = [item.label for item in data.items]
    for kind in sorted({each for each in label if each is not None}):
        for side, other in ((0, 1), (1, 0)):
            if any(label[place] == kind for place in sides[side]):
                continue
            there = Counter(label[place] for place in sides[other])
            for unit in sorted(units, key=len):
                has = Counter(label[place] for place in unit)
                if has[kind] and all(there[each] > count for each, count in has.items()):
                    sides[other].difference_update(unit)
                    sides[side].update(unit)
                    break
            else:
                raise InputError(
                    f"too many images of class {data.classes[kind]!r} belong together (copies of one picture, or one "
                    "group) to be divided; add other images, or leave that class out."
                )


def _dealt_folds(data: DataSet, groups: list[list[int]], sets: list[list[int]], folds: int) -> list[set[int]]:
    """The positions of each fold's validation images, no set divided; see `stratified_folds`."""
    label = [item.label for item in data.items]
    shuffled = {place: turn for turn, place in enumerate(place for group in groups for place in group)}
    in_sets = {place for places in sets for place in places}
    single = [[place] for group in groups for place in group if place not in in_sets]
    units = sorted(sets, key=lambda places: (-len(places), min(shuffled[place] for place in places)))
    parts: list[set[int]] = [set() for _ in range(folds)]
    has: list[Counter[int | None]] = [Counter() for _ in range(folds)]
    for unit in (*units, *single):
        kinds = Counter(label[place] for place in unit)
        fold = min(range(folds), key=lambda k: (sum(has[k][kind] * n for kind, n in kinds.items()), len(parts[k]), k))
        parts[fold].update(unit)
        has[fold] += kinds
    for group in groups:
        kind = label[group[0]]
        if not all(each[kind] for each in has):
            raise InputError(
                f"too many images of class {data.classes[kind or 0]!r} belong together (copies of one picture, or one "
                f"group) for {folds} folds; ask for fewer folds, or add other images."
            )
    return parts


def subset(data: DataSet, places: Iterable[int]) -> DataSet:
    """The items at `places`, in that order; classes, layout and source stay."""
    return dataclasses.replace(data, items=tuple(data.items[place] for place in places), problems=())


def _shuffled(data: DataSet, fewest: int, what: str, seed: int) -> list[list[int]]:
    """Positions of each class that has images, in class order, each shuffled by one generator of `seed`."""
    data.check_labels(needed=1)
    labels = [item.label for item in data.items]
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for label in sorted({label for label in labels if label is not None}):
        places = [place for place, each in enumerate(labels) if each == label]
        if len(places) < fewest:
            raise InputError(
                f"class {data.classes[label]!r} has {counted(len(places), 'image')}, but {what} "
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
