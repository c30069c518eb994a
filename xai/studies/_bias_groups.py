"""Groups of a person's own images: from inner folders, a CSV, or measured brightness."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from statistics import median

import numpy as np
from numpy.typing import NDArray

from xai.data._spec import Item
from xai.errors import ImageError, InputError
from xai.images import SUPPORTED_SUFFIXES, load_image
from xai.recolour import lightness
from xai.types import Run

FOLDERS, BRIGHTNESS = "folders", "brightness"

CSV_BYTES = 16 * 1024 * 1024

Mask = NDArray[np.bool_]


def groups_of(
    items: Sequence[Item], how: str, run: Run | None = None, masks: Mapping[str, Mask] | None = None
) -> tuple[tuple[str, ...], str]:
    """(the group of every item, one sentence on how they were made).

    how: "folders" takes the folder inside the class folder ("dog/dark/7.png" is dark); "brightness" measures the mean
    lightness, inside the mask where there is one, and cuts at the median; else the path of a CSV with the columns file
    and group. Raises `InputError` where an item has no group, or all have the same.
    """
    if how == FOLDERS:
        found, told = _by_folder(items), "groups from the folders inside the class folders"
    elif how == BRIGHTNESS:
        found, told = _by_brightness(items, run or Run(), masks or {})
    else:
        found, told = _by_table(items, Path(how).expanduser()), f"groups from {Path(how).name}"
    if len(set(found)) < 2:
        raise InputError(f"all {len(items)} images are of the group {found[0]!r}; an audit compares at least two.")
    return found, told


def _by_folder(items: Sequence[Item]) -> tuple[str, ...]:
    found = []
    for item in items:
        parts = PurePosixPath(item.key).parts
        if len(parts) < 3:
            raise InputError(
                f"{item.key} lies in no group folder; use CLASS/GROUP/image, a CSV, or groups from brightness."
            )
        found.append(parts[-2])
    return tuple(found)


def _by_brightness(items: Sequence[Item], run: Run, masks: Mapping[str, Mask]) -> tuple[tuple[str, ...], str]:
    values = []
    for index, item in enumerate(items):
        image = item.open()
        mask = masks.get(item.key)
        if mask is None and item.open_mask is not None:
            mask = np.asarray(item.open_mask().convert("L")) > 127
        values.append(lightness(image, mask if mask is not None and mask.any() else None))
        run.report(index + 1, len(items), "measuring brightness")
    cut = median(values)
    where = "inside the mask" if masks or items[0].open_mask is not None else "over the whole image"
    return (
        tuple("light" if value > cut else "dark" for value in values),
        f"groups by mean lightness {where}, cut at the median L* {cut:.1f}",
    )


def _by_table(items: Sequence[Item], path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise InputError(f"groups {str(path)!r} is no file; give a CSV, {FOLDERS} or {BRIGHTNESS}.")
    if path.stat().st_size > CSV_BYTES:
        raise InputError(f"{path.name} is larger than {CSV_BYTES // 2**20} MB; is it the right one?")
    return groups_in(path.read_text(encoding="utf-8-sig", errors="replace"), items, path.name)


def groups_in(text: str, items: Sequence[Item], name: str) -> tuple[str, ...]:
    """Groups from a CSV's text: columns file (path inside the data, or file name where that is unique) and group."""
    rows = list(csv.DictReader(text.splitlines()))
    columns = rows[0].keys() if rows else ()
    if not {"file", "group"} <= set(columns):
        raise InputError(f"{name} has the columns {', '.join(map(str, columns)) or 'none'}; it needs file and group.")
    by_key = {(row["file"] or "").strip().replace("\\", "/"): (row["group"] or "").strip() for row in rows}
    bare = [PurePosixPath(item.key).name for item in items]
    found = []
    for item, file in zip(items, bare, strict=True):
        group = by_key.get(item.key) or (by_key.get(file) if bare.count(file) == 1 else None)
        if not group:
            raise InputError(f"{name} has no group for {item.key}; add a line, or leave the image out of the data.")
        found.append(group)
    return tuple(found)


def masks_in(folder: Path, items: Sequence[Item]) -> dict[str, Mask]:
    """Masks by item key: the image at the same place in `folder`, of any image type; above half is inside.

    Images without a mask are left out. Raises `InputError` for a folder that is none, or where no mask fits an image.
    """
    if not folder.is_dir():
        raise InputError(f"masks {str(folder)!r} is no folder; give one laid out like the images.")
    found: dict[str, Mask] = {}
    for item in items:
        stem = folder / PurePosixPath(item.key).with_suffix("")
        path = next((p for p in (stem.with_suffix(end) for end in SUPPORTED_SUFFIXES) if p.is_file()), None)
        if path is None:
            continue
        mask = np.asarray(load_image(path).convert("L")) > 127
        image = item.open()
        if mask.shape != (image.height, image.width):
            raise ImageError(
                f"the mask {path.name} is {mask.shape[1]} x {mask.shape[0]}, its image {image.width} x {image.height}; "
                "give it the same size."
            )
        found[item.key] = mask
    if not found:
        raise InputError(f"masks {str(folder)!r} holds no mask for any image; name each as its image.")
    return found
