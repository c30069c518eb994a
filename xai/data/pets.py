"""Cats and dogs that are drawn: every factor known, a shortcut planted as strongly as asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from xai.data.drawn.pet_draw import REGIONS, coverage, render
from xai.data.drawn.pet_factors import CUES, SPECIES, VALUES, Cue, Pet, Species, draw_pet
from xai.data.drawn.synthetic import MOST
from xai.data.spec import SAMPLES, DataSet, Item, SampleSpec
from xai.errors import InputError
from xai.params import Parameters, check_between, parameters, value_text
from xai.registry import Source
from xai.types import Run

__all__ = ["CUES", "REGIONS", "Pet", "PetImage", "Pets", "balanced_pets", "pet_masks", "pets", "pets_dataset"]

SOURCE = Source(
    "Drawn by Olhar; planted shortcuts as in Geirhos et al., Shortcut Learning in Deep Neural Networks, 2020",
    "https://doi.org/10.1038/s42256-020-00257-z",
)
VERSION = 1
"""Raised whenever the same parameters give other pictures."""

LOWEST_PIXELS, HIGHEST_PIXELS = 32, 512


@dataclass(frozen=True)
class Pets(Parameters):
    """What is drawn. As it stands, the study's set.

    cue: the factor that the class is tied to; the other two cues are drawn evenly. cat_share, dog_share: share of each
    species that has its own value of the cue (cats light, in a room, with the disc; dogs dark, in a meadow, without).
    rho: one share for both species, in place of the two. pixels: side of the pictures.
    """

    cats: int = field(default=135, metadata={"min": 1, "max": MOST})
    dogs: int = field(default=128, metadata={"min": 1, "max": MOST})
    cue: Cue = "fur"
    cat_share: float = 0.90
    dog_share: float = 0.82
    rho: float | None = None
    pixels: int = field(default=96, metadata={"min": LOWEST_PIXELS, "max": HIGHEST_PIXELS})
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cat_share", "dog_share", "rho"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; give a share from 0 to 1.")

    def share(self, species: Species) -> float:
        """Share of a species that agrees with the cue."""
        if self.rho is not None:
            return self.rho
        return self.cat_share if species == "cat" else self.dog_share

    @property
    def sentence(self) -> str:
        """What is in the set, for a caption."""
        first, second = VALUES[self.cue]
        cats, dogs = round(self.share("cat") * self.cats), round(self.share("dog") * self.dogs)
        return (
            f"{self.cats} drawn cats, {cats} of them {self.cue} {first}, and {self.dogs} drawn dogs, {dogs} of them "
            f"{self.cue} {second} (seed {self.seed})"
        )


@dataclass(frozen=True)
class PetImage:
    """Draws one pet; picklable. region: the mask of that name instead of the picture."""

    pet: Pet
    pixels: int
    region: str = ""

    def __call__(self) -> Image.Image:
        """The picture (RGB), or the mask (L, 255 inside)."""
        if not self.region:
            return Image.fromarray(render(self.pet, self.pixels))
        return Image.fromarray(np.where(coverage(self.pet, self.pixels)[self.region] > 127, np.uint8(255), np.uint8(0)))


def pet_masks(pet: Pet, pixels: int) -> dict[str, NDArray[np.bool_]]:
    """The masks (pixels,pixels) of a pet by name, one for each of `REGIONS`: at least half of the pixel is covered."""
    return {name: share > 127 for name, share in coverage(pet, pixels).items()}


def pets(params: Pets) -> tuple[Pet, ...]:
    """The pets of a set, cats first: so many of each species agree with the cue, which ones is drawn by the seed.

    Exactly round(share * count) agree. The other factors, the other cues among them, do not know the species.
    """
    run = Run(seed=params.seed)
    found = []
    for species, count in zip(SPECIES, (params.cats, params.dogs), strict=True):
        agree = round(params.share(species) * count)
        order = torch.randperm(count, generator=run.generator("cue", species)).tolist()
        chosen = set(order[:agree])
        for index in range(count):
            found.append(_with_cue(draw_pet(species, run, species, index), params.cue, index in chosen))
    return tuple(found)


def balanced_pets(per_group: int, cue: Cue, seed: int) -> tuple[Pet, ...]:
    """A test set: `per_group` pets of every species with every value of the cue, apart from the sets of `pets`.

    Raises `InputError` for fewer than one, or more than `MOST`.
    """
    check_between("per_group", per_group, 1, MOST)
    run = Run(seed=seed)
    return tuple(
        _with_cue(draw_pet(species, run, "test", species, agree, index), cue, agree)
        for species in SPECIES
        for agree in (True, False)
        for index in range(per_group)
    )


def _with_cue(pet: Pet, cue: Cue, agree: bool) -> Pet:
    fixed: dict[str, Any] = {cue: VALUES[cue][SPECIES.index(pet.species)]}
    return replace(pet, **fixed) if agree else replace(pet, **fixed).swapped(cue)


def pets_dataset(found: Sequence[Pet], pixels: int, cue: Cue, name: str = "pets") -> DataSet:
    """The pets as a data set: keys "cat/light/0007.png", so that the cue's groups are the inner folders."""
    items = [
        Item(
            f"{pet.species}/{getattr(pet, cue)}/{index:04}.png",
            SPECIES.index(pet.species),
            PetImage(pet, pixels),
            0,
            PetImage(pet, pixels, "animal"),
        )
        for index, pet in enumerate(found)
    ]
    return DataSet(name, "class folders", tuple(items), SPECIES, synthetic=True, source=SOURCE)


def open_pets(params: Pets) -> DataSet:
    """The set as `sample:pets` gives it."""
    text = " ".join(f"{field.name}={value_text(getattr(params, field.name))}" for field in parameters(params))
    found = pets_dataset(pets(params), params.pixels, params.cue)
    return replace(found, recipe=f"pets {VERSION} {text}")


def pet_of(item: Item) -> Pet | None:
    """The factors behind an item, None where it is no drawn pet."""
    opener: Any = item.open
    return opener.pet if isinstance(opener, PetImage) else None


SAMPLES.add(
    SampleSpec(
        name="pets",
        title="Cats and dogs, drawn",
        rank=40,
        source=SOURCE,
        summary="Drawn cats, 90 % light, and dogs, 82 % dark: colour predicts the class, as in the study.",
        open=open_pets,
        synthetic=True,
        params=Pets,
        facts=(Pets().sentence, "Every factor is known; masks of animal, head, ears, muzzle, fur and background."),
    )
)
