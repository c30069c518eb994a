"""A folder of images, read in place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xai.data._layout import TABLES, read_layout
from xai.data._spec import DataSet, Item, Problem
from xai.errors import ImageError, InputError
from xai.images import load_image
from xai.settings import MAX_UPLOAD_BYTES

TABLE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class FileImage:
    """Opens one image file."""

    path: Path

    def __call__(self) -> Image.Image:
        """The image; raises `ImageError` where it cannot be read."""
        try:
            return load_image(self.path)
        except OSError as error:
            raise ImageError(f"{self.path.name} cannot be read: {error.strerror or error}.") from error


def open_folder(folder: Path, layout: str = "auto") -> DataSet:
    """The images of `folder` and the folders in it, labels as `xai.data._layout.read_layout` says.

    Links to folders are not followed; empty and oversized files are left out and listed.
    Raises `InputError` where it is no folder or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check the path.")
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    for where, folders, files in os.walk(folder):
        base = Path(where)
        folders.sort()
        for name in folders:
            if (base / name).is_symlink():
                problems.append(Problem((base / name).relative_to(folder).as_posix(), "a link to a folder"))
        for name in files:
            key = (base / name).relative_to(folder).as_posix()
            try:
                sizes[key] = (base / name).stat().st_size
            except OSError as error:
                problems.append(Problem(key, f"cannot be read: {error.strerror or error}"))
    try:
        found = read_layout(list(sizes), lambda name: _table(folder, name), layout)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    items = []
    for key, label in zip(found.paths, found.labels, strict=True):
        reason = size_problem(sizes[key])
        if reason:
            problems.append(Problem(key, reason))
        else:
            items.append(Item(key, label, FileImage(folder / key), sizes[key]))
    if not items:
        raise InputError(f"{folder}: every image in it is empty or too large.")
    return DataSet(folder.name, found.name, tuple(items), found.classes, (*found.problems, *problems))


def size_problem(size: int) -> str:
    """ "" for a file size that is fine."""
    if size == 0:
        return "empty file"
    if size > MAX_UPLOAD_BYTES:
        return f"{size / 2**20:.0f} MB, more than {MAX_UPLOAD_BYTES // 2**20} MB"
    return ""


def _table(folder: Path, name: str) -> str | None:
    """A table in the folder or beside it (Kaggle keeps LOC_*.txt outside), of at most 16 MB; None if not there."""
    for place in (folder / name, folder.resolve().parent / name):
        if name in TABLES and place.is_file() and place.stat().st_size <= TABLE_BYTES:
            return place.read_text(encoding="utf-8", errors="replace")
    return None
