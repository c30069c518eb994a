"""Checkpoints: written whole, checked by SHA-256, with the one before kept.

Beside `last.pt` lie `last.previous.pt`, the one before, and `last.pt.sha256`, the digests of both as `sha256sum -c`
reads them. The digests are written before the files move, so that a process killed at any point leaves files that are
known to be whole. Nothing pickled but tensors and plain containers: `torch.load(weights_only=True)` reads it all.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from xai.errors import InputError, WeightsError
from xai.files import storage_error, sync_folder, write_atomic

_PLAIN = (Tensor, bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
_GROUPS = (list, tuple, set)
_DICTS = (dict, OrderedDict, Counter)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What `load_checkpoint` found: the state, the file that it is from, and a sentence where that is the older one."""

    state: dict[str, Any]
    path: Path
    note: str = ""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> str:
    """Put `state` at `path`, whole or not at all, and keep the one that was there; the SHA-256 of the file.

    state: tensors, numbers, text and None, in dicts, lists, tuples and sets. Raises `TypeError`, naming the place, for
    what could not be read back, and `StorageError` where the disk is full or the folder cannot be written: the
    checkpoints that were there stay.
    """
    _check(dict(state), "state")
    part = path.parent / f".{path.name}.part"  # one name: what a killed process left is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            writer = _Hashing(file)
            _save(dict(state), writer)
            file.flush()
            os.fsync(file.fileno())
        digest = writer.hash.hexdigest()
        known = _digests(path)
        lines = f"{digest}  {path.name}\n"
        if path.is_file() and known:
            lines += f"{known[0]}  {previous(path).name}\n"
        write_atomic(_digest_path(path), lines.encode())
        if path.is_file():
            path.replace(previous(path))
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, path) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return digest


def load_checkpoint(path: Path) -> Loaded:
    """The checkpoint at `path`, its tensors on the CPU; the one before it, with a note, where the newest is damaged.

    Raises `InputError` where there is none, and `WeightsError` where those that there are are damaged.
    """
    faults: list[str] = []
    for each in (path, previous(path)):
        state, fault = _read(each, _digests(path))
        if state is not None:
            note = f"{faults[0]}; going on from the one before it, {each.name}." if faults else ""
            return Loaded(state, each, note)
        faults.append(fault)
    if not has_checkpoint(path):
        raise InputError(f"{path.parent} has no checkpoint {path.name}; start from the beginning.")
    raise WeightsError(
        f"no checkpoint of {path.parent} can be used: {'; '.join(faults)}. Begin anew in another folder (--out)."
    )


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint to go on from, or the one before it."""
    return path.is_file() or previous(path).is_file()


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


class _Hashing:
    """A file that is hashed while it is written, and remembers why it could not be."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash = file, hashlib.sha256()
        self.problem: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            count = self.file.write(data)
        except OSError as error:
            self.problem = error
            raise
        self.hash.update(data)
        return count

    def flush(self) -> None:
        self.file.flush()


def _save(state: dict[str, Any], writer: _Hashing) -> None:
    try:
        torch.save(state, writer)  # type: ignore[arg-type]  # write and flush are all it asks for
    except Exception as error:  # its archive then cannot be closed either, and says that instead
        raise (writer.problem or error) from None


def _read(path: Path, known: list[str]) -> tuple[dict[str, Any] | None, str]:
    """(state, "") or (None, what is wrong with the file)."""
    try:
        with path.open("rb") as file:
            if known and hashlib.file_digest(file, "sha256").hexdigest() not in known:
                return None, f"{path.name} is damaged (its SHA-256 is another)"
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True), ""
    except FileNotFoundError:
        return None, f"{path.name} is missing"
    except Exception as error:  # torch raises of every kind for a file that is no checkpoint
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return None, f"{path.name} cannot be read ({reason.rstrip('.')})"


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    """The digests beside the checkpoint, the newest first; none where there are none."""
    try:
        text = _digest_path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return []
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _check(value: Any, place: str) -> None:
    """Raise `TypeError` for what `torch.load(weights_only=True)` would refuse, so that it is seen before it matters."""
    if type(value) in _DICTS:
        for key, each in value.items():
            _check(each, f"{place}[{key!r}]")
    elif type(value) in _GROUPS:
        for index, each in enumerate(value):
            _check(each, f"{place}[{index}]")
    elif not (isinstance(value, Tensor) or type(value) in _PLAIN):
        raise TypeError(
            f"{place} is a {type(value).__name__}, which a checkpoint cannot hold; give a tensor, a number or text."
        )
