"""`open_dataset`: a folder, a zip, or a shipped sample by name."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, get_type_hints

from xai.data.archive import open_archive
from xai.data.folder import open_folder
from xai.data.spec import SAMPLES, DataSet, SampleSpec
from xai.errors import InputError
from xai.files import user_path
from xai.params import parameters, parse_value, type_text
from xai.public import public


def list_samples() -> tuple[str, ...]:
    """Names that `sample:NAME` takes."""
    return SAMPLES.names()


@public
def open_dataset(data: str | Path, layout: str = "auto") -> DataSet:
    """The data set at `data`: a folder, a zip, or `sample:NAME`.

    A generated sample takes parameters as a link does: `sample:brain?seed=3`. layout: "auto" reads labels from the
    names of the folders; one of `LAYOUTS` insists. Raises `InputError` for what does not exist or holds no image, or a
    parameter that a sample has not, and `UnknownNameError` for a sample that there is not.
    """
    text = str(data)
    if text.startswith("sample:"):
        name, _, options = text.removeprefix("sample:").partition("?")
        return _open_sample(SAMPLES.get(name), options)
    path = user_path(text)
    if text and path.is_dir():  # Path("") is the folder that one is in
        return open_folder(path, layout)
    if path.is_file():
        return open_archive(path, layout)
    samples = ", ".join(f"sample:{name}" for name in list_samples())
    raise InputError(f"data {text!r} does not exist; give a folder, a zip, or one of {samples}.")


def dataset_stamp(data: str | Path) -> tuple[Hashable, ...]:
    """What changes when the folder or zip at `data` does: files come and go; () for a sample and for what is not there.

    For a folder the times of it and all folders in it, which the system sets when a name is added, removed or replaced.
    """
    try:
        path = user_path(str(data))
        if path.is_dir():
            return tuple((where, Path(where).stat().st_mtime_ns) for where, _, _ in os.walk(path))
        about = path.stat()
    except (OSError, InputError):
        return ()
    return about.st_size, about.st_mtime_ns


def _open_sample(spec: SampleSpec, options: str) -> DataSet:
    """The sample with the parameters that `options` ("seed=3&size=64") sets."""
    names = [each.name for each in parameters(spec.params)]
    chosen: dict[str, Any] = {}
    for word in filter(None, options.split("&")):
        name, _, text = word.partition("=")
        if name not in names:
            known = f"it has {', '.join(names)}" if names else "it has none"
            raise InputError(f"sample {spec.name!r} has no parameter {name!r}; {known}.")
        hint = get_type_hints(spec.params)[name]
        try:
            chosen[name] = parse_value(hint, text)
        except ValueError:
            raise InputError(f"sample {spec.name!r}: {name} is {text!r}; give {type_text(hint)}.") from None
    return spec.open() if spec.params is None else spec.open(spec.params(**chosen))
