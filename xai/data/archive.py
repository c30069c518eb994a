"""A zip of images, read straight out of it: nothing is unpacked to the disk."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from xai.data.folder import TABLE_BYTES, size_problem
from xai.data.layout import TABLES, hidden, read_layout
from xai.data.spec import DataSet, Item, Problem
from xai.errors import ImageError, InputError
from xai.images.decode import SUPPORTED_SUFFIXES, load_image

MAX_MEMBERS = 200_000
MAX_LISTED = 2 * MAX_MEMBERS
"""Entries of a zip's directory, folders among them: each takes memory before a single file can be looked at."""
MAX_TOTAL_BYTES = 64 * 2**30
MAX_RATIO = 200
"""A member that unpacks to more than this many times its packed size, and to more than 1 MB, is a bomb."""

DRIVE = re.compile("[A-Za-z]:")
"""The first part of a path that begins with a drive; any other name may hold a colon, as a class's can."""

_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


class _Entries(list[zipfile.ZipInfo]):
    """What the directory of a zip lists, refused while it is read: a small zip can list millions."""

    def append(self, info: zipfile.ZipInfo) -> None:
        """Raises `InputError` at the entry that is too many."""
        if len(self) == MAX_LISTED:
            raise InputError(f"it lists more than {MAX_LISTED} files and folders; split it, or give a folder.")
        super().append(info)


class _Zip(zipfile.ZipFile):
    """A zip whose directory is read no further than `MAX_LISTED`, whatever its own count says."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, _Entries() if name == "filelist" else value)


@dataclass(frozen=True)
class ZipImage:
    """Opens one image inside a zip; picklable, so a worker process opens the zip itself."""

    archive: Path
    member: str

    def __call__(self) -> Image.Image:
        """The image; raises `ImageError` where it cannot be read."""
        try:
            modified = self.archive.stat().st_mtime_ns
            # One handle a process: after a fork, parent and child would move the same file position.
            data = _opened(self.archive, modified, os.getpid()).read(self.member)
        except (*_BROKEN, KeyError) as error:
            raise ImageError(f"{self.member} cannot be read out of {self.archive.name}: {error}.") from error
        return load_image(data)


@lru_cache(maxsize=4)
def _opened(path: Path, modified: int, process: int) -> zipfile.ZipFile:
    del modified, process
    return _Zip(path)


def open_archive(path: Path, layout: str = "auto") -> DataSet:
    """The images inside the zip at `path`, labels as `xai.data.layout.read_layout` says.

    Members with a path that leads outside, links, encrypted members, bombs, and empty or oversized files are left out
    and listed. Raises `InputError` for what is no zip, has more than `MAX_MEMBERS` members or `MAX_TOTAL_BYTES`, or
    holds no image.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; check the path.")
    try:
        with _Zip(path) as archive:
            return _read(archive, path, layout)
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise InputError(f"{path.name}: {error}") from error
        raise InputError(
            f"{path.name} cannot be read as a zip ({error}); give a folder, or a zip of images that is whole."
        ) from error


def _read(archive: zipfile.ZipFile, path: Path, layout: str) -> DataSet:
    members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) > MAX_MEMBERS:
        raise InputError(f"it has {len(members)} files, more than {MAX_MEMBERS}; split it, or give a folder.")
    total = sum(info.file_size for info in members)
    if total > MAX_TOTAL_BYTES:
        raise InputError(f"it unpacks to {total / 2**30:.0f} GB, more than {MAX_TOTAL_BYTES // 2**30} GB.")
    kept: dict[str, zipfile.ZipInfo] = {}
    problems: list[Problem] = []
    for info in members:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        key = name.as_posix()
        reason = "twice in the zip" if key in kept else member_problem(info, name)
        if reason:
            problems.append(Problem(key, reason))
        else:
            kept[key] = info
    found = read_layout(list(kept), lambda name: _table(archive, kept, name), layout)
    items = tuple(
        Item(key, label, ZipImage(path, kept[key].filename), kept[key].file_size, part=part)
        for key, label, part in zip(found.paths, found.labels, found.parts, strict=True)
    )
    return DataSet(path.stem, found.name, items, found.classes, (*found.problems, *problems))


def member_problem(info: zipfile.ZipInfo, name: PurePosixPath) -> str:
    """ "" for a member that may be read; otherwise why it is left out."""
    if not name.parts:
        return "it has no name"
    if name.is_absolute() or ".." in name.parts or DRIVE.fullmatch(name.parts[0]):
        return "its path leads outside the zip"
    if hidden(name):  # listed with its like, whatever it holds
        return ""
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link"
    if info.flag_bits & 0x1:
        return "encrypted"
    if info.file_size > 2**20 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to {info.file_size // max(info.compress_size, 1)} times its size"
    return size_problem(info.file_size) if name.suffix.lower() in SUPPORTED_SUFFIXES else ""


def _table(archive: zipfile.ZipFile, kept: dict[str, zipfile.ZipInfo], name: str) -> str | None:
    """The table called `name` that lies nearest to the top, of at most 16 MB; None if there is none."""
    places = sorted((key for key in kept if PurePosixPath(key).name == name), key=lambda key: key.count("/"))
    if name not in TABLES or not places or kept[places[0]].file_size > TABLE_BYTES:
        return None
    return archive.read(kept[places[0]]).decode("utf-8", errors="replace")
