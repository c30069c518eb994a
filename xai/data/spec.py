"""What a data set is, and what a sample file registers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image

from xai.errors import InputError
from xai.registry import Registry, Source
from xai.words import counted


@dataclass(frozen=True)
class Item:
    """One image: `key` is its path inside the data set, `label` its class index or None where it is not known.

    `open()` decodes it (RGB, upright) and raises `ImageError` where it cannot be read; it is picklable, so worker
    processes can call it. `open_mask()`, where given, is the object's mask at the image's size: mode "L", above 127
    inside. bytes: size of the file, 0 for what is generated. part: "train", "validation" or "test" where folders of
    these names hold the class folders, else "". together: images with the same name here stay on one side of every
    split, "" for one that stands alone; see `xai.data.together`.
    """

    key: str
    label: int | None
    open: Callable[[], Image.Image]
    bytes: int = 0
    open_mask: Callable[[], Image.Image] | None = None
    part: str = ""
    together: str = ""


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
    def parts(self) -> dict[str, int]:
        """Images of each part that the folders give ("train", "validation", "test"), in this order; {} without."""
        found = Counter(item.part for item in self.items if item.part)
        return {part: found[part] for part in PARTS if found[part]}

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
        labels = f"{counted(len(self.counts), 'class', 'classes')} ({self.layout})" if self.classes else "no labels"
        skipped = f", {counted(len(self.problems), 'file', 'files')} left out" if self.problems else ""
        parts = ", ".join(f"{part} {count}" for part, count in self.parts.items())
        given = f", divided by their folders ({parts})" if parts else ""
        odd = [] if self.parts else list(parts_of(self.counts))
        called = " and ".join(map(repr, odd))
        became = "a class, not a part of a split" if len(odd) == 1 else "classes, not parts of a split"
        caution = f"; {called} became {became}" if odd else ""
        return f"{counted(len(self), 'image', 'images')}, {labels}{given}{skipped}{caution}"

    def check_labels(self, needed: int = 2) -> None:
        """Raise `InputError` where images have no label, or where they are of fewer than `needed` classes."""
        nameless = [item for item in self.items if item.label is None]
        folders = {PurePosixPath(item.key).parent for item in nameless}
        if len(nameless) == len(self.items) and len(folders) == 1 and (name := folders.pop().name):
            raise InputError(_one_class(name, len(self)))
        if nameless:
            raise InputError(
                f"{len(nameless)} of {counted(len(self), 'image')} "
                f"{'has' if len(self) == 1 else 'have'} no label; give a folder or zip with one folder of images "
                "for each class."
            )
        if len(counts := self.counts) < needed:
            raise InputError(_one_class(next(iter(counts)), len(self)))

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


PARTS = ("train", "validation", "test")
"""What folders can divide the images into."""

SPLITS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("train", "training"), "train"),
        **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
        **dict.fromkeys(("test", "testing"), "test"),
    }
)
"""Folders that divide the images, by their names in lower case."""


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """The part of each name that `SPLITS` has, or that ends with one: "seg_train" where there is also "seg_test".

    Other names are not in it: "bullet_train" may be a class.
    """
    found: dict[str, str] = {}
    ends: dict[str, dict[str, str]] = {}
    for name in names:
        front, _, end = name.casefold().replace("-", "_").rpartition("_")
        if name.casefold() in SPLITS:
            found[name] = SPLITS[name.casefold()]
        elif front and end in SPLITS:
            ends.setdefault(front, {})[name] = SPLITS[end]
    for each in ends.values():
        if len(set(each.values())) > 1:
            found |= each
    return found


def _one_class(name: str, count: int) -> str:
    images = f"all {count} images lie" if count > 1 else "the image lies"
    return f"there is only one class: {images} in the folder {name!r}; add a folder of images for each other class."


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
