"""Files that are written whole or not at all, and names that are safe to write."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import tempfile
import unicodedata
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xai.errors import InputError, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk that is full, or of a person's share of it."""

JSON_BYTES = 64 * 1024 * 1024
"""Largest JSON file that is read."""

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def user_path(text: str) -> Path:
    """A path as a person wrote it, with "~" spelt out; raises `InputError` for one that no file can have."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise InputError(f"{text} cannot be read ({reason}); check the path.") from error
    return path


def read_json(path: Path, most: int = JSON_BYTES) -> Any:
    """What the JSON file at `path` holds, of at most `most` bytes.

    Raises `OSError` where it cannot be read, and `ValueError` where it is too large or is no JSON, as where it
    holds NaN or Infinity.
    """
    if path.stat().st_size > most:
        raise ValueError(f"it is larger than {most / 2**20:.0f} MB")
    return parse_json(path.read_bytes(), strict=True)


def parse_json(data: str | bytes, strict: bool = False) -> Any:
    """`json.loads`, which raises `ValueError` also for what is nested too deeply; strict: also for NaN and Infinity."""
    try:
        return json.loads(data, parse_constant=_no_number if strict else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path`, making its folder: readers see the old file or the new one, never half of it.

    Raises `StorageError` where the disk is full or the folder cannot be written; what was made for it is then gone.
    """
    new = [each for each in path.parents if not each.exists()]
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(data)
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        for each in new:  # the innermost first; one that somebody uses meanwhile is not empty
            with suppress(OSError):
                each.rmdir()
        if isinstance(error, OSError):
            raise storage_error(error, path) from error
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a moment; raises `StorageError` where it cannot be made."""
    try:
        made = tempfile.TemporaryDirectory()
    except OSError as error:
        raise storage_error(error, Path(tempfile.gettempdir())) from error
    with made as folder:
        yield Path(folder)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put each of `files` (path in `folder` -> bytes) where it belongs by `write_atomic`; raises `StorageError`."""
    for name, data in files.items():
        write_atomic(folder / name, data)


def sync_folder(folder: Path) -> None:
    """Have the system write down what the folder lists, so that a power cut does not undo a rename."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageError:
    """One sentence for a file at `path` that could not be written."""
    if error.errno in FULL:
        return StorageError(f"the disk of {path} is full; free some space, and go on.")
    return StorageError(f"{path} cannot be written ({error.strerror or error}); check the folder and its permissions.")


def sha256(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def safe_name(text: str, taken: Container[str] = ()) -> str:
    """A file name made of `text`: letters, digits, ".", "_", "+" and "-", at most 120 bytes, fit for every system.

    Never empty, hidden, a device name or a path; where it is in `taken` (folded names), "-2", "-3", ... follows.
    """
    name = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFKC", text)).strip(".-")
    name = name.encode()[:120].decode(errors="ignore").rstrip(".-")
    if not name or name.split(".")[0].casefold() in _RESERVED:
        name = f"{name or 'image'}_"
    unique, count = name, 2
    while unique.casefold() in taken:
        unique, count = f"{name}-{count}", count + 1
    return unique
