"""What a data set is, and what a sample file registers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image

from xai.errors import InputError
from xai.registry import Registry, Source


@dataclass(frozen=True)
class Item:
    """One image: `key` is its path inside the data set, `label` its class index or None where it is not known.

    `open()` decodes it (RGB, upright) and raises `ImageError` where it cannot be read; it is picklable, so worker
    processes can call it. `open_mask()`, where given, is the object's mask at the image's size: mode "L", above 127
    inside. bytes: size of the file, 0 for what is generated.
    """

    key: str
    label: int | None
    open: Callable[[], Image.Image]
    bytes: int = 0
    open_mask: Callable[[], Image.Image] | None = None


@dataclass(frozen=True)
class Problem:
    """A file that was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images for an evaluation or a training, in a fixed order.

    layout: how labels were read, one of `xai.data.LAYOUTS`. classes: the names that labels index; () without labels.
    problems: files left out when the data set was opened (images that cannot be decoded show up when they are read).
    recipe: how generated images are drawn (generator, its version, parameters); "" for files.
    """

    name: str
    layout: str
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    synthetic: bool = False
    source: Source | None = None
    recipe: str = ""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class that has some, in class order."""
        found = Counter(item.label for item in self.items if item.label is not None)
        return {name: found[index] for index, name in enumerate(self.classes) if found[index]}

    @property
    def fingerprint(self) -> str:
        """16 hex digits over keys, sizes, labels and the recipe: the same images in the same order give the same."""
        total = hashlib.sha256(self.recipe.encode())
        for item in self.items:
            total.update(f"{item.key}\0{item.bytes}\0{item.label}\n".encode(errors="surrogateescape"))
        return total.hexdigest()[:16]

    @property
    def sentence(self) -> str:
        """One line for a page or the terminal."""
        labels = f"{_many(len(self.counts), 'class', 'classes')} ({self.layout})" if self.classes else "no labels"
        skipped = f", {_many(len(self.problems), 'file', 'files')} left out" if self.problems else ""
        return f"{_many(len(self), 'image', 'images')}, {labels}{skipped}"

    def sample(self, count: int, seed: int = 0) -> DataSet:
        """`count` images drawn by `seed` without replacement, in the original order; itself if it has no more."""
        if count < 1:
            raise InputError(f"the number of images is {count}; give 1 or more.")
        if count >= len(self.items):
            return self
        order = torch.randperm(len(self.items), generator=torch.Generator().manual_seed(seed))
        return replace(self, items=tuple(self.items[i] for i in sorted(order[:count].tolist())))

    def used(self) -> DataSet:
        """Without the classes that have no image (WordNet ids name all 1,000), labels numbered anew; else itself."""
        kept = sorted({item.label for item in self.items if item.label is not None})
        if len(kept) == len(self.classes):
            return self
        place = {label: index for index, label in enumerate(kept)}
        items = tuple(replace(item, label=None if item.label is None else place[item.label]) for item in self.items)
        return replace(self, items=items, classes=tuple(self.classes[label] for label in kept))

    def class_map(self, labels: Sequence[str]) -> tuple[int, ...] | None:
        """For each class of the data set, the class of a classifier with these `labels`; None where they differ.

        Class folders fit where every folder's name is one of the labels (case, "_" and "-" aside). Folders that are
        class indices or WordNet ids do so as well where the classifier was trained on such folders (a class without
        images is then said to be 0; 7 is 007); where none of their names is a label, and not all labels are numbers,
        they mean the classifier's indices.
        """
        if not self.classes:
            return None
        index = {_plain(label): place for place, label in reversed(list(enumerate(labels)))}
        if self.layout in ("class index", "WordNet id"):
            used = {_plain(self.classes[item.label]) for item in self.items if item.label is not None}
            if used & index.keys() or all(map(str.isdecimal, labels)):
                return tuple(index.get(_plain(name), 0) for name in self.classes) if used <= index.keys() else None
            same = len(self.classes) <= len(labels) and (self.layout == "class index" or len(labels) == 1000)
            return tuple(range(len(self.classes))) if same else None
        found = [index.get(_plain(name)) for name in self.classes]
        return None if None in found else tuple(place for place in found if place is not None)


def _plain(name: str) -> str:
    plain = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return str(int(plain)) if plain.isdecimal() else plain


@dataclass(frozen=True)
class SampleSpec:
    """A data set that `sample:NAME` opens: shipped, or generated from a seed.

    params: None, or a frozen dataclass with a default for every field; `open` then takes an instance of it, and
    `sample:NAME?field=value&field=value` sets its fields.
    """

    name: str
    title: str
    rank: int
    source: Source
    summary: str
    open: Callable[..., DataSet]
    synthetic: bool = False
    facts: tuple[str, ...] = field(default=())
    params: type[Any] | None = None


SAMPLES: Registry[SampleSpec] = Registry("sample", "xai.data")


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
