"""Augmentations: small functions on batches of pixels in [0, 1], every number from the generator they are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLE = 15.0
"""Largest rotation, in degrees, either way."""

SMALLEST = 0.8
"""Smallest side of a crop, as a share of the image's."""

JITTER = 0.3
"""Largest change of brightness, contrast and saturation: factors between 0.7 and 1.3."""

NOISE = 0.05
"""Largest standard deviation of the noise, of a range of 1."""

GREY = 0.5
"""Share of the images that lose their colour."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in a grey value (ITU-R BT.601)."""

Change = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """A name that a recipe may hold, what people read, and the function: x (N,3,H,W) in [0, 1] -> the same shape."""

    name: str
    title: str
    change: Change


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = _uniform(x, generator) < 0.5
    return torch.where(mirrored, x.flip(-1), x)


def rotate(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each image about its centre by an angle from U(-15, 15) degrees; corners are filled by reflection."""
    angle = (2 * _uniform(x, generator).flatten() - 1) * math.radians(ANGLE)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    height, width = x.shape[-2:]
    # The grid runs from -1 to 1 both ways, so that a turn of a picture that is not square has to know its sides.
    rows = (cos, -sin * height / width, zero, sin * width / height, cos, zero)
    return _sampled(x, torch.stack(rows, 1).view(-1, 2, 3))


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a window whose sides are U(0.8, 1) of the image's, anywhere inside, and enlarge it to the whole."""
    scale = SMALLEST + (1 - SMALLEST) * _uniform(x, generator).flatten()
    free = 1 - scale
    right = (2 * _uniform(x, generator).flatten() - 1) * free
    down = (2 * _uniform(x, generator).flatten() - 1) * free
    zero = torch.zeros_like(scale)
    return _sampled(x, torch.stack((scale, zero, right, zero, scale, down), 1).view(-1, 2, 3))


def colour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Scale brightness, contrast (about the mean grey) and saturation (about grey) by factors from U(0.7, 1.3)."""
    bright, contrast, saturation = (1 + JITTER * (2 * _uniform(x, generator) - 1) for _ in range(3))
    x = x * bright
    middle = _grey(x).mean((2, 3), keepdim=True)
    x = middle + (x - middle) * contrast
    grey_value = _grey(x)
    return (grey_value + (x - grey_value) * saturation).clamp(0, 1)


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise whose standard deviation is from U(0, 0.05) for each image."""
    deviation = NOISE * _uniform(x, generator)
    drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return (x + deviation * drawn).clamp(0, 1)


def grey(x: Tensor, generator: torch.Generator) -> Tensor:
    """Take the colour from each image with probability 1/2."""
    chosen = _uniform(x, generator) < GREY
    return torch.where(chosen, _grey(x).expand_as(x), x)


AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType(
    {
        each.name: each
        for each in (
            Augmentation("flip", "Mirror", flip),
            Augmentation("rotate", "Rotation, up to 15 degrees", rotate),
            Augmentation("crop", "Crop, 80 to 100 % of each side", crop),
            Augmentation("colour", "Colour jitter, 30 %", colour),
            Augmentation("noise", "Gaussian noise, up to 0.05", noise),
            Augmentation("grey", "Greyscale for every second image", grey),
        )
    }
)
"""By name, in the order in which forms list them; a recipe applies them in its own."""


def augmented(x: Tensor, names: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """x (N,3,H,W) in [0, 1] with the augmentations `names` one after another."""
    for name in names:
        x = AUGMENTATIONS[name].change(x, generator)
    return x


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """One number of U(0, 1) an image, (N,1,1,1): drawn on the CPU, so that every device gets the same."""
    return torch.rand(len(x), 1, 1, 1, generator=generator, dtype=x.dtype).to(x.device)


def _grey(x: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def _sampled(x: Tensor, matrices: Tensor) -> Tensor:
    """x looked at through affine maps (N,2,3) from output to input places, bilinear, reflected at the borders."""
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
