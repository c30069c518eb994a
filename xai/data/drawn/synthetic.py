"""Generated data sets: images that are drawn when they are opened, from (generator, seed, class, index) alone.

A drawing is a plain function of a random generator, a class and a size; it gives the picture and the mask of the thing
in it. Every image has a generator of its own, so that it is the same whichever others are drawn, in whichever process.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.data.spec import DataSet, Item
from xai.errors import InputError
from xai.params import check_between, parameters, value_text
from xai.registry import Source
from xai.types import Run

SMALLEST, LARGEST = 16, 1024
MOST = 5000
"""Images of a class; bounds of what one sample draws."""

SEED: dict[str, int] = {"min": 0, "max": 2**31 - 1}

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Draw = Callable[[np.random.Generator, int, int], tuple[Bytes, Bytes]]
"""(generator, class, size of the shorter side) -> picture (H,W,3) and mask (H,W), 255 inside."""


@dataclass(frozen=True)
class Drawing:
    """Opens one generated picture. `draw` is a function at the top of a module, so that processes can be given it."""

    draw: Draw
    seed: int
    label: int
    index: int
    size: int

    def __call__(self) -> Image.Image:
        """The picture, RGB."""
        return Image.fromarray(self.arrays()[0])

    def arrays(self) -> tuple[Bytes, Bytes]:
        """Picture (H,W,3) and mask (H,W)."""
        name = zlib.crc32(self.draw.__qualname__.encode())
        return self.draw(np.random.default_rng((name, self.seed, self.label, self.index)), self.label, self.size)


@dataclass(frozen=True)
class DrawnMask:
    """Opens the mask of a generated picture."""

    drawing: Drawing

    def __call__(self) -> Image.Image:
        """The mask at the picture's size, mode "L", 255 inside."""
        return Image.fromarray(self.drawing.arrays()[1])


@dataclass(frozen=True)
class Rendered:
    """A generated data set in memory: images (N,S,S,3) uint8, masks (N,S,S) bool, labels (N,) int64."""

    images: Bytes
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]


def generated(
    name: str,
    version: int,
    params: Any,
    classes: Sequence[str],
    counts: Sequence[int],
    draw: Draw,
    source: Source,
) -> DataSet:
    """`counts[k]` pictures of each class, drawn by `draw`; `params` has a `seed` and a `size`.

    version: raised whenever the same parameters give other pictures, so that the fingerprint tells them apart.
    """
    items = []
    for label, (each, count) in enumerate(zip(classes, counts, strict=True)):
        for index in range(count):
            drawing = Drawing(draw, params.seed, label, index, params.size)
            items.append(Item(f"{each}/{index:04}.png", label, drawing, open_mask=DrawnMask(drawing)))
    values = {field.name: value_text(getattr(params, field.name)) for field in parameters(params)}
    changed = {k: v for k, v in values.items() if v != value_text(getattr(type(params)(), k))}
    shown = f"{name}?{'&'.join(f'{k}={v}' for k, v in changed.items())}" if changed else name
    recipe = f"{name} {version} " + " ".join(f"{k}={v}" for k, v in values.items())
    return DataSet(shown, "class folders", tuple(items), tuple(classes), synthetic=True, source=source, recipe=recipe)


def render_arrays(data: DataSet, size: int, places: Iterable[int] | None = None, run: Run | None = None) -> Rendered:
    """The pictures of a generated data set at `size` x `size`, in memory; `places` picks items (all by default).

    They are drawn at that size, and equal what the items open where `size` is the data set's own; pictures that are
    not square are resized to the square.
    Raises `InputError` for a data set that is not generated, and `Cancelled`.
    """
    check_between("size", size, SMALLEST, LARGEST)
    chosen = [data.items[place] for place in (range(len(data)) if places is None else places)]
    images = np.empty((len(chosen), size, size, 3), np.uint8)
    masks = np.empty((len(chosen), size, size), np.bool_)
    for place, item in enumerate(chosen):
        if not isinstance(item.open, Drawing):
            raise InputError(f"{data.name} is not generated, so it cannot be drawn; open its images instead.")
        image, mask = dataclasses.replace(item.open, size=size).arrays()
        if image.shape[:2] != (size, size):
            images[place] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            masks[place] = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) > 127
        else:
            images[place], masks[place] = image, mask > 127
        if run is not None:
            run.report(place + 1, len(chosen), "drawing")
    labels = np.array([-1 if item.label is None else item.label for item in chosen], np.int64)
    return Rendered(images, masks, labels)


def clouds(rng: np.random.Generator, size: int, coarsest: int = 3, octaves: int = 4, stretch: float = 1) -> Floats:
    """Smooth noise (size,size), mean 0 and about ±1: grids of random numbers, each twice as fine and half as strong.

    stretch: how much finer it is from top to bottom than from left to right.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        across = max(2, min(size, coarsest << octave))
        down = max(2, min(size, round((coarsest << octave) * stretch)))
        grid = rng.standard_normal((down, across), np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    return total


def smoothstep(low: float, high: float, x: Any) -> Any:
    """0 below `low`, 1 above `high`, a smooth rise between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def to_bytes(picture: Floats) -> Bytes:
    """Values in [0, 1] as bytes."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
