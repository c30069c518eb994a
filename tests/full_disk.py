"""A disk that is full: files can be opened below a folder, but nothing can be written into them."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


@contextmanager
def full(folder: Path, allow: int = 0) -> Iterator[None]:
    """Within it every file that is written by `Path.open` below `folder` meets ENOSPC, after the first `allow`."""
    real, opened = Path.open, 0

    def opening(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        nonlocal opened
        file = real(path, mode, *args, **kwargs)
        if not set(mode) & set("wax+") or not path.resolve().is_relative_to(folder.resolve()):
            return file
        opened += 1
        return file if opened <= allow else _Full(file)

    with mock.patch.object(Path, "open", opening):
        yield


class _Full(io.RawIOBase):
    """An open file that takes no byte."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fileno(self) -> int:
        return int(self._file.fileno())

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()
