"""Pixels of any depth and mode as 8-bit RGB, bounded in number and in size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.errors import ImageError
from xai.settings import MAX_PIXELS
from xai.words import counted

WORKING_SIDE = 2048
"""Longest side kept: larger pictures are reduced to it, and say so."""

DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")

_NEAREST_ONLY = ("1", "P", "PA")  # Pillow cannot average these, so they become RGB before they are reduced


def check_size(name: str, width: int, height: int) -> None:
    """Raise `ImageError` for more than `MAX_PIXELS` pixels; called before decoding."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels ({width * height / 1e6:.0f} megapixels); "
            f"at most {MAX_PIXELS / 1e6:.0f} can be opened, so make it smaller first."
        )


def stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(h,w) numbers to 0-255: low -> 0, high -> 255, clipped; not-a-number -> 0. Row blocks bound the memory."""
    scale = 255.0 / (high - low) if high > low else 0.0
    out = np.empty(values.shape, np.uint8)
    rows = max(1, 1_000_000 // max(1, values.shape[1]))
    for top in range(0, values.shape[0], rows):
        block = (values[top : top + rows].astype(np.float64) - low) * scale
        out[top : top + rows] = np.rint(np.clip(np.nan_to_num(block, nan=0.0), 0.0, 255.0))
    return out


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """`image` of any mode as 8-bit RGB, reduced on the way where it is large; what was done goes into `notes`."""
    if image.mode in DEEP:
        image = _from_deep(image, notes)
    if image.mode not in _NEAREST_ONLY and "transparency" not in image.info:
        image = reduced(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent parts are shown on white")
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return reduced(rgba.convert("RGB"))
    if image.mode == "CMYK":
        notes.append("CMYK inks turned into RGB without a colour profile")
    return reduced(image.convert("RGB"))


def _from_deep(image: Image.Image, notes: list[str]) -> Image.Image:
    """16-bit, 32-bit and float grey as 8-bit grey: lowest value to 0, highest to 255."""
    values = np.asarray(image)
    what = {"F": "float", "I": "whole"}.get(image.mode, "16-bit")
    finite = np.isfinite(values) if image.mode == "F" else None
    if finite is not None and not finite.all():
        missing = int(finite.size - finite.sum())
        if missing == finite.size:
            raise ImageError("the image holds no finite value; there is nothing to show.")
        odd = counted(missing, "pixel that is no finite number is", "pixels that are not finite numbers are")
        notes.append(f"{odd} shown as black")
        low, high = float(values[finite].min()), float(values[finite].max())
        values = np.where(finite, values, np.float32(low))
    else:
        low, high = float(values.min()), float(values.max())
    if low == high:
        notes.append(f"every pixel has the value {low:.6g}; shown as black")
    else:
        notes.append(f"{what} values {low:.6g} to {high:.6g} stretched to 0-255")
    return Image.fromarray(stretch(values, low, high))


def reduced(image: Image.Image) -> Image.Image:
    """`image` itself, or a smaller copy whose longest side is `WORKING_SIDE`."""
    longest = max(image.size)
    if longest <= WORKING_SIDE:
        return image
    size = (
        max(1, round(image.width * WORKING_SIDE / longest)),
        max(1, round(image.height * WORKING_SIDE / longest)),
    )
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
