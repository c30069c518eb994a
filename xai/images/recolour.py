"""Recolouring inside a mask: what would the network say were the fur the other colour? For photographs and drawings.

Everything happens in CIE Lab: L is lightness from 0 (black) to 100 (white), a and b the hue. Texture and shading, which
are how lightness differs from its mean, stay; pixels outside the mask stay bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.errors import InputError

LOWEST, HIGHEST = 4.0, 96.0
"""Lightness that a recoloured region's mean is kept between, so that something of its texture is left."""

LEAST = 30.0
"""By how much the lightness moves at least where it is mirrored: a grey that is neither light nor dark would stay."""

Mask = NDArray[np.bool_]


def lightness(image: Image.Image, mask: Mask | None = None) -> float:
    """Mean L of the image, or of the pixels in the mask (H,W): 0 is black, 100 white."""
    values = _lab(image)[..., 0]
    return float(values.mean() if mask is None else values[_checked(mask, image)].mean())


def recolour(image: Image.Image, mask: Mask, to: float | None = None, turn: float = 0.0) -> Image.Image:
    """The image with the pixels of the mask (H,W) made light or dark, or of another hue.

    to: mean lightness that the region gets; None mirrors it: dark becomes light and light dark, see `mirrored`. Each
    pixel is L' = to + s (L - mean), where s <= 1 shrinks the texture just so far that it fits in 0 to 100. turn:
    degrees by which (a, b) is turned. Raises `InputError` for an empty mask or one of another size, and for values
    outside.
    """
    inside = _checked(mask, image)
    if to is not None and not 0 <= to <= 100:
        raise InputError(f"to is {to}; give a lightness from 0 to 100, or nothing to mirror it.")
    if not math.isfinite(turn):
        raise InputError(f"turn is {turn}; give degrees.")
    lab = _lab(image)
    values = lab[..., 0][inside]
    mean = float(values.mean())
    goal = float(np.clip(mirrored(mean) if to is None else to, LOWEST, HIGHEST))
    lab[..., 0][inside] = goal + _room(values - mean, goal) * (values - mean)
    if turn:
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        a, b = lab[..., 1][inside], lab[..., 2][inside]
        lab[..., 1][inside], lab[..., 2][inside] = c * a - s * b, s * a + c * b
    found = np.array(image.convert("RGB"))
    rgb = np.rint(np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1) * 255).astype(np.uint8)
    found[inside] = rgb[inside]
    return Image.fromarray(found)


def mirrored(mean: float) -> float:
    """The lightness on the other side of 50, 100 - mean, but at least `LEAST` away: 80 becomes 20, 48 becomes 78."""
    return min(100 - mean, mean - LEAST) if mean >= 50 else max(100 - mean, mean + LEAST)


def box_mask(box: Sequence[float], size: tuple[int, int]) -> Mask:
    """The mask (H,W) of a box (left, top, right, bottom) in pixels of an image of `size` (width, height).

    The box is cut to the image. Raises `InputError` where nothing of it is left.
    """
    left, right = (round(min(max(each, 0), size[0])) for each in (box[0], box[2]))
    top, bottom = (round(min(max(each, 0), size[1])) for each in (box[1], box[3]))
    if left >= right or top >= bottom:
        raise InputError(f"the box {tuple(box)} holds no pixel of an image of {size[0]} x {size[1]}; draw it larger.")
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def _room(offsets: NDArray[np.float32], goal: float) -> float:
    """The largest s <= 1 for which goal + s * offsets lies between 0 and 100."""
    low, high = float(offsets.min()), float(offsets.max())
    return min([1.0, *([goal / -low] if low < 0 else []), *([(100 - goal) / high] if high > 0 else [])])


def _lab(image: Image.Image) -> NDArray[np.float32]:
    found: NDArray[np.float32] = cv2.cvtColor(
        np.asarray(image.convert("RGB"), dtype=np.float32) / 255, cv2.COLOR_RGB2Lab
    ).astype(np.float32)
    return found


def _checked(mask: Mask, image: Image.Image) -> Mask:
    inside = np.asarray(mask, dtype=np.bool_)
    if inside.shape != (image.height, image.width):
        raise InputError(
            f"the mask is {inside.shape} for an image of {image.height} x {image.width} (height x width); give one of "
            "its size."
        )
    if not inside.any():
        raise InputError("the mask is empty; mark what is to be recoloured.")
    return inside
