"""Drawn pets: the same for the same seed, exact shares, counterfactuals that touch one factor, masks that fit."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from xai.data import open_dataset
from xai.data.drawn.pet_draw import coverage, render
from xai.data.drawn.pet_factors import PARTS, VALUES, Pet, draw_pet
from xai.data.pets import Pets, balanced_pets, pet_masks, pet_of, pets, pets_dataset
from xai.errors import InputError
from xai.types import Run

SOME = [draw_pet(species, Run(seed=3), species, i) for species in ("cat", "dog") for i in range(12)]
PX = 48


def test_the_studys_set_is_the_preset() -> None:
    found = Counter((pet.species, pet.fur) for pet in pets(Pets()))
    # 90 % of 135 is 121.5, which rounds to the even 122; 82 % of 128 is 104.96.
    assert found == {("cat", "light"): 122, ("cat", "dark"): 13, ("dog", "dark"): 105, ("dog", "light"): 23}
    assert open_dataset("sample:pets").counts == {"cat": 135, "dog": 128}
    assert Pets().sentence == (
        "135 drawn cats, 122 of them fur light, and 128 drawn dogs, 105 of them fur dark (seed 0)"
    )


@pytest.mark.parametrize("cue", VALUES)
@pytest.mark.parametrize(("rho", "agree"), [(0.5, 10), (0.75, 15), (1.0, 20)])
def test_rho_is_met_exactly_for_every_cue(cue: str, rho: float, agree: int) -> None:
    found = pets(Pets(cats=20, dogs=20, cue=cue, rho=rho))  # type: ignore[arg-type]
    for species in ("cat", "dog"):
        assert sum(pet.aligned(cue) for pet in found if pet.species == species) == agree  # type: ignore[arg-type]


def test_other_factors_do_not_know_the_species() -> None:
    found = pets(Pets(cats=600, dogs=600, rho=1.0))
    for factor in ("background", "mark", "pose", "facing", "pattern"):
        share = [Counter(getattr(p, factor) for p in found if p.species == s) for s in ("cat", "dog")]
        for value in share[0]:  # 5 standard deviations of a difference of two shares of 600
            assert abs(share[0][value] - share[1][value]) / 600 < 5 * (0.25 * 2 / 600) ** 0.5


def test_the_same_seed_draws_the_same_pixels_and_another_does_not() -> None:
    one, same, other = (pets(Pets(cats=2, dogs=2, seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    first = render(one[0], PX)
    assert first.shape == (PX, PX, 3)
    assert hashlib.sha256(first.tobytes()).digest() == hashlib.sha256(render(same[0], PX).tobytes()).digest()
    names = {open_dataset(f"sample:pets?{query}").fingerprint for query in ("seed=1", "seed=2", "rho=0.7", "cue=mark")}
    assert len(names) == 4


def test_a_test_set_is_balanced_and_apart_from_the_training_set() -> None:
    found = balanced_pets(3, "fur", seed=0)
    assert Counter((p.species, p.fur) for p in found) == {(s, f): 3 for s in ("cat", "dog") for f in ("light", "dark")}
    assert not {p.grain for p in found} & {p.grain for p in pets(Pets())}


def changed(pet: Pet, other: Pet) -> np.ndarray:
    return (render(pet, PX) != render(other, PX)).any(2)


def touched(pet: Pet, other: Pet, *regions: str) -> np.ndarray:
    """Pixels that one of the regions covers at least a little, before or after."""
    shares = [coverage(each, PX)[region] > 0 for each in (pet, other) for region in regions]
    return np.any(shares, axis=0)


@pytest.mark.parametrize("index", range(0, len(SOME), 3))
@pytest.mark.parametrize(
    ("factor", "regions"),
    [
        ("fur", ("fur",)),
        ("mark", ("mark",)),
        ("ears", ("ears",)),
        ("shape", ("animal",)),
    ],
)
def test_a_swap_changes_its_factor_and_no_other_pixel(index: int, factor: str, regions: tuple[str, ...]) -> None:
    pet = SOME[index]
    other = pet.swapped(factor)
    differing = {field.name for field in fields(Pet) if getattr(pet, field.name) != getattr(other, field.name)}
    assert differing == ({"species", *PARTS} if factor == "shape" else {factor})
    change = changed(pet, other)
    assert change.any()
    assert not (change & ~touched(pet, other, *regions)).any()
    assert other.swapped(factor) == pet


def test_a_background_swap_leaves_the_animal() -> None:
    pet = SOME[0]
    change = changed(pet, pet.swapped("background"))
    assert change.mean() > 0.2
    assert not (change & (coverage(pet, PX)["animal"] == 255)).any()


def test_recolouring_swaps_dark_for_light_inside_the_fur() -> None:
    for pet in SOME[:6]:
        fur = pet_masks(pet, PX)["fur"]
        light, dark = (render(replace(pet, fur=fur_), PX)[fur].mean() for fur_ in ("light", "dark"))
        assert light > dark + 60


@pytest.mark.parametrize("pet", SOME[::4], ids=lambda pet: f"{pet.species}-{pet.pose}")
def test_masks_lie_inside_one_another(pet: Pet) -> None:
    masks = pet_masks(pet, PX)
    assert (masks["background"] == ~masks["animal"]).all()
    for inner, outer in (("head", "animal"), ("ears", "head"), ("muzzle", "head"), ("fur", "animal")):
        assert masks[inner].any()
        assert not (masks[inner] & ~masks[outer]).any()
    assert not (masks["ears"] & masks["muzzle"]).any()


def test_light_and_noise_do_what_they_say() -> None:
    plain = replace(SOME[0], noise=0.0, exposure=1.0)
    assert (render(plain, PX) == render(replace(plain, grain=99), PX)).all()
    assert render(replace(plain, exposure=0.8), PX).mean() < 0.85 * render(plain, PX).mean()
    grained = render(replace(plain, noise=0.02), PX).astype(float) - render(plain, PX)
    assert np.std(grained) == pytest.approx(0.02 * 255, rel=0.1)
    # Light from the right (angle 0) brightens the right half and darkens the left.
    flat = render(replace(plain, light=0.0), PX).astype(float) - render(replace(plain, light=0.5), PX)
    assert flat[:, PX // 2 :].mean() > 5 > -5 > flat[:, : PX // 2].mean()


def test_as_a_data_set_groups_are_folders_and_the_animal_is_the_mask() -> None:
    found = pets_dataset(balanced_pets(1, "fur", 0), PX, "fur")
    assert [item.key for item in found.items] == [
        "cat/light/0000.png", "cat/dark/0001.png", "dog/dark/0002.png", "dog/light/0003.png",
    ]  # fmt: skip
    assert [item.label for item in found.items] == [0, 0, 1, 1]
    item = found.items[0]
    assert item.open_mask is not None
    assert found.synthetic
    pet = pet_of(item)
    assert pet is not None
    assert ((np.asarray(item.open_mask()) > 127) == pet_masks(pet, PX)["animal"]).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pets(cue="tail"), r"^cue 'tail' is not known; use fur, background or mark\.$"),
        (lambda: Pets(cats=0), r"^cats is 0; give 1 to 5000\.$"),
        (lambda: Pets(rho=1.5), r"^rho is 1\.5; give a share from 0 to 1\.$"),
        (lambda: Pets(pixels=8), r"^pixels is 8; give 32 to 512\.$"),
        (lambda: Pet(ears="round"), r"^ears is 'round'; a pet has pointed or floppy\.$"),
        (lambda: Pet().swapped("pose"), r"^factor 'pose' cannot be swapped; use shape, ears,"),
        (lambda: balanced_pets(0, "fur", 0), r"^per_group is 0; give 1 to 5000\.$"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
