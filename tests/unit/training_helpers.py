"""Tiny training material: pixels whose class shows in their brightness, and the tiny classifier trained on them."""

from __future__ import annotations

import torch

from tests.conftest import make_tiny
from xai.training import Images, Recipe, fit, network_of
from xai.types import Run

SILENT = Run()


def pictures(count: int = 24, classes: int = 2, seed: int = 0, size: int = 64) -> Images:
    """Noise of a brightness that grows with the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 100, (count, 3, size, size), generator=generator)
    level = (labels * 150 // max(1, classes - 1)).view(-1, 1, 1, 1)
    return Images((noise + level).to(torch.uint8), labels)


def trained(recipe: Recipe, train: Images | None = None, run: Run | None = None, **more):
    """(network, history) of the tiny classifier on the brightness pictures."""
    network = network_of(make_tiny(), ("no", "yes"), recipe)
    validation = more.pop("validation", pictures(10, seed=1))
    history = fit(network, train or pictures(), validation, recipe, run or Run(seed=recipe.seed), **more)
    return network, history


def weights_of(network) -> dict[str, torch.Tensor]:
    return dict(network.module.net.state_dict())


def equal(one, two) -> bool:
    a, b = weights_of(one), weights_of(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
