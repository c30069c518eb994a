"""Files that are written whole or not at all, and names that are safe to write."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Container, Mapping
from pathlib import Path

from xai.errors import InputError, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk that is full, or of a person's share of it."""

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


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path`, making its folder: readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("xb") as file:
            file.write(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put each of `files` (path in `folder` -> bytes) where it belongs by `write_atomic`; raises `StorageError`."""
    for name, data in files.items():
        try:
            write_atomic(folder / name, data)
        except OSError as error:
            raise storage_error(error, folder / name) from error


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
