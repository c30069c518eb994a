"""Groups and masks of a person's own images: from inner folders, a CSV, or measured brightness; masks by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xai.data.call import open_dataset
from xai.data.groups import matched, matched_sentence, read_table
from xai.data.spec import Item, Problem
from xai.errors import InputError, XaiError
from xai.files import user_path
from xai.images.recolour import lightness
from xai.types import Run
from xai.words import counted

FOLDERS, BRIGHTNESS = "folders", "brightness"

Mask = NDArray[np.bool_]


def groups_of(
    items: Sequence[Item], how: str, run: Run | None = None, known: Collection[str] = ()
) -> tuple[tuple[str, ...], str]:
    """(the group of every item, one sentence on how they were made).

    how: "folders" takes the folder inside the class folder ("dog/dark/7.png" is dark); "brightness" measures the mean
    lightness, inside the mask where there is one, and cuts at the median (an image that cannot be read is of the group
    ""); else the path of a CSV with the columns file and group. known: keys that a CSV may name beside the items', as
    where they are a sample. Raises `InputError` where an item has no group, or all have the same.
    """
    if how == FOLDERS:
        found, told = _by_folder(items), "groups from the folders inside the class folders"
    elif how == BRIGHTNESS:
        found, told = _by_brightness(items, run or Run())
    else:
        path = user_path(how)
        if not path.is_file():
            raise InputError(f"groups {str(path)!r} is no file; give a CSV, {FOLDERS} or {BRIGHTNESS}.")
        found, told = groups_in(read_table(path), items, path.name, known)
    kinds = sorted(set(found) - {""})
    if len(kinds) < 2:
        raise InputError(f"all {len(items)} images are of the group {kinds[0]!r}; an audit compares at least two.")
    return found, told


def _by_folder(items: Sequence[Item]) -> tuple[str, ...]:
    level = _class_level(items)
    found = []
    for item in items:
        parts = PurePosixPath(item.key).parts
        if len(parts) < (level or 0) + 3:
            raise InputError(
                f"{item.key} lies in no group folder; use CLASS/GROUP/image, a CSV, or groups from brightness."
            )
        found.append(parts[-2 if level is None else level + 1])
    return tuple(found)


def _class_level(items: Sequence[Item]) -> int | None:
    """The level of the class folders, below folders around everything: the first whose names tell labels apart."""
    labels = [item.label for item in items]
    for level, names in enumerate(zip(*(PurePosixPath(item.key).parts[:-1] for item in items), strict=False)):
        if 1 < len(set(zip(names, labels, strict=True))) == len(set(names)) == len(set(labels)):
            return level
    return None


def _by_brightness(items: Sequence[Item], run: Run) -> tuple[tuple[str, ...], str]:
    values: list[float | None] = []
    for index, item in enumerate(items):
        values.append(_lightness(item))
        run.report(index + 1, len(items), "measuring brightness")
    known = [value for value in values if value is not None]
    if not known:
        raise InputError(f"none of the {counted(len(items), 'image')} can be decoded; the first is {items[0].key}.")
    cut = median(known)
    masks = sum(item.open_mask is not None for item in items)
    where = "over the whole image" if not masks else "inside the mask" if masks == len(items) else "inside masks"
    return (
        tuple("" if value is None else "light" if value > cut else "dark" for value in values),
        f"groups by mean lightness {where}, cut at the median L* {cut:.1f}",
    )


def _lightness(item: Item) -> float | None:
    """Mean L*, inside the mask where there is one that fits; None for an image that cannot be read."""
    try:
        image = item.open()
    except XaiError:
        return None
    try:
        mask = mask_of(item, image)
    except XaiError:  # listed when the image is taken
        mask = None
    return lightness(image, mask)


def groups_in(
    table: Mapping[str, str], items: Sequence[Item], name: str, known: Collection[str] = ()
) -> tuple[tuple[str, ...], str]:
    """(the group of every item, one sentence on the lines that matched) from a table; see `xai.data.groups.matched`.

    known: keys that the table may name beside the items'. Raises `InputError` for an image without a group, and where
    two lines contradict each other.
    """
    keys = {*(item.key for item in items), *known}
    lines = matched(table, keys, name)
    named = Counter(PurePosixPath(file).name for file in table)
    bare = Counter(PurePosixPath(key).name for key in keys)
    found = []
    for item in items:
        group = table.get(lines.get(item.key, ""))
        if not group:
            file = PurePosixPath(item.key).name
            several = bare[file] > 1 and named[file] > 0 and item.key not in lines
            fix = f"{bare[file]} images are called {file}: give its path" if several else "add a line"
            raise InputError(f"{name} has no group for {item.key}; {fix}, or leave the image out of the data.")
        found.append(group)
    return tuple(found), matched_sentence(table, lines, name)


def with_masks(
    items: Sequence[Item], place: str | Path, known: Collection[str] = ()
) -> tuple[tuple[Item, ...], str, tuple[Problem, ...]]:
    """(the items, each with its mask; one sentence; the masks that fit none) from the images in a folder or a zip.

    known: keys of the data, of which the items may be a sample; masks of the others are no misfits.

    A mask belongs to the image of the same path without the suffix, else to the only one whose path ends with its own,
    or the other way round: so files without folders do where names are unique. Raises `InputError` where none fits.
    """
    path = user_path(str(place))
    if not path.exists():
        raise InputError(f"masks {str(place)!r} does not exist; give a folder or a zip of masks named as the images.")
    own = {item.key for item in items}
    keys = [*(item.key for item in items), *(key for key in known if key not in own)]
    by_name = _stems(keys)
    found, problems = list(items), []
    taken: set[int] = set()
    masks = open_dataset(path, "unlabelled")
    whole = {PurePosixPath(item.key).with_suffix("") for item in items}
    for mask in sorted(masks.items, key=lambda each: PurePosixPath(each.key).with_suffix("") not in whole):
        fits = _fitting(mask.key, keys, by_name)
        if fits and min(fits) >= len(items):
            continue
        reason = ""
        if len(fits) != 1:
            reason = f"{len(fits)} images are named so; lay masks out like the images" if fits else "no image's name"
        elif fits[0] in taken:
            reason = f"{items[fits[0]].key} has a mask already"
        if reason:
            problems.append(Problem(mask.key, f"mask left out: {reason}"))
            continue
        taken.add(fits[0])
        found[fits[0]] = replace(items[fits[0]], open_mask=mask.open)
    if not taken:
        raise InputError(f"masks {str(place)!r} holds no mask for any image; name each as its image.")
    return tuple(found), f"masks for {len(taken)} of {counted(len(items), 'image')}", (*problems, *masks.problems)


def _stems(keys: Sequence[str]) -> dict[str, list[int]]:
    """Places of the keys by their last part without its suffix."""
    found: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(PurePosixPath(key).stem, []).append(index)
    return found


def _fitting(key: str, keys: Sequence[str], by_name: Mapping[str, list[int]]) -> list[int]:
    """Places of the keys that a mask of that key may belong to."""
    own = PurePosixPath(key).with_suffix("").parts
    named = [(place, PurePosixPath(keys[place]).with_suffix("").parts) for place in by_name.get(own[-1], [])]
    same = [place for place, parts in named if parts == own]
    return same or [place for place, parts in named if _ends(parts, own) or _ends(own, parts)]


def _ends(parts: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return parts[-len(end) :] == end


def mask_of(item: Item, image: Image.Image) -> Mask | None:
    """The item's mask (H,W), above half is inside; None where it has none.

    Raises `InputError` for another size than the image's and for one that is empty, `ImageError` where it cannot be
    read.
    """
    if item.open_mask is None:
        return None
    mask: Mask = np.asarray(item.open_mask().convert("L")) > 127
    if mask.shape != (image.height, image.width):
        raise InputError(
            f"its mask is {mask.shape[1]} x {mask.shape[0]}, the image {image.width} x {image.height}; give it the "
            "same size."
        )
    if not mask.any():
        raise InputError("its mask is empty; paint what is to be recoloured white.")
    return mask
