"""Files that people send to the pages, kept in the cache folder within a bound.

A run and a command name such a file by its path, so it stays as long as a run in the folder of runs names it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xai.files import safe_name, sha256, write_atomic
from xai.settings import cache_dir, runs_dir, upload_bounds

IN_USE = 3600.0
"""Seconds for which a file stays after it was used last, whatever the bound: its sender may still look at it."""

_FOLDERS = ("uploads", "weights")


def keep_upload(data: bytes, name: str = "", folder: str = "uploads") -> Path:
    """Put a file that was sent into the cache folder, and return its path.

    It lies under its digest: `folder`/DIGEST/`name`, or DIGEST.zip without a name. Others that were used longest ago go
    while they are over `upload_bounds()`, but none that a run names or that was used within `IN_USE` seconds. Raises
    `StorageError` where the disk is full or the folder cannot be written; then nothing of the file is left.
    """
    digest = sha256(data)
    place = cache_dir() / folder
    path = place / digest[:16] / safe_name(name) if name else place / f"{digest}.zip"
    if not path.is_file():
        prune(len(data))  # first, so that there is room
        write_atomic(path, data)
    touch(path)
    return path


def touch(path: Path) -> None:
    """Note that a file was used now, if it is one that was sent. Its time of change stays: caches go by it."""
    if any(path.is_relative_to(cache_dir() / each) for each in _FOLDERS):
        with suppress(OSError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def prune(coming: int = 0) -> int:
    """Delete what is over the bounds when `coming` bytes more arrive; how many bytes went."""
    most, age = upload_bounds()
    now = time.time()
    kept = sorted(_kept(), key=lambda each: each[1])
    total, gone = sum(size for _, _, size in kept) + coming, 0
    named: list[bytes] | None = None
    for path, used, size in kept:
        if now - used < IN_USE or (total <= most and now - used < age):
            continue
        named = list(_runs_texts()) if named is None else named
        if any(_digest(path).encode() in text for text in named):
            continue
        with suppress(OSError):
            path.unlink()
            total, gone = total - size, gone + size
            if path.parent.name not in _FOLDERS:
                path.parent.rmdir()
    return gone


def _kept() -> Iterator[tuple[Path, float, int]]:
    """(path, when it was used last, bytes) of each file that was sent."""
    for folder in _FOLDERS:
        for path in (*(cache_dir() / folder).glob("*.zip"), *(cache_dir() / folder).glob("*/*")):
            with suppress(OSError):  # another process may prune too
                about = path.stat()
                yield path, max(about.st_atime, about.st_mtime), about.st_size


def _digest(path: Path) -> str:
    """What names the file in a command: the digest in its path."""
    return path.stem if path.parent.name in _FOLDERS else path.parent.name


def _runs_texts() -> Iterator[bytes]:
    """What the runs say of themselves: their settings and commands."""
    for name in ("config.json", "launch.json"):
        for path in runs_dir().glob(f"*/{name}"):
            with suppress(OSError):
                yield path.read_bytes()
