"""Networks for the bias study: trained on drawn pets with a planted cue, as they are or with mitigation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from xai.data.drawn.pet_factors import SPECIES, Cue, Pet
from xai.data.pets import Pets, pets, pets_dataset
from xai.errors import InputError
from xai.models.classifier import Classifier
from xai.training import Epoch, History, Images, Recipe, build_network, fit, open_pictures
from xai.types import Run
from xai.words import counted

ARMS = MappingProxyType(
    {
        "biased": "as it is",
        "balanced": "balanced data",
        "weights": "group weights",
        "jitter": "colour jitter",
        "grey": "greyscale",
    }
)
"""Ways to train: the biased set as it is; as many images with the cue in balance; every image weighted by N / (G n_g),
so that each of the G groups counts the same; colour jitter; every second image without colour."""

VALIDATION = 40
"""Images of each species to validate on, of the same distribution as the training set: what a person who does not
suspect the shortcut would look at."""


@dataclass(frozen=True)
class Experiment:
    """One training. rho None: the study's own shares (90 % of the cats light, 82 % of the dogs dark)."""

    cue: Cue = "fur"
    rho: float | None = None
    seed: int = 0
    arm: str = "biased"
    model: str = "simple_cnn"
    cats: int = 135
    dogs: int = 128
    pixels: int = 96
    epochs: int = 20

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise InputError(f"arm {self.arm!r} is not known; use {', '.join(ARMS)}.")
        self.pets(), self.recipe()  # their own checks

    @property
    def name(self) -> str:
        """A file name that tells it from the others of a run."""
        strength = "study" if self.rho is None else f"{self.rho:g}"
        return f"{self.cue}-{strength}-{self.arm}-s{self.seed}"

    @property
    def title(self) -> str:
        """For people."""
        strength = "the study's set" if self.rho is None else f"rho {self.rho:g}"
        return f"{self.cue}, {strength}, {ARMS[self.arm]}, seed {self.seed}"

    def pets(self) -> Pets:
        """What it is trained on."""
        biased = Pets(self.cats, self.dogs, self.cue, rho=self.rho, pixels=self.pixels, seed=self.seed)
        return replace(biased, rho=0.5) if self.arm == "balanced" else biased

    def recipe(self) -> Recipe:
        """SimpleCNN learns everything from scratch; another network gets a new head on its ImageNet features."""
        augment = ("flip", "noise", *{"jitter": ("colour",), "grey": ("grey",)}.get(self.arm, ()))
        small = self.model == "simple_cnn"
        return Recipe(
            epochs=self.epochs,
            batch=24,
            learning_rate=2e-3,
            schedule="cosine",
            l2=0.0,
            augment=augment if small else augment[2:],
            trainable="all" if small else "frozen",
            seed=self.seed,
        )

    @property
    def weights(self) -> str:
        """What the network begins with."""
        return f"random:{self.seed}" if self.model == "simple_cnn" else "imagenet"


@dataclass(frozen=True, eq=False)
class Taught:
    """A trained network with its curves."""

    classifier: Classifier
    history: History


def teach(
    experiment: Experiment,
    device: str | torch.device,
    run: Run,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Taught:
    """Train the network of `experiment`; with a checkpoint that is there, go on from it. Raises `Cancelled`."""
    recipe = experiment.recipe()
    network = build_network(experiment.model, experiment.weights, SPECIES, recipe, device)
    wanted = experiment.pets()
    drawn = pets(wanted)
    # The biased set's own distribution, whatever the arm: the yardstick of somebody who suspects nothing.
    held_out = pets(
        replace(
            replace(experiment, arm="biased").pets(), cats=VALIDATION, dogs=VALIDATION, seed=experiment.seed + 10_000
        )
    )
    train = _pictures(drawn, experiment, network.base, run.part(0, 1, 10, "drawing"))
    validation = _pictures(held_out, experiment, network.base, run.quiet())
    weights = group_weights(drawn, experiment.cue) if experiment.arm == "weights" else None
    own = replace(run.part(1, 9, 10, "training"), seed=experiment.seed)
    history = fit(network, train, validation, recipe, own, checkpoint, on_epoch, weights)
    return Taught(network.classifier(f"run:{experiment.name}"), history)


def group_weights(drawn: tuple[Pet, ...], cue: Cue) -> Tensor:
    """(N,) weights of the images so that every group, species and cue, counts the same: see `even_weights`."""
    return even_weights([(pet.species, getattr(pet, cue)) for pet in drawn])


def even_weights(groups: Sequence[Hashable]) -> Tensor:
    """(N,) weights N / (G n_g) of images, g their group among the G that there are; mean 1."""
    count = Counter(groups)
    return torch.tensor([len(groups) / (len(count) * count[group]) for group in groups])


@contextmanager
def same_everywhere(model: str) -> Iterator[None]:
    """Within it SimpleCNN computes with one thread, so that a seed gives the same network on any number of cores.

    Sums that threads share differ in the last bits, and twenty epochs make another network of that. Other networks keep
    their threads: their features are what costs, and only their head learns.
    """
    threads = torch.get_num_threads()
    if model == "simple_cnn":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _pictures(drawn: tuple[Pet, ...], experiment: Experiment, sight: Classifier, run: Run) -> Images:
    found = open_pictures(pets_dataset(drawn, experiment.pixels, experiment.cue).items, sight, run).pictures
    if not isinstance(found, Images):
        raise InputError(f"{counted(len(drawn), 'image')} of {sight.title} do not fit into memory; draw fewer.")
    return found
