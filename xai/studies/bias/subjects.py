"""What a bias audit looks at: images with class and group, regions, and counterfactuals of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xai import settings
from xai.data.drawn.pet_factors import CUES, PARTS, SPECIES, VALUES, Cue, Pet
from xai.data.pets import PetImage, pet_masks
from xai.data.spec import Item, Problem
from xai.errors import InputError, XaiError
from xai.images.recolour import recolour
from xai.models.classifier import Classifier
from xai.stats.intervals import Interval, less, wilson
from xai.studies.bias.groups import mask_of
from xai.types import Run
from xai.words import counted

FACTORS = ("shape", *CUES, *PARTS)
"""Factors of a drawn pet that are swapped, one at a time; "shape" swaps all four parts together."""

PET_REGIONS = ("animal", "head", "ears", "muzzle", "fur", "background")


@dataclass(frozen=True, eq=False)
class Swap:
    """One factor swapped in some of the images.

    x (M,3,H,W): the counterfactuals; places (M,): the images they belong to; toward (M,) int64: the class that the
    value before the swap speaks for, -1 where nobody knows.
    """

    factor: str
    x: Tensor
    places: Tensor
    toward: Tensor


@dataclass(frozen=True, eq=False)
class Subjects:
    """Images under audit, as a classifier sees them.

    x (N,3,H,W) in [0, 1]; labels (N,): classes of the classifier; groups: the cue's value of each image; aligned (N,)
    bool: whether it is the value that goes with the class. regions: (N,H,W) bool by name; an image may have an empty
    one. cue: what the groups are values of. synthetic: drawn. how: how groups and counterfactuals were made.
    """

    keys: tuple[str, ...]
    x: Tensor
    labels: Tensor
    groups: tuple[str, ...]
    aligned: Tensor
    regions: Mapping[str, Tensor]
    swaps: tuple[Swap, ...]
    cue: str
    synthetic: bool
    how: str
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


def of_pets(
    pets: Sequence[Pet],
    cue: Cue,
    classifier: Classifier,
    pixels: int,
    run: Run,
    factors: Sequence[str] = FACTORS,
    view: str = "crop",
) -> Subjects:
    """Drawn pets with the generator's own masks and counterfactuals; the classifier's labels are cat and dog.

    Raises `InputError` where they are not, and before any is drawn where they do not fit the memory.
    """
    classes = species_classes(classifier)
    total = len(pets)
    check_memory(total, total * len(factors), classifier)
    regions: dict[str, list[Tensor]] = {name: [] for name in (*PET_REGIONS, "mark")}
    shown: list[Tensor] = []
    swapped: dict[str, list[Tensor]] = {factor: [] for factor in factors}
    for index, pet in enumerate(pets):
        shown.append(classifier.preprocess(PetImage(pet, pixels)(), view))
        for name, mask in pet_masks(pet, pixels).items():
            regions[name].append(seen_mask(mask, classifier, view))
        for factor in factors:
            swapped[factor].append(classifier.preprocess(PetImage(pet.swapped(factor), pixels)(), view))
        run.report(index + 1, total, f"drawing {index + 1} of {total} animals, each {len(factors) + 1} times")
    toward = {factor: [classes[_speaks_for(pet, factor)] for pet in pets] for factor in factors}
    places = torch.arange(total)
    return Subjects(
        keys=tuple(f"{pet.species}/{getattr(pet, cue)}/{index:04}" for index, pet in enumerate(pets)),
        x=torch.cat(shown),
        labels=torch.tensor([classes[SPECIES.index(pet.species)] for pet in pets]),
        groups=tuple(str(getattr(pet, cue)) for pet in pets),
        aligned=torch.tensor([pet.aligned(cue) for pet in pets]),
        regions={name: torch.stack(masks) for name, masks in regions.items()},
        swaps=tuple(Swap(f, torch.cat(swapped[f]), places, torch.tensor(toward[f])) for f in factors),
        cue=cue,
        synthetic=True,
        how="counterfactuals drawn anew with one factor swapped and everything else equal",
    )


def species_classes(classifier: Classifier) -> tuple[int, int]:
    """The classifier's classes for cat and dog; raises `InputError` where it has none of these names."""
    names = [label.casefold() for label in classifier.labels]
    if "cat" not in names or "dog" not in names:
        raise InputError(
            f"{classifier.title} has the classes {', '.join(classifier.labels[:4])}, ...; an audit on drawn pets needs "
            "cat and dog."
        )
    return names.index("cat"), names.index("dog")


def _speaks_for(pet: Pet, factor: str) -> int:
    """0 where the factor's present value goes with cats, 1 with dogs."""
    if factor == "shape":
        return SPECIES.index(pet.species)
    values: Sequence[str] = VALUES.get(factor) or PARTS[factor]
    return values.index(getattr(pet, factor))


def of_items(
    items: Sequence[Item],
    labels: Sequence[int],
    groups: Sequence[str],
    cue: str,
    classifier: Classifier,
    run: Run,
    view: str = "crop",
    synthetic: bool = False,
) -> Subjects:
    """A person's own images: groups as given; where an image has a mask, it is recoloured inside for a counterfactual.

    Images that cannot be decoded are left out and listed; an image whose mask does not fit, or lies where the network
    does not look, stays without it, which is listed too. Raises `InputError` where none can be decoded, and before any
    is read where they do not fit the memory.
    """
    check_memory(len(items), sum(item.open_mask is not None for item in items), classifier)
    shown: list[Tensor] = []
    regions: list[Tensor] = []
    kept: list[int] = []
    problems: list[Problem] = []
    changed: list[Tensor] = []
    places: list[int] = []
    for index, item in enumerate(items):
        run.report(index, len(items), f"reading {index + 1} of {len(items)}")
        try:
            image = item.open()
        except XaiError as error:
            problems.append(Problem(item.key, str(error)))
            continue
        seen = torch.zeros(classifier.input_size, dtype=torch.bool)
        try:
            mask = mask_of(item, image)
            if mask is not None:
                seen = _looked_at(mask, classifier, view)
                places.append(len(kept))
                changed.append(classifier.preprocess(recolour(image, mask), view))
        except XaiError as error:
            problems.append(Problem(item.key, f"kept without its mask: {error}"))
        regions.append(seen)
        shown.append(classifier.preprocess(image, view))
        kept.append(index)
    if not kept:
        raise InputError(f"none of the {counted(len(items), 'image')} can be decoded; the first: {problems[0].reason}")
    object_ = torch.stack(regions)
    own = [groups[index] for index in kept]
    truth = torch.tensor([labels[index] for index in kept])
    known: dict[str, Tensor] = {"object": object_, "background": ~object_ & object_.flatten(1).any(1)[:, None, None]}
    swap = Swap(cue, torch.cat(changed), torch.tensor(places), torch.full((len(places),), -1)) if places else None
    return Subjects(
        keys=tuple(items[index].key for index in kept),
        x=torch.cat(shown),
        labels=truth,
        groups=tuple(own),
        aligned=usual(truth, own),
        regions=known if places else {},
        swaps=(swap,) if swap else (),
        cue=cue,
        synthetic=synthetic,
        how="counterfactuals recoloured inside the mask: lightness mirrored in CIE Lab, by 30 at least"
        if places
        else "no mask fits its image"
        if any(item.open_mask for item in items)
        else "no masks given",
        problems=tuple(problems),
    )


def check_memory(images: int, changed: int, classifier: Classifier) -> None:
    """Raise `InputError` where the images, and so many counterfactuals of them, need more memory than is free."""
    height, width = classifier.input_size
    need = 2 * (images + changed) * 3 * height * width * 4  # float32, and once more while they are joined
    settings.check_memory(
        need,
        f"{counted(images, 'image')} at {width} x {height} px",
        "audit fewer (in the terminal: --images N of --data, else --per-group N)",
    )


def usual(labels: Tensor, groups: Sequence[str]) -> Tensor:
    """(N,) bool: whether an image's group is at least as frequent in its class as in the other classes.

    So alignment is read from data: not the group that a class has most of, which may be that of every class. All count
    as aligned where the data do not show that classes differ: no 95 % interval (Newcombe) of a difference leaves out 0.
    """
    pairs = list(zip(labels.tolist(), groups, strict=True))
    cells, classes, kinds = Counter(pairs), Counter(label for label, _ in pairs), Counter(groups)
    more: dict[tuple[int, str], Interval] = {}
    for (label, group), count in cells.items():
        others = len(pairs) - classes[label]
        if others:
            more[label, group] = less(wilson(count, classes[label]), wilson(kinds[group] - count, others))
    shown = any(each.low > 0 or each.high < 0 for each in more.values())
    return torch.tensor([not shown or more[pair].mean >= 0 for pair in pairs])


def seen_mask(mask: NDArray[np.bool_], classifier: Classifier, view: str = "crop") -> Tensor:
    """A mask (H,W) at the image's size as the classifier sees it: (h,w) bool, at least half of the pixel inside."""
    picture = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).convert("RGB")
    return classifier.preprocess(picture, view)[0, 0] >= 0.5


def _looked_at(mask: NDArray[np.bool_], classifier: Classifier, view: str) -> Tensor:
    seen = seen_mask(mask, classifier, view)
    if not bool(seen.any()):
        raise InputError("it lies outside what the network sees; use the view whole.")
    return seen
