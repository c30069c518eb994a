"""`open_dataset`: a folder, a zip, or a shipped sample by name."""

from __future__ import annotations

from pathlib import Path

from xai.data._spec import SAMPLES, DataSet
from xai.data.archive import open_archive
from xai.data.folder import open_folder
from xai.errors import InputError


def list_samples() -> tuple[str, ...]:
    """Names that `sample:NAME` takes."""
    return SAMPLES.names()


def open_dataset(data: str | Path, layout: str = "auto") -> DataSet:
    """The data set at `data`: a folder, a zip, or `sample:NAME`.

    layout: "auto" reads labels from the names of the folders; one of `LAYOUTS` insists. Raises `InputError` for what
    does not exist or holds no image, and `UnknownNameError` for a sample that there is not.
    """
    text = str(data)
    if text.startswith("sample:"):
        return SAMPLES.get(text.removeprefix("sample:")).open()
    path = Path(text).expanduser()
    if path.is_dir():
        return open_folder(path, layout)
    if path.is_file():
        return open_archive(path, layout)
    samples = ", ".join(f"sample:{name}" for name in list_samples())
    raise InputError(f"data {text!r} does not exist; give a folder, a zip, or one of {samples}.")
