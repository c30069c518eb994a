"""What is trained on: pixels in memory as uint8, or images of a data set that are decoded again for every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from xai.data.loader import read_batches, view_of
from xai.data.spec import Item, Problem
from xai.errors import InputError
from xai.models.classifier import Classifier
from xai.public import public
from xai.types import Run
from xai.words import counted

MEMORY = 4 * 2**30
"""Bytes of decoded pixels that are kept in memory; a larger data set is decoded again for every epoch."""

DECODE = 16
"""Images decoded between two reports."""


@runtime_checkable
class Pictures(Protocol):
    """Images with labels, read in batches."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64 class indices."""
        ...

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """For each of `batches` (positions), its pixels (n,3,H,W) uint8 on the CPU, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels (N,3,H,W) uint8 and labels (N,) int64, in memory. Raises `InputError` where they do not fit together."""

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() != 4 or self.pixels.shape[1] != 3:
            raise InputError(
                f"pixels are {self.pixels.dtype} of shape {tuple(self.pixels.shape)}; give uint8 of (N, 3, H, W)."
            )
        if self.labels.shape != (len(self.pixels),) or self.labels.dtype != torch.int64:
            raise InputError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; give int64 of "
                f"({len(self.pixels)},)."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, places: Sequence[int]) -> Images:
        """The images at `places`, in that order."""
        chosen = torch.as_tensor(places, dtype=torch.int64)
        return Images(self.pixels[chosen], self.labels[chosen])

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """See `Pictures`."""
        for places in batches:
            yield self.pixels[torch.as_tensor(places, dtype=torch.int64)]


@dataclass(frozen=True, eq=False)
class Streamed:
    """Images of a data set, decoded as `sight` sees them whenever they are read."""

    items: tuple[Item, ...]
    labels: Tensor
    sight: Classifier
    view: str = "crop"
    workers: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def subset(self, places: Sequence[int]) -> Streamed:
        """The images at `places`, in that order."""
        chosen = torch.as_tensor(places, dtype=torch.int64)
        items = tuple(self.items[place] for place in chosen.tolist())
        return Streamed(items, self.labels[chosen], self.sight, self.view, self.workers)

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """See `Pictures`. Raises `InputError` for an image that can no longer be read."""
        for batch in read_batches(self.items, batches, [self.sight], self.view, self.workers):
            if batch.problems:
                lost = batch.problems[0]
                raise InputError(f"{lost.key} can no longer be read ({lost.reason}); put it back, and resume.")
            yield torch.from_numpy(batch.levels[view_of(self.sight)])


@dataclass(frozen=True, eq=False)
class Opened:
    """What `open_pictures` found: the pictures, their items in the same order, and what could not be decoded.

    where: for the position of each item that was given and could be decoded, its position in `pictures`. digests: of
    each picture's pixels, so that one that is there twice is known.
    """

    pictures: Images | Streamed
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    where: Mapping[int, int]
    digests: tuple[bytes, ...]


@public
def open_pictures(
    items: Sequence[Item], sight: Classifier, run: Run, view: str = "crop", workers: int = 0, memory: int = MEMORY
) -> Opened:
    """Decode labelled `items` once, as `sight` sees them; what cannot be decoded is left out and listed.

    Kept in memory up to `memory` bytes, else only checked, and decoded again when they are read. Raises `InputError`
    where an item has no label or none can be decoded.
    """
    nameless = [item.key for item in items if item.label is None]
    if nameless:
        raise InputError(f"{nameless[0]} has no label; training needs one for every image (a folder for each class).")
    height, width = sight.input_size
    kept = len(items) * 3 * height * width <= memory
    good: list[Item] = []
    problems: list[Problem] = []
    pixels: list[Tensor] = []
    digests: list[bytes] = []
    batches = [range(start, min(start + DECODE, len(items))) for start in range(0, len(items), DECODE)]
    for batch in read_batches(items, batches, [sight], view, workers):
        good += batch.items
        problems += batch.problems
        if batch.items:
            levels = batch.levels[view_of(sight)]
            digests += [hashlib.sha256(each.tobytes()).digest() for each in levels]
            if kept:
                pixels.append(torch.from_numpy(np.ascontiguousarray(levels)))
        run.report(batches[batch.index].stop, len(items), "reading images")
    if not good:
        raise InputError(f"none of the {counted(len(items), 'image')} can be decoded; the first: {problems[0].reason}")
    labels = torch.tensor([item.label for item in good], dtype=torch.int64)
    found = Images(torch.cat(pixels), labels) if kept else Streamed(tuple(good), labels, sight, view, workers)
    lost = {problem.key for problem in problems}
    places = [place for place, item in enumerate(items) if item.key not in lost]
    where = {place: index for index, place in enumerate(places)}
    return Opened(found, tuple(good), tuple(problems), where, tuple(digests))
