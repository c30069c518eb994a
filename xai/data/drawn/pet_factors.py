"""What a drawn pet is made of: every factor a field, so that a counterfactual is `dataclasses.replace` of one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

import torch

from xai.errors import InputError
from xai.types import Run

Species = Literal["cat", "dog"]
Ears = Literal["pointed", "floppy"]
Muzzle = Literal["short", "long"]
Eyes = Literal["slit", "round"]
Tail = Literal["slender", "bushy"]
Pose = Literal["face", "sitting", "standing"]
Facing = Literal["left", "right"]
Fur = Literal["light", "dark"]
Pattern = Literal["plain", "striped", "patched"]
Background = Literal["room", "meadow"]
Mark = Literal["disc", "none"]
Cue = Literal["fur", "background", "mark"]

SPECIES: tuple[Species, ...] = get_args(Species)
CUES: tuple[Cue, ...] = get_args(Cue)
"""Factors that a shortcut can be planted in. The first value of each goes with the cat."""

PARTS = MappingProxyType(
    {
        "ears": ("pointed", "floppy"),
        "muzzle": ("short", "long"),
        "eyes": ("slit", "round"),
        "tail": ("slender", "bushy"),
    }
)
"""The four factors that make the species: (cat's value, dog's value). Everything else is shared by both."""

VALUES = MappingProxyType({"fur": get_args(Fur), "background": get_args(Background), "mark": get_args(Mark)})
"""The two values of each cue: the cat's, the dog's."""


@dataclass(frozen=True)
class Pet:
    """One drawing. x, y: the animal's middle, and size: its height, in sides of the picture.

    coat: which of the light or dark coats, in [0, 1), kept when the fur is swapped. exposure: brightness of the light,
    1 is neutral. light: where it comes from, in turns. noise: standard deviation of the pixel noise in [0, 1] units.
    scene: seed of the background's details; grain: seed of the noise.
    """

    species: Species = "cat"
    ears: Ears = "pointed"
    muzzle: Muzzle = "short"
    eyes: Eyes = "slit"
    tail: Tail = "slender"
    pose: Pose = "sitting"
    facing: Facing = "left"
    size: float = 0.75
    x: float = 0.5
    y: float = 0.55
    fur: Fur = "light"
    coat: float = 0.0
    pattern: Pattern = "plain"
    background: Background = "room"
    mark: Mark = "none"
    exposure: float = 1.0
    light: float = 0.0
    noise: float = 0.0
    scene: int = 0
    grain: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            choices = get_args(hints[field.name])
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise InputError(f"{field.name} is {value!r}; a pet has {' or '.join(choices)}.")

    def swapped(self, factor: str) -> Pet:
        """The same pet with one factor of two values turned to the other; "shape" swaps the species with its parts.

        Raises `InputError` for a factor that has no other value.
        """
        if factor == "shape":
            return replace(self, **shape_of(_other(SPECIES, self.species)))
        choices = VALUES.get(factor) or PARTS.get(factor)
        if choices is None:
            raise InputError(f"factor {factor!r} cannot be swapped; use shape, {', '.join((*PARTS, *VALUES))}.")
        other: dict[str, Any] = {factor: _other(choices, getattr(self, factor))}
        return replace(self, **other)

    def aligned(self, cue: Cue) -> bool:
        """Whether `cue` has the value that goes with the species."""
        return bool(getattr(self, cue) == VALUES[cue][SPECIES.index(self.species)])


def shape_of(species: Species) -> dict[str, Any]:
    """The species with its four parts, as fields of `Pet`."""
    place = SPECIES.index(species)
    return {"species": species, **{part: values[place] for part, values in PARTS.items()}}


def _other(choices: tuple[Any, ...], value: Any) -> Any:
    return choices[1 - choices.index(value)]


def draw_pet(species: Species, run: Run, *names: object) -> Pet:
    """A pet of the species whose other factors are drawn evenly and independently by (seed, names)."""
    generator = run.generator("pet", *names)

    def pick(choices: tuple[Any, ...]) -> Any:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    def between(low: float, high: float) -> float:
        return round(low + (high - low) * float(torch.rand(1, generator=generator, dtype=torch.float64)), 4)

    def seed() -> int:
        return int(torch.randint(2**31, (1,), generator=generator))

    pose = pick(get_args(Pose))
    reach = {"face": (0.66, 0.92), "sitting": (0.72, 0.98), "standing": (0.6, 0.8)}[pose]
    return Pet(
        **shape_of(species),
        pose=pose,
        facing=pick(get_args(Facing)),
        size=between(*reach),
        x=between(0.42, 0.58),
        y=between(0.48, 0.58),
        fur=pick(get_args(Fur)),
        coat=between(0.0, 0.9999),
        pattern=pick(get_args(Pattern)),
        background=pick(get_args(Background)),
        mark=pick(get_args(Mark)),
        exposure=between(0.85, 1.12),
        light=between(0.0, 1.0),
        noise=between(0.01, 0.035),
        scene=seed(),
        grain=seed(),
    )
