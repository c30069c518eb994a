"""A folder of images, read in place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xai.data.layout import TABLES, read_layout
from xai.data.spec import DataSet, Item, Problem
from xai.errors import ImageError, InputError
from xai.images.decode import load_image
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
    """The images of `folder` and the folders in it, labels as `xai.data.layout.read_layout` says.

    Links to folders are not followed; empty and oversized files, and what may not be read, are left out and listed.
    Raises `InputError` where it is no folder or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check the path.")
    sizes: dict[str, int] = {}
    paths: dict[str, Path] = {}
    problems: list[Problem] = []

    def locked(error: OSError) -> None:
        problems.append(_unread(Path(error.filename), folder, error))

    for where, folders, files in os.walk(folder, onerror=locked):
        base = Path(where)
        folders.sort()
        for name in folders:
            if (base / name).is_symlink():
                problems.append(Problem(_key(base / name, folder), "a link to a folder"))
        for name in files:
            key = _key(base / name, folder)
            if key in paths:
                problems.append(Problem(key, "another file's name is written the same; rename one"))
                continue
            try:
                sizes[key] = (base / name).stat().st_size
                paths[key] = base / name
            except OSError as error:
                problems.append(_unread(base / name, folder, error))
    if problems and not sizes:
        raise InputError(f"{folder} {problems[0].reason}; check its permissions.")
    try:
        found = read_layout(list(sizes), lambda name: _table(folder, name), layout)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    items = []
    for key, label, part in zip(found.paths, found.labels, found.parts, strict=True):
        reason = size_problem(sizes[key])
        if reason:
            problems.append(Problem(key, reason))
        else:
            items.append(Item(key, label, FileImage(paths[key]), sizes[key], part=part))
    if not items:
        raise InputError(f"{folder}: every image in it is empty or too large.")
    name = printable(folder.resolve().name)
    return DataSet(name, found.name, tuple(items), found.classes, (*found.problems, *problems))


def printable(name: str) -> str:
    """A file's name as text that every file format and page can hold: bytes that are no UTF-8 are written "\\xe9"."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _key(path: Path, folder: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _unread(path: Path, folder: Path, error: OSError) -> Problem:
    return Problem(_key(path, folder), f"cannot be read: {error.strerror or error}")


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
