"""IMAGE arguments: files, folders, globs and samples, as a list that is the same on every system."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xai.errors import InputError
from xai.files import user_path

if TYPE_CHECKING:
    from PIL import Image

HELP = (
    "before the options: image files, folders (with the folders in them), quoted globs such as 'photos/**/*.jpg', "
    "or samples: sample:NAME for a shipped set or photograph, sample:NAME/FILE for one image of a set"
)


@dataclass(frozen=True)
class Picture:
    """An image that a command was asked for. source: how to ask for it alone. open: (picture, SHA-256 of its file)."""

    name: str
    source: str
    open: Callable[[], tuple[Image.Image, str]]


@dataclass(frozen=True)
class _File:
    path: Path

    def __call__(self) -> tuple[Image.Image, str]:
        from xai.files import sha256
        from xai.images.decode import load_image

        image = load_image(self.path)
        return image, sha256(self.path.read_bytes())


@dataclass(frozen=True)
class _Decoded:
    """A sample that need not be a file: its SHA-256 is that of its RGB pixels."""

    item: Callable[[], Image.Image]

    def __call__(self) -> tuple[Image.Image, str]:
        from xai.files import sha256

        image = self.item()
        return image, sha256(image.convert("RGB").tobytes())


def find_pictures(words: Sequence[str], skip: Path | None = None) -> tuple[list[Picture], list[tuple[str, str]]]:
    """The images that `words` mean, in order and each once, and (word, sentence) for words that mean none.

    skip: a folder (the output's) that is left out when folders and globs are searched. What is wrong with a file
    comes out when it is opened.
    """
    found: dict[str, Picture] = {}
    bad: list[tuple[str, str]] = []
    left_out = skip.resolve() if skip else None
    for word in words:
        try:
            pictures = list(_samples(word) if word.startswith("sample:") else _files(word, left_out, bad))
        except InputError as error:
            bad.append((word, str(error)))
            continue
        for key, picture in pictures:
            found.setdefault(key, picture)
    return list(found.values()), bad


def _files(word: str, left_out: Path | None, bad: list[tuple[str, str]]) -> Iterator[tuple[str, Picture]]:
    path = user_path(word)
    if path.is_dir():
        left_out, before = _below(path, left_out, word), len(bad)
        paths = [each for each in _walk(path, bad) if not _inside(each, left_out)]
        if not paths and len(bad) == before:
            raise InputError(f"{word} holds no image; give a folder with PNG, JPEG or other pictures.")
    elif not path.exists() and glob.has_magic(word):
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
        left_out = _below(Path(*fixed), left_out, word)
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (a Path cannot glob an absolute pattern)
        paths = [Path(name) for name in names if Path(name).is_file() and not _inside(Path(name), left_out)]
        if not paths:
            raise InputError(f"no file fits {word}; check the pattern.")
    elif not path.exists():
        raise InputError(f"{word} does not exist; check the path.")
    else:
        paths = [path]
    for each in paths:
        source = f"./{each}" if str(each).startswith("-") else str(each)
        yield str(each.resolve()), Picture(each.name, source, _File(each))


def _below(folder: Path, left_out: Path | None, word: str) -> Path | None:
    """`left_out` where it lies in `folder`; raises `InputError` where it is the folder itself."""
    if left_out is None or not left_out.is_relative_to(folder.resolve()):
        return None
    if left_out == folder.resolve():
        raise InputError(f"{word} is in the folder of --out, where the results go; choose another --out.")
    return left_out


def _walk(folder: Path, bad: list[tuple[str, str]]) -> Iterator[Path]:
    """Image files by their endings, sorted; hidden files and folders and links to folders are passed by.

    A folder that may not be read goes to `bad`.
    """
    from xai.images.decode import SUPPORTED_SUFFIXES

    def locked(error: OSError) -> None:
        bad.append((error.filename, f"{error.filename} cannot be read: {error.strerror}; check its permissions."))

    for where, folders, files in os.walk(folder, onerror=locked):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUPPORTED_SUFFIXES):
                yield Path(where) / name


def _inside(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder)


def _samples(word: str) -> Iterator[tuple[str, Picture]]:
    """`sample:SET`, `sample:SET?name=value`, `sample:SET/KEY`, or `sample:NAME` for a photograph by its file name."""
    from xai.data import list_samples, open_dataset
    from xai.data.folder import FileImage
    from xai.data.samples import list_samples as list_photographs

    name, _, key = word.removeprefix("sample:").partition("/")
    if name.partition("?")[0] not in list_samples() and not key:
        stems = {photograph.name: photograph.path for photograph in list_photographs()}
        if name in stems:
            yield str(stems[name].resolve()), Picture(stems[name].name, word, _File(stems[name]))
            return
        known = ", ".join(f"sample:{each}" for each in (*list_samples(), *stems))
        raise InputError(f"sample {name!r} is not known; choose from {known}.")
    items = [item for item in open_dataset(f"sample:{name}").items if key in ("", item.key)]
    if not items:
        raise InputError(f"sample:{name} has no image {key!r}; `sample:{name}` takes all of it.")
    for item in items:
        source = f"sample:{name}/{item.key}"
        opener = _File(item.open.path) if isinstance(item.open, FileImage) else _Decoded(item.open)
        yield source, Picture(item.key, source, opener)
