"""Files that are written whole or not at all, and names that are safe to write."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Container
from pathlib import Path

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


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
